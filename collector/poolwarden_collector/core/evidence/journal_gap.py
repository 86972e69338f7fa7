"""Another collector beside this one, or a journal that is older than what its agents remember.

Rules
-----
* Epochs and terms decide, and agents keep the highest of both durably. Nothing here asks a clock.
* One host's agent is one voice, in its own pool. Whatever it claims (the door has bounded it, bounds.py) changes
  nothing in any other pool; another collector or a lost past is noticed by each pool whose hosts know of it.
* A higher epoch heard after the start-up quiet time is another collector that is obeyed there: this one stands down in
  that pool, until a person restarts it or says that it is to stay (``acknowledge``). It goes on to look and to tell. So
  does one that wakes up from a suspension.
* Whatever agents know and this journal does not (a higher epoch or term while this collector is still quiet, the result
  of a promotion that is not in it) means that the journal is not the newest: restored from a backup, or lost. Term and
  epoch are raised above what is heard, so that nothing which was on its way in that lost past is obeyed; the quiet
  time begins anew, and longer, so that everybody has spoken before anything is decided.
* As long as one host alone says so it may be wrong, or lie: nothing is done by itself in that pool before another of
  its hosts says the same or a person acknowledges it. What it claims beyond that meanwhile raises nothing.
* A host raises the epoch once in a run of the collector: who claims a higher one again is obeyed by another one.
* An open failover from before such a gap has a lower term now and ends without a promotion (steps.py); it is never
  resumed.
* What this journal has forgotten to owe is owed again where the hosts themselves prove it: a host that reports a
  tombstone, and the old master that was succeeded by a promotion of Poolwarden's own that the new master reports.
"""

from __future__ import annotations

from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.effects import RaiseEpoch, StandDown
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import name
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ID_LEAP = 1 << 24  # as far as a host may be ahead of the pool's term (shell/agents/messages/bounds.py)


def compare(d: Transaction, hello: Hello) -> None:
    """Hold what a host's agent has stored against this collector's own numbers and journal."""
    obeyed = hello.highest_epoch > d.site.epoch
    if obeyed and not _may_raise(d, hello.host):
        _stand_down(d, hello.host, hello.highest_epoch)
        return
    _corroborated(d, hello)
    heard, why = _gap(d, hello)
    if not why and obeyed:
        why = f"{d.name(hello.host)} has obeyed epoch {name(hello.highest_epoch)}, this one is {name(d.site.epoch)}"
    if why:
        _restored(d, hello.host, why, heard, hello.highest_epoch)
    if obeyed:
        _raise(d, hello.host, hello.highest_epoch)


def _gap(d: Snapshot, hello: Hello) -> tuple[int, str]:
    """The highest term that this host knows and the journal does not, and how it is known; else the record's own."""
    heard, who = _highest_term(hello), d.name(hello.host)
    if heard > d.record.term:
        return heard, f"{who} has stored term {heard}, this journal ends at {d.record.term}"
    for result in hello.last_results:
        if term := _unknown(d, result):
            return max(heard, term), f"{who} has carried out {result.order_id}, which this journal does not know"
    return d.record.term, ""


def _highest_term(hello: Hello) -> int:
    marks = [hello.tombstone.term if hello.tombstone else 0, hello.hold.term if hello.hold else 0]
    return max(hello.highest_term, *marks)


def refused(d: Transaction, host: HostId, result: OrderOutcome) -> None:
    """An agent's refusal tells the same: it obeys a higher epoch, or has stored a higher term."""
    if result.reason == "stale-epoch" and result.epoch > d.site.epoch:
        if _may_raise(d, host):
            _raise(d, host, result.epoch)
        else:
            _stand_down(d, host, result.epoch)
    elif result.reason == "stale-term" and result.term > d.record.term:
        text = f"{d.name(host)} has stored term {result.term}, this journal ends at {d.record.term}"
        _restored(d, host, text, result.term)


