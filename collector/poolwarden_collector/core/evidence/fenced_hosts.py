"""A host whose silence blocks nothing: its power is proven off, or a person has said that it is.

Theory
------
Much waits for a silent host, because it might act as master: a boot gate, a last look, the question of every host's
role. What ends such a wait is that host's power, or a person's word (``poolwarden confirm-fenced HOST``). The word is a
word about *this* host in *this* boot, and stands against its silence alone.

Rules
-----
* The word is refused while the host's agent is heard or its xapi answers, and while its power reads ON unless the
  operator says that he knows.
* It is durable, and so outlives the collector: it excuses a silence, which is heard again at any moment. As the *proof*
  that an old master or a candidate is harmless it counts only in the run that heard it, within
  ``human_proof_fresh`` (operator_confirmation.py).
* Any later sign of life ends it: the agent's stream or message, an answered probe, a role that it tells. An answered
  ping, or a port that takes connections and tells nothing, is none.
* It is never a proof about another host, and a power that reads ON without ``despite_power_on`` makes it worthless.
"""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_collector.core.evidence.operator_confirmation import reads_on
from poolwarden_collector.core.evidence.proof import why_off
from poolwarden_collector.core.evidence.signs import answered, foreign, fresh_probe, own_alive
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import RoleAnswer, RoleClaim
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live_slices import FencedHosts
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

VOICE_FRESH_MS: Ms = 20_000
AWAITED_MS: Ms = 15_000  # how long what its silence blocks is remembered; said anew in every pass
READ_AFTER_MS: Ms = 60_000  # how long after the word the power is read, to see whether it contradicts it


def excused(pool: Snapshot, host: HostId) -> str:
    """Why this silent host's silence blocks nothing, in one sentence without a full stop; empty: it blocks, or the host
    is not silent.
    """
    return "" if host not in pool.record.hosts or lives(pool, host) else why_off(pool, host)


def wants_reading(pool: Snapshot, host: HostId) -> bool:
    """Is this silent host's power to be read now: because its silence blocks, or somebody has just said that it is
    off?
    """
    if pool.heard(host) is not None:
        return False
    said, awaited = pool.live.fenced.words_at.get(host), pool.live.fenced.awaited.get(host)
    newly = said is not None and pool.now - said < READ_AFTER_MS
    return newly or (awaited is not None and pool.now - awaited < AWAITED_MS)


def lives(pool: Snapshot, host: HostId) -> str:
    """The sign of life that this host gives now, in one sentence without a full stop; empty: none."""
    name = pool.name(host)
    if pool.heard(host) is not None:
        return f"the agent of {name} answers"
    for other in sorted(pool.live.agents, key=pool.name):
        probe = fresh_probe(pool, other, host) if other != host else None
        if probe is not None and answered(probe) and not foreign(pool, other, probe):
            return f"{pool.name(other)}'s probe of the xapi of {name} is answered"
    if own_alive(pool, host):
        return f"the collector's own probe of the xapi of {name} is answered"
    at, how = pool.live.fenced.voices.get(host, (None, ""))
    return how if at is not None and pool.now - at <= VOICE_FRESH_MS else ""


def await_confirmation(tx: Transaction, hosts: Iterable[HostId]) -> None:
    """The silence of these hosts blocks something now: their power is read by itself."""
    mine = {
        host: tx.now
        for host in hosts
        if tx.live.fenced.awaited.get(host) is None or tx.now - tx.live.fenced.awaited[host] >= 1_000
    }
    if mine:
        tx.change(FencedHosts, awaited={**tx.live.fenced.awaited, **mine})


def next_step(pool: Snapshot, hosts: Iterable[HostId]) -> str:
    """What a person can do about their silence, as a command; one is enough to see how."""
    names = sorted(pool.name(host) for host in hosts)
    commands = "; ".join(f"poolwarden confirm-fenced {name}" for name in names)
    return f"Make sure that {' and '.join(names)} {'is' if len(names) == 1 else 'are'} off, then: {commands}"


# ------------------------------------------------------------------------------------------------ the word


def confirm(tx: Transaction, host: HostId, by: str, how: str, typed: str) -> None:
    """Journal an operator's word that this host is off; the caller has looked for what refuses it."""
    known = tx.record.hosts[host]
    despite = reads_on(tx, host)
    text = f"{by} confirmed that {tx.name(host)} is off: {how}" + (" (power reads ON)" if despite else "")
    data = {"host": host, "boot_id": known.boot_id, "by": by, "how": how, "typed": typed, "despite_power_on": despite}
    tx.note(Kind.HOST_CONFIRMED_OFF, text, by, **data)
    tx.change(FencedHosts, words_at={**tx.live.fenced.words_at, host: tx.now})


def alive(tx: Transaction, host: HostId, at: Ms, how: str) -> None:
    """A sign of life of this host, and when it was given: a word from before it is over."""
    word = tx.record.confirmed.get(host)
    # Where the word is from before this collector's start, every sign since then is later.
    if word is None or at < tx.live.fenced.words_at.get(host, tx.site.started_at):
        return
    text = f"the word of {word.by} that {tx.name(host)} is off is over: {how}"
    # safety: said once, a word must not outlive what contradicts it, though the host may be silent again soon.
    tx.note(Kind.HOST_CONFIRMED_OVER, text, host=host, why=how)
    tx.change(FencedHosts, words_at={known: since for known, since in tx.live.fenced.words_at.items() if known != host})


def use_word(tx: Transaction, host: HostId) -> None:
    """The word about this host is the open failover's proof from now on; it counts from when it was said."""
    tx.change(FencedHosts, word_used=tx.live.fenced.words_at[host])


def drop_used_word(tx: Transaction) -> None:
    """No word is the open failover's proof any more."""
    tx.change(FencedHosts, word_used=None)


def power_read(tx: Transaction, host: HostId) -> None:
    """A new reading of this host's power: ON ends a word that was given without knowing of it."""
    word = tx.record.confirmed.get(host)
    if word is not None and not word.despite_power_on and reads_on(tx, host):
        text = f"the word of {word.by} that {tx.name(host)} is off is over: its power reads ON"
        tx.note(Kind.HOST_CONFIRMED_OVER, text, host=host, why="its power reads ON")


def told_roles(tx: Transaction, asker: HostId, answers: tuple[RoleAnswer, ...]) -> None:
    """A host that tells its role lives. A silence tells nothing; a host that is there and tells no role may be a
    network card that its BMC shares and keeps awake, and is the very matter that the word is about.
    """
    for answer in answers:
        if answer.host in tx.record.hosts and answer.said in (RoleClaim.FOLLOWS, RoleClaim.ACTS):
            how = f"{tx.name(asker)} has got an answer from the xapi of {tx.name(answer.host)}"
            tx.change(FencedHosts, voices={**tx.live.fenced.voices, answer.host: (tx.now, how)})
            alive(tx, answer.host, tx.now, how)
