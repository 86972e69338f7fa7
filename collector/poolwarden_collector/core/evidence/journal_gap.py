"""Another collector beside this one, or a journal that is older than what its agents remember.

Rules
-----
* Epochs and terms decide, and agents keep the highest of both durably. Nothing here asks a clock.
* One host's agent counts as one host, in its own pool. Whatever it claims (the door has bounded it, bounds.py) changes
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
* What one pool's host has raised the epoch above is the past of every pool that has obeyed it: an epoch that was obeyed
  between the run's first one and its own now, and that is none of the run's, is from beyond the journal's end as well.
* A host raises the epoch once in a run of the collector: who claims a higher one again is obeyed by another one.
* An open failover from before such a gap has a lower term now and ends without a promotion (steps.py); it is never
  resumed.
* A pool of which entries are missing in a damaged journal (``journal-short``, written at the start) is known to be told
  once one of its hosts says that the journal is not the newest. One whose hosts are never heard would make every start
  quiet anew for all of them: a person's ``acknowledge`` ends that.
* What this journal has forgotten to owe is owed again where the hosts themselves prove it: a host that reports a
  tombstone, and the old master that was succeeded by a promotion of Poolwarden's own that the new master reports.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import RESTORED, STALE_EPOCH
from poolwarden_collector.core.catalogue.journal import JOURNAL_SHORT
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.effects import RaiseEpoch, StandDown
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import name
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE
from poolwarden_collector.core.state.live_slices import JournalGap
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ID_LEAP = 1 << 24  # as far as a host may be ahead of the pool's term (shell/agents/messages/bounds.py)


def compare(tx: Transaction, hello: Hello) -> None:
    """Hold what a host's agent has stored against this collector's own numbers and journal."""
    obeyed = hello.highest_epoch > tx.site.epoch
    if obeyed and not _may_raise(tx, hello.host):
        _stand_down(tx, hello.host, hello.highest_epoch)
        return
    _corroborated(tx, hello)
    heard, why = _gap(tx, hello)
    if not why and (obeyed or _of_the_lost_past(tx, hello)):
        why = f"{tx.name(hello.host)} has obeyed epoch {name(hello.highest_epoch)}, this one is {name(tx.site.epoch)}"
    if why:
        _restored(tx, hello.host, why, heard, hello.highest_epoch)
    if obeyed:
        _raise(tx, hello.host, hello.highest_epoch)


def _gap(pool: Snapshot, hello: Hello) -> tuple[int, str]:
    """The highest term that this host knows and the journal does not, and how it is known; else the record's own."""
    heard, who = _highest_term(hello), pool.name(hello.host)
    if heard > pool.record.term:
        return heard, f"{who} has stored term {heard}, this journal ends at {pool.record.term}"
    for result in hello.last_results:
        if term := _unknown(pool, result):
            return max(heard, term), f"{who} has carried out {result.order_id}, which this journal does not know"
    return pool.record.term, ""


def _of_the_lost_past(pool: Snapshot, hello: Hello) -> bool:
    """Has it obeyed an epoch above which another pool's host has raised this run, before this pool had a word in it?"""
    own = pool.site.raised
    # safety: without this the first pool that speaks would end the gap for all of them.
    lost = bool(own) and own[0] < hello.highest_epoch < pool.site.epoch and hello.highest_epoch not in own
    return lost and not pool.live.journal_gap.restored


def _highest_term(hello: Hello) -> int:
    marks = [hello.tombstone.term if hello.tombstone else 0, hello.hold.term if hello.hold else 0]
    return max(hello.highest_term, *marks)


def refused(tx: Transaction, host: HostId, result: OrderOutcome) -> None:
    """An agent's refusal tells the same: it obeys a higher epoch, or has stored a higher term."""
    if result.reason == "stale-epoch" and result.epoch > tx.site.epoch:
        if _may_raise(tx, host):
            _raise(tx, host, result.epoch)
        else:
            _stand_down(tx, host, result.epoch)
    elif result.reason == "stale-term" and result.term > tx.record.term:
        text = f"{tx.name(host)} has stored term {result.term}, this journal ends at {tx.record.term}"
        _restored(tx, host, text, result.term)


def _may_raise(pool: Snapshot, host: HostId) -> bool:
    """Has this collector done nothing yet in this run? Only then may it raise itself above what it hears.

    One that was suspended has a quiet time again as well, and another one may have taken over meanwhile: it stands
    down.
    """
    starting = pool.now < pool.site.started_at + pool.policy.quiet_time
    return (
        not pool.site.deposed
        and host not in pool.live.journal_gap.raised
        and pool.quiet
        and (starting or pool.live.journal_gap.restored)
    )