def _may_raise(d: Snapshot, host: HostId) -> bool:
    """Has this collector done nothing yet in this run? Only then may it raise itself above what it hears.

    One that was suspended has a quiet time again as well, and another one may have taken over meanwhile: it bows.
    """
    starting = d.now < d.site.started_at + d.policy.quiet_time
    return not d.site.deposed and host not in d.live.raised and d.quiet and (starting or d.live.restored)


def _raise(d: Transaction, host: HostId, epoch: int) -> None:
    d.change(raised=d.live.raised | {host})
    d.do(RaiseEpoch(epoch))


def _stand_down(d: Transaction, host: HostId, epoch: int) -> None:
    if d.site.deposed:
        return
    text = f"{d.name(host)} obeys a collector with epoch {name(epoch)}; this one has {name(d.site.epoch)}"
    if d.record.stale_epoch < epoch:
        pool = d.record.name or d.record.pool
        d.note(Kind.STALE_EPOCH, f"{text}: this collector does nothing any more in this pool", epoch=epoch, host=host)
        title = f"{pool}: another collector is in charge, this one stands down"
        body = (
            f"{text}. It is read-only for this pool. Stop one of the two; if this one is to stay, or there is no other "
            f"and {d.name(host)} is wrong: poolwarden acknowledge {pool}"
        )
        d.raise_alert(AlertTopic(Matter.STALE_EPOCH), "critical", title, body, epoch=epoch, host=host)
    d.do(StandDown(text))


def _unknown(d: Snapshot, result: OrderOutcome) -> int:
    """The term of the failover that this result is of, if this journal does not know that it went so far; else 0."""
    found = order_ids.failover_order(result.order_id)
    if found is None or found.what not in ("promote", "repoint") or result.outcome is Outcome.REFUSED:
        return 0
    term, known = found.term, d.record.failover
    # safety: a term that no host could have stored is nobody's past, whatever an order's name says.
    if term <= d.record.restored[1] or term > d.record.term + ID_LEAP:
        return 0
    if known is not None and order_ids.parse(result.order_id).is_of(known.id):
        return term if known.step in REVERSIBLE else 0
    return term if known is None or term > known.term else 0


def _restored(d: Transaction, host: HostId, why: str, heard: int, obeyed: int = 0) -> None:
    """Raise the term above what is heard and be quiet for long, in this pool."""
    doubted = d.record.doubted
    if doubted == host and d.live.restored:
        return  # safety: it alone says so; more of the same from it neither raises a number nor prolongs the quiet time
    term = max(d.record.term, heard) + 1
    pool = d.record.name or d.record.pool
    if heard > d.record.term or not d.live.restored:
        text = f"this collector's journal is not the newest: {why}; the term is {term} now, and it is quiet for a while"
        ended = d.record.restored[0] if d.live.restored else d.record.term
        alone = len(d.record.hosts) > 1 and not d.live.restored and not doubted
        data = {"host": host, "why": why, "heard": heard, "ended": ended, "alone": alone}
        data |= {"epochs": [d.site.epoch, obeyed]}
        d.write(Entry(Kind.RESTORED, text, data, "", term))
        title = f"{pool}: the collector's journal is older than what its hosts know"
        body = (
            f"{why}. Was it restored from a backup, lost, or is there another collector? Nothing is begun for "
            f"{d.policy.quiet_time_restored / 1000:.0f} s; then every host is judged anew."
        )
        if alone:
            body += (
                f" As long as only {d.name(host)} says so, nothing is done by itself afterwards either: another host "
                f"of the pool that knows of it ends that, or: poolwarden acknowledge {pool}"
            )
        d.raise_alert(AlertTopic(Matter.RESTORED), "warning", title, body, host=host)
    until = d.now + d.policy.quiet_time_restored
    d.change(restored=True, quiet_until=max(d.live.quiet_until, until))


