"""Several opinions of one past: another collector beside this one, or a journal that is older than the world.

Rules
-----
* Epochs and terms decide, and agents keep the highest of both durably. Nothing here asks a clock.
* A higher epoch heard after the start-up quiet time is another collector that is obeyed: this one stands down, for all
  its pools, until a person restarts it. It goes on to look and to tell. So does one that wakes up from a suspension.
* Whatever agents know and this journal does not (a higher epoch or term while this collector is still quiet, the result
  of a promotion that is not in it) means that the journal is not the newest: restored from a backup, or lost. Terms and
  epochs are raised above everything heard, so that nothing which was on its way in that lost past is obeyed; the quiet
  time begins anew, and longer, so that everybody has spoken before anything is decided.
* An open failover from before such a gap has a lower term now and ends without a promotion (failover.py); it is never
  resumed.
* What this journal has forgotten to owe is owed again where the hosts themselves prove it: a host that reports a
  tombstone, and the old master that was succeeded by a promotion of Poolwarden's own that the new master reports.
"""

from __future__ import annotations

import re

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.epoch import name
from poolwarden_collector.core.facts import Hello, HostId, OrderOutcome, Outcome
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.orders import BeQuiet, RaiseEpoch, StandDown
from poolwarden_collector.core.record import REVERSIBLE

_FAILOVER_ORDER = re.compile(r"[^/]{1,16}-\d{1,9}\.(\d{1,18})/(?:\d{1,20}/)?(\w+)")


def compare(d: Draft, hello: Hello) -> None:
    """Hold what a host's agent has stored against this collector's own numbers and journal."""
    obeyed = hello.highest_epoch > d.site.epoch
    if obeyed and not _may_raise(d):
        _stand_down(d, hello.host, hello.highest_epoch)
        return
    heard, why = _gap(d, hello)
    if not why and obeyed:
        why = f"{d.name(hello.host)} has obeyed epoch {name(hello.highest_epoch)}, this one is {name(d.site.epoch)}"
    if why:
        _restored(d, hello.host, why, heard)
    if obeyed:
        d.do(RaiseEpoch(hello.highest_epoch))


def _gap(d: Draft, hello: Hello) -> tuple[int, str]:
    """The highest term that this host knows and the journal does not, and how it is known; else the record's own."""
    marks = [hello.tombstone.term if hello.tombstone else 0, hello.hold.term if hello.hold else 0]
    heard, who = max(hello.highest_term, *marks), d.name(hello.host)
    if heard > d.record.term:
        return heard, f"{who} has stored term {heard}, this journal ends at {d.record.term}"
    for result in hello.last_results:
        if term := _unknown(d, result):
            return max(heard, term), f"{who} has carried out {result.order_id}, which this journal does not know"
    return d.record.term, ""


def refused(d: Draft, host: HostId, result: OrderOutcome) -> None:
    """An agent's refusal tells the same: it obeys a higher epoch, or has stored a higher term."""
    if result.reason == "stale-epoch" and result.epoch > d.site.epoch:
        if _may_raise(d):
            d.do(RaiseEpoch(result.epoch))
        else:
            _stand_down(d, host, result.epoch)
    elif result.reason == "stale-term" and result.term > d.record.term:
        text = f"{d.name(host)} has stored term {result.term}, this journal ends at {d.record.term}"
        _restored(d, host, text, result.term)


def _may_raise(d: Draft) -> bool:
    """Has this collector done nothing yet in this run? Only then may it raise itself above what it hears.

    One that was suspended has a quiet time again as well, and another one may have taken over meanwhile: it bows.
    """
    starting = d.now < d.site.started_at + d.policy.quiet_time
    return not d.site.deposed and d.quiet and (starting or d.live.restored)