def _raise(tx: Transaction, host: HostId, epoch: int) -> None:
    tx.change(JournalGap, raised=tx.live.journal_gap.raised | {host})
    tx.do(RaiseEpoch(epoch))


def _stand_down(tx: Transaction, host: HostId, epoch: int) -> None:
    if tx.site.deposed:
        return
    text = f"{tx.name(host)} obeys a collector with epoch {name(epoch)}; this one has {name(tx.site.epoch)}"
    if tx.record.stale_epoch < epoch:
        pool = tx.record.display_name
        tx.note(Kind.STALE_EPOCH, f"{text}: this collector does nothing any more in this pool", epoch=epoch, host=host)
        body = (
            f"{text}. It is read-only for this pool. Stop one of the two; if this one is to stay, or there is no other "
            f"and {tx.name(host)} is wrong: poolwarden acknowledge {pool}"
        )
        tx.raise_alert(AlertTopic(Matter.STALE_EPOCH), STALE_EPOCH, body, {"why": text}, epoch=epoch, host=host)
    tx.do(StandDown(text))


def _unknown(pool: Snapshot, result: OrderOutcome) -> int:
    """The term of the failover that this result is of, if this journal does not know that it went so far; else 0."""
    found = order_ids.failover_order(result.order_id)
    if found is None or found.what not in ("promote", "repoint") or result.outcome is Outcome.REFUSED:
        return 0
    term, known = found.term, pool.record.failover
    # safety: a term that no host could have stored is nobody's past, whatever an order's name says.
    if term <= pool.record.restored[1] or term > pool.record.term + ID_LEAP:
        return 0
    if known is not None and order_ids.parse(result.order_id).is_of(known.id):
        return term if known.step in REVERSIBLE else 0
    return term if known is None or term > known.term else 0


def _restored(tx: Transaction, host: HostId, why: str, heard: int, obeyed: int = 0) -> None:
    """Raise the term above what is heard and be quiet for long, in this pool."""
    doubted = tx.record.doubted
    if doubted == host and tx.live.journal_gap.restored:
        return  # safety: it alone says so; more of the same from it neither raises a number nor prolongs the quiet time
    term = max(tx.record.term, heard) + 1
    pool = tx.record.display_name
    if heard > tx.record.term or not tx.live.journal_gap.restored:
        text = f"this collector's journal is not the newest: {why}; the term is {term} now, and it is quiet for a while"
        ended = tx.record.restored[0] if tx.live.journal_gap.restored else tx.record.term
        alone = len(tx.record.hosts) > 1 and not tx.live.journal_gap.restored and not doubted
        data = {"host": host, "why": why, "heard": heard, "ended": ended, "alone": alone}
        data |= {"epochs": [tx.site.raised[0] if tx.site.raised else tx.site.epoch, obeyed]}
        tx.write(Entry(Kind.RESTORED, text, data, "", term))
        body = (
            f"{why}. Was it restored from a backup, lost, or is there another collector? Nothing is begun for "
            f"{tx.policy.quiet_time_restored / 1000:.0f} s; then every host is judged anew."
        )
        step = "nothing, if it was restored on purpose; look for a second collector otherwise"
        if alone:
            step = f"if no other host of the pool knows of it: poolwarden acknowledge {pool}"
            body += (
                f" As long as only {tx.name(host)} says so, nothing is done by itself afterwards either: another host "
                f"of the pool that knows of it ends that, or: poolwarden acknowledge {pool}"
            )
        words = {"why": why, "seconds": f"{tx.policy.quiet_time_restored / 1000:.0f}", "step": step}
        tx.raise_alert(AlertTopic(Matter.RESTORED), RESTORED, body, words, host=host)
    until = tx.now + tx.policy.quiet_time_restored
    tx.change(JournalGap, restored=True, quiet_until=max(tx.live.journal_gap.quiet_until, until))


def _corroborated(tx: Transaction, hello: Hello) -> None:
    """Does another host know of what one alone has claimed? Its number comes from beyond the journal's end as well."""
    doubted = tx.record.doubted
    if not doubted or doubted == hello.host:
        return
    (ended, raised), (own, claimed) = tx.record.restored, tx.record.restored_epochs
    # Numbers of the gap alone: those that this collector has given out since lie above it.
    term = ended < _highest_term(hello) < raised
    if term or own < hello.highest_epoch <= claimed:
        _settle_doubt(tx, f"{tx.name(hello.host)} says the same as {tx.name(doubted)}", "poolwarden", hello.host)


def _settle_doubt(tx: Transaction, text: str, actor: str, by: HostId = "") -> None:
    tx.note(Kind.OPINION_SETTLED, text, actor, host=tx.record.doubted, by=by)