def _corroborated(d: Transaction, hello: Hello) -> None:
    """Does another host know of what one alone has claimed? Its number comes from beyond the journal's end as well."""
    doubted = d.record.doubted
    if not doubted or doubted == hello.host:
        return
    (ended, raised), (own, claimed) = d.record.restored, d.record.restored_epochs
    # Numbers of the gap alone: those that this collector has given out since lie above it.
    term = ended < _highest_term(hello) < raised
    if term or own < hello.highest_epoch <= claimed:
        _settle_doubt(d, f"{d.name(hello.host)} says the same as {d.name(doubted)}", "poolwarden", hello.host)


def _settle_doubt(d: Transaction, text: str, actor: str, by: HostId = "") -> None:
    d.note(Kind.OPINION_SETTLED, text, actor, host=d.record.doubted, by=by)


def doubt(d: Snapshot) -> str:
    """Why nothing is done by itself in this pool although its quiet time is over; empty if nothing is doubted."""
    if not d.record.doubted:
        return ""
    pool = d.record.name or d.record.pool
    return f"only {d.name(d.record.doubted)} says that this journal is not the newest (poolwarden acknowledge {pool})"


def acknowledge(d: Transaction, actor: str) -> list[str]:
    """A person says that this collector, with this journal, is the one that is to stay here: what that ends."""
    over = []
    if d.record.doubted:
        claimed = d.agent(d.record.doubted)
        _settle_doubt(d, f"{actor} has taken note of what {d.name(d.record.doubted)} says of the past", actor)
        heard = _highest_term(claimed.hello) if claimed is not None else 0
        if heard > d.record.term:
            text = f"the term is raised above {heard}, which {actor} has taken note of"
            d.write(Entry(Kind.TERM_OBSERVED, text, {}, "", heard + 1, actor))
        over.append("the journal's past is settled")
    if d.record.stale_epoch > d.site.epoch:
        until = d.now + d.policy.quiet_time_restored
        d.change(restored=True, quiet_until=max(d.live.quiet_until, until))
        # safety: quiet for long first, so that whatever the other collector has under way is over and told.
        d.do(RaiseEpoch(d.record.stale_epoch))
        d.resolve_alert(AlertTopic(Matter.STALE_EPOCH), f"{actor} has this collector stay in charge")
        over.append("this collector takes charge again once its quiet time is over")
    return over


def forgotten(d: Transaction, host: HostId) -> None:
    """Owe again what a restored journal has forgotten; called with the host whose report was just taken."""
    agent = d.heard(host)
    if agent is None or host == d.record.master or not d.record.master or d.failover is not None:
        return
    mark = agent.facts.tombstone
    if mark is not None and not _owed(d, host):
        _owe(d, host, f"{d.name(host)} reports a tombstone of term {mark.term} that nothing here accounts for")


def succeeded(d: Transaction, host: HostId, before: HostId) -> None:
    """A master was adopted: did Poolwarden itself promote it, in a past that this journal has lost?"""
    agent = d.heard(host)
    if agent is None or not before or before not in d.record.hosts or _owed(d, before):
        return
    for result in agent.hello.last_results:
        found = order_ids.failover_order(result.order_id)
        if found is None or found.what != "promote" or result.outcome is not Outcome.DONE:
            continue
        # Only a promotion from within the gap: an older one is in this journal, with all that came after it.
        if d.record.restored[0] < found.term <= d.record.restored[1]:
            _owe(d, before, f"{d.name(host)} was promoted by {result.order_id} in a past that this journal has lost")
            return


def _owed(d: Snapshot, host: HostId) -> bool:
    return any(item.host == host and item.what is OwedWork.TOMBSTONE for item in d.record.owed)


def _owe(d: Transaction, host: HostId, why: str) -> None:
    text = f"{d.name(host)} is owed its tombstone (again): {why}"
    d.note(Kind.OWED, text, host=host, what=OwedWork.TOMBSTONE.value, successor=d.record.master, why=why)


def expire(d: Transaction) -> None:
    """The alert is over once the long quiet time has passed and everybody was heard again."""
    standing = d.quiet or d.live.silent or d.record.doubted
    topic = AlertTopic(Matter.RESTORED)
    if topic in d.open_topics and not standing:
        d.resolve_alert(topic, "the quiet time is over; the pool is judged by what is heard now")