def _stand_down(d: Draft, host: HostId, epoch: int) -> None:
    if d.site.deposed:
        return
    text = f"{d.name(host)} obeys a collector with epoch {name(epoch)}; this one has {name(d.site.epoch)}"
    if d.record.stale_epoch < epoch:
        d.note(Kind.STALE_EPOCH, f"{text}: this collector does nothing any more", epoch=epoch)
        title = f"{d.record.name or d.record.pool}: another collector is in charge, this one stands down"
        body = f"{text}. It is read-only for all its pools. Stop one of the two; then restart the one that is to stay."
        d.raise_alert("stale-epoch", "critical", title, body, epoch=epoch)
    d.do(StandDown(text))


def _unknown(d: Draft, result: OrderOutcome) -> int:
    """The term of the failover that this result is of, if this journal does not know that it went so far; else 0."""
    found = _FAILOVER_ORDER.match(result.order_id)
    if found is None or found[2] not in ("promote", "repoint") or result.outcome is Outcome.REFUSED:
        return 0
    term, known = int(found[1]), d.record.failover
    if term <= d.record.restored[1]:
        return 0
    if known is not None and result.order_id.startswith(f"{known.id}/"):
        return term if known.step in REVERSIBLE else 0
    return term if known is None or term > known.term else 0


def _restored(d: Draft, host: HostId, why: str, heard: int) -> None:
    """Raise the term above everything heard and be quiet for long, in the whole collector."""
    term = max(d.record.term, heard) + 1
    if heard > d.record.term or not d.live.restored:
        text = f"this collector's journal is not the newest: {why}; the term is {term} now, and it is quiet for a while"
        ended = d.record.restored[0] if d.live.restored else d.record.term
        d.write(Entry(Kind.RESTORED, text, {"host": host, "why": why, "heard": heard, "ended": ended}, "", term))
        title = f"{d.record.name or d.record.pool}: the collector's journal is older than what its hosts know"
        body = (
            f"{why}. Was it restored from a backup, lost, or is there another collector? Nothing is begun for "
            f"{d.policy.quiet_time_restored / 1000:.0f} s; then every pool is judged anew."
        )
        d.raise_alert("restored", "warning", title, body, host=host)
    until = d.now + d.policy.quiet_time_restored
    d.change(restored=True, quiet_until=max(d.live.quiet_until, until))
    d.do(BeQuiet(until, why))


def forgotten(d: Draft, host: HostId) -> None:
    """Owe again what a restored journal has forgotten; called with the host whose report was just taken."""
    agent = d.heard(host)
    if agent is None or host == d.record.master or not d.record.master or d.failover is not None:
        return
    mark = agent.facts.tombstone
    if mark is not None and not _owed(d, host):
        _owe(d, host, f"{d.name(host)} reports a tombstone of term {mark.term} that nothing here accounts for")


def succeeded(d: Draft, host: HostId, before: HostId) -> None:
    """A master was adopted: did Poolwarden itself promote it, in a past that this journal has lost?"""
    agent = d.heard(host)
    if agent is None or not before or before not in d.record.hosts or _owed(d, before):
        return
    for result in agent.hello.last_results:
        found = _FAILOVER_ORDER.match(result.order_id)
        if found is None or found[2] != "promote" or result.outcome is not Outcome.DONE:
            continue
        # Only a promotion from within the gap: an older one is in this journal, with all that came after it.
        if d.record.restored[0] < int(found[1]) <= d.record.restored[1]:
            _owe(d, before, f"{d.name(host)} was promoted by {result.order_id} in a past that this journal has lost")
            return


def _owed(d: Draft, host: HostId) -> bool:
    return any(item.host == host and item.what == "tombstone" for item in d.record.owed)


def _owe(d: Draft, host: HostId, why: str) -> None:
    text = f"{d.name(host)} is owed its tombstone (again): {why}"
    d.note(Kind.OWED, text, host=host, what="tombstone", successor=d.record.master, why=why)


def settle(d: Draft) -> None:
    """The alert is over once the long quiet time has passed and everybody was heard again."""
    if f"{d.record.pool}/restored" in d.record.open_alerts and not d.quiet and not d.live.silent:
        d.resolve_alert(f"{d.record.pool}/restored", "the quiet time is over; the pool is judged by what is heard now")