def doubt(pool: Snapshot) -> str:
    """Why nothing is done by itself in this pool although its quiet time is over; empty if nothing is doubted."""
    if not pool.record.doubted:
        return ""
    command = f"poolwarden acknowledge {pool.record.display_name}"
    return f"only {pool.name(pool.record.doubted)} says that this journal is not the newest ({command})"


def acknowledge(tx: Transaction, actor: str) -> list[str]:
    """A person says that this collector, with this journal, is the one that is to stay here: what that ends."""
    over = []
    if tx.record.short:
        tx.note(Kind.JOURNAL_SHORT_OVER, f"{actor} has taken note that entries of this pool are missing", actor)
        over.append("what the journal has lost of this pool holds nothing up any more")
    if tx.record.doubted:
        claimed = tx.agent(tx.record.doubted)
        _settle_doubt(tx, f"{actor} has taken note of what {tx.name(tx.record.doubted)} says of the past", actor)
        heard = _highest_term(claimed.hello) if claimed is not None else 0
        if heard > tx.record.term:
            text = f"the term is raised above {heard}, which {actor} has taken note of"
            tx.write(Entry(Kind.TERM_OBSERVED, text, {}, "", heard + 1, actor))
        over.append("the journal's past is settled")
    if tx.record.stale_epoch > tx.site.epoch:
        until = tx.now + tx.policy.quiet_time_restored
        tx.change(JournalGap, restored=True, quiet_until=max(tx.live.journal_gap.quiet_until, until))
        # safety: quiet for long first, so that whatever the other collector has under way is over and told.
        tx.do(RaiseEpoch(tx.record.stale_epoch))
        tx.resolve_alert(AlertTopic(Matter.STALE_EPOCH), f"{actor} has this collector stay in charge")
        over.append("this collector takes charge again once its quiet time is over")
    return over


def forgotten(tx: Transaction, host: HostId) -> None:
    """Owe again what a restored journal has forgotten; called with the host whose report was just taken."""
    agent = tx.heard(host)
    if agent is None or host == tx.record.master or not tx.record.master or tx.failover is not None:
        return
    mark = agent.facts.tombstone
    if mark is not None and not _owed(tx, host):
        _owe(tx, host, f"{tx.name(host)} reports a tombstone of term {mark.term} that nothing here accounts for")


def succeeded(tx: Transaction, host: HostId, before: HostId) -> None:
    """A master was adopted: did Poolwarden itself promote it, in a past that this journal has lost?"""
    agent = tx.heard(host)
    if agent is None or not before or before not in tx.record.hosts or _owed(tx, before):
        return
    for result in agent.hello.last_results:
        found = order_ids.failover_order(result.order_id)
        if found is None or found.what != "promote" or result.outcome is not Outcome.DONE:
            continue
        # Only a promotion from within the gap: an older one is in this journal, with all that came after it.
        if tx.record.restored[0] < found.term <= tx.record.restored[1]:
            _owe(tx, before, f"{tx.name(host)} was promoted by {result.order_id} in a past that this journal has lost")
            return


def _owed(pool: Snapshot, host: HostId) -> bool:
    return any(item.host == host and item.what is OwedWork.TOMBSTONE for item in pool.record.owed)


def _owe(tx: Transaction, host: HostId, why: str) -> None:
    text = f"{tx.name(host)} is owed its tombstone (again): {why}"
    tx.note(Kind.OWED, text, host=host, what=OwedWork.TOMBSTONE.value, successor=tx.record.master, why=why)


def expire(tx: Transaction) -> None:
    """The alert is over once the long quiet time has passed and everybody was heard again."""
    _say_short(tx)
    standing = tx.quiet or tx.live.silent or tx.record.doubted
    topic = AlertTopic(Matter.RESTORED)
    if topic in tx.open_topics and not standing:
        tx.resolve_alert(topic, "the quiet time is over; the pool is judged by what is heard now")


def _say_short(tx: Transaction) -> None:
    """That entries are missing, once the hosts have had the quiet time to say what they know."""
    topic = AlertTopic(Matter.JOURNAL_SHORT)
    if tx.record.short and not tx.quiet:
        body = (
            "The collector's journal was damaged, and none of this pool's hosts has been heard since. As long as that "
            "is so each start of the collector takes every pool's journal for one that is not the newest, and is quiet "
            f"for long. A pool that is gone, or of which you know how it stands: poolwarden acknowledge "
            f"{tx.record.display_name}"
        )
        tx.raise_alert(topic, JOURNAL_SHORT, body, {})
    elif not tx.record.short and topic in tx.open_topics:
        tx.resolve_alert(topic, "a host of the pool has said what it knows, or it was acknowledged")
