"""How old the members' copies of the database are: what a promotion would lose now, in minutes and generations.

Theory: a copy's age is not the time since it was made but since the master's database first became newer than it: the
copies of an idle pool are not old. A master counts its changes in its generation, and copies its database to one member
after the other, each every (hosts - 1) x 5 minutes (xapi: ocaml/xapi/pool_db_backup.ml); a copy keeps the generation
that it was made at.

Rules
-----
* The master's generations are remembered with the instant at which each was last seen. The newest of them that a copy
  has reached says until when nothing was missing from that copy: never later than in truth, so no age is too low.
* The age counts up to when the master last showed that it serves: its agent's word, or an answer of its xapi to a
  member's probe or this collector's own. Where it answered on after its agent had fallen silent, what it changed since
  is not known, and no copy counts as new for the sake of a generation from before that.
* A copy with a generation beyond the last known one was made since: nothing was missing from it when it arrived.
* The copy of a host that was succeeded and not attached since is of another line: its generations compare with
  nobody's, and its age counts from when its successor took over. It is told, and nobody is asked about it: such a host
  is chosen only where nobody else can be, and after its successor has had the time of a boot (steps.py).
* A collector that was started after the master was lost has no such memory. Then the age of the copy itself bounds it,
  counted on until now, as its own agent has watched it; an agent that has only just begun to watch knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision.candidate_ranking import superseded
from poolwarden_collector.core.evidence.signs import foreign, suspected
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live_slices import DatabaseAge
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

REPLICATION_MS: Ms = 300_000  # one member's turn (xapi: ocaml/xapi/pool_db_backup.ml)
MARGIN_MS: Ms = 600_000
REMEMBERED = 64
MINUTE_MS: Ms = 60_000
GROWING_STEP_MS: Ms = 1_800_000


@dataclass(frozen=True, slots=True)
class CopyAge:
    """One member's copy: generations behind the master's last known one, and its age in ms, ``None`` if not known."""

    host: HostId
    name: str
    generation: int
    behind: int
    age_ms: Ms | None
    text: str
    grows: bool = False  # it is a bound that is counted on, because the master was not heard in this run


def note_generation(tx: Transaction) -> None:
    """Remember what generation the serving master's database has now."""
    master = tx.record.master
    agent = tx.heard(master)
    if agent is None:
        _note_answers(tx, master)
        return
    if not agent.facts.role.serves_as_master or not agent.facts.database.generation:
        return
    host, seen = tx.live.database_age.generations
    now, at = agent.facts.database.generation, agent.last_heard
    if host != master or (seen and now < seen[-1][0]):
        seen = ()  # another master, or the same one on an older file: its count has begun anew
    if seen and seen[-1] == (now, at):
        return
    if seen and seen[-1][0] == now:
        seen = seen[:-1]
    seen = (*seen, (now, at))
    if len(seen) > REMEMBERED:
        # Every second of the older half is forgotten: a copy made then counts as old as the one before it.
        half = REMEMBERED // 2
        seen = (*seen[:half:2], *seen[half:])
    tx.change(DatabaseAge, generations=(master, seen))


def last_known(pool: Snapshot) -> int:
    """The newest generation that the master's database was seen with, in this run or before; where none is known, that
    of the newest copy but one of those that are heard; 0: there is nothing to hold a copy against.
    """
    master, seen = pool.live.database_age.generations
    if seen and master == _compared(pool):
        return seen[-1][0]
    if pool.record.generation:
        return pool.record.generation
    copies = [agent.facts.database.generation for host in pool.record.hosts if (agent := pool.heard(host)) is not None]
    return sorted([0, 0, *copies])[-2]


def ahead(pool: Snapshot, host: HostId) -> int:
    """By how many changes this host's copy is ahead of what can have been copied from the last master; 0: it is not.

    Every change of a database adds one to its generation (xapi: ocaml/database/db_cache_types.ml). A member's copy is
    taken from the master's memory; what the master's agent tells is its file, which is written within 5 min. So a
    truthful copy is ahead of it by what is changed in 5 min: tens of thousands, not millions.
    """
    agent = pool.agent(host)
    return leap(pool, agent.facts.database.generation if agent is not None else 0)


def leap(pool: Snapshot, generation: int) -> int:
    """The same of a copy's generation, wherever that lies."""
    more = generation - last_known(pool)
    return more if more > pool.policy.generation_leap else 0


def limit(pool: Snapshot) -> Ms:
    """The age up to which a copy is promoted without asking, ms: the policy's, or what xapi's own copying gives."""
    hosts = max(len(pool.record.hosts), 2)
    return pool.policy.oldest_database or (hosts - 1) * REPLICATION_MS + MARGIN_MS


def ages(pool: Snapshot) -> tuple[CopyAge, ...]:
    """Every member's copy, the newest first."""
    master = suspected(pool)
    found = [age(pool, host) for host in pool.record.hosts if host != master]
    return tuple(sorted(found, key=lambda c: (-c.generation, c.name)))


def age(pool: Snapshot, host: HostId) -> CopyAge:
    """How far this host's own file is behind the master's."""
    agent = pool.agent(host)
    generation = agent.facts.database.generation if agent is not None else 0
    if agent is None or not generation:
        return CopyAge(host, pool.name(host), 0, 0, None, "its copy is not known")
    master, seen = pool.live.database_age.generations
    if superseded(pool, host):
        return _of_another_line(pool, host, generation)
    if seen and master == _compared(pool):
        behind = max(0, seen[-1][0] - generation)
        known, until = _since(pool, host, generation, seen), _served_until(pool, master, seen[-1][1])
        ms = None if known is None else max(0, until - known)
        return CopyAge(
            host, pool.name(host), generation, behind, ms, _say(behind, ms, until > seen[-1][1], _file(pool))
        )
    changed = agent.facts.database.changed_at
    ms = None if changed is None else max(0, pool.now - changed)
    return CopyAge(host, pool.name(host), generation, 0, ms, _say_bound(ms), True)


def _note_answers(tx: Transaction, master: HostId) -> None:
    """Remember when the xapi of a master whose agent is not heard answered last: a witness may forget it."""
    own, at = tx.live.own_probe.newest, -1
    if own is not None and own.host == master and own.answered_at is not None:
        at = own.answered_at
    for other, agent in tx.live.agents.items():
        probe = agent.facts.probe_of(master) if other != master else None
        if probe is not None and probe.answered_at is not None and not foreign(tx, other, probe):
            at = max(at, probe.answered_at)
    host, known = tx.live.database_age.answered_until
    if at > (known if host == master else -1):
        tx.change(DatabaseAge, answered_until=(master, at))


def _served_until(pool: Snapshot, master: HostId, heard: Ms) -> Ms:
    """When this master last showed that it serves; ``heard``: when its agent last told its generation.

    An answer within ``vanished_after`` of that is of the same death: probes and reports end seconds apart.
    """
    host, at = pool.live.database_age.answered_until
    # safety: it served on unheard, and changed what nobody has told since.
    return at if host == master and at - heard > pool.policy.vanished_after else heard


def _of_another_line(pool: Snapshot, host: HostId, generation: int) -> CopyAge:
    """The copy of a host that was succeeded: everything since its successor took over is missing from it."""
    since, (master, seen) = pool.live.mastership.since, pool.live.database_age.generations
    known = since > 0 and bool(seen) and master == pool.record.master != host
    ms = max(0, seen[-1][1] - since) if known else None
    lost = f"the last {span(ms)} at the least" if ms is not None else "everything since"
    by = pool.name(pool.record.master)
    text = f"{pool.name(host)} was succeeded by {by} and not attached to it since: {lost} would be lost"
    return CopyAge(host, pool.name(host), generation, 0, ms, text)


def _compared(pool: Snapshot) -> HostId:
    """The master whose database the copies are of: on the way to a successor the old one."""
    return suspected(pool) or pool.record.master


def _since(pool: Snapshot, host: HostId, generation: int, seen: tuple[tuple[int, Ms], ...]) -> Ms | None:
    """Until when nothing was missing from a copy of this generation; None if that is not known."""
    agent, reached = pool.agent(host), [at for number, at in seen if number <= generation]
    changed = agent.facts.database.changed_at if agent is not None else None
    if not reached:
        return changed
    beyond = generation > seen[-1][0] and changed is not None
    return max(reached[-1], changed) if beyond and changed is not None else reached[-1]


def too_old(pool: Snapshot, host: HostId) -> CopyAge | None:
    """This host's copy, if it is older than what is promoted without asking, or of unknown age; None if it is not."""
    if superseded(pool, host):
        return None
    copy = age(pool, host)
    return copy if copy.age_ms is None or copy.age_ms > limit(pool) else None


def accepted_by(copy: CopyAge, accepted: Ms) -> bool:
    """Does somebody's word for copies up to ``accepted`` ms cover this one?"""
    # safety: a yes to some minutes is none to an age that nobody knows: that one has a number of its own, and is asked.
    return accepted > 0 and accepted >= needed(copy)


def needed(copy: CopyAge) -> Ms:
    """What has to be accepted for this copy, ms: whole minutes; half hours of an age that is counted on, or it would
    be another question each minute; an hour where its age is not known.
    """
    if copy.age_ms is None:
        return 60 * MINUTE_MS
    step = GROWING_STEP_MS if copy.grows else MINUTE_MS
    return -(-copy.age_ms // step) * step


def _file(pool: Snapshot) -> str:
    """How old the master's file itself was when its agent was last heard, in words.

    xapi writes it at most 5 min after a change, and not at all while the disk is full; what it holds in memory alone is
    in no file (xapi: ocaml/database/db_cache_impl.ml).
    """
    agent = pool.agent(_compared(pool))
    written = agent.facts.database.changed_at if agent is not None else None
    if agent is None or written is None:
        return "written at a time that is not known"
    return f"written {span(max(0, agent.last_heard - written))} before it was last heard"


def _say(behind: int, ms: Ms | None, unheard: bool, file: str) -> str:
    if unheard and ms is not None:
        least = f"{behind} generations behind at the least, and " if behind else ""
        return f"{least}{span(ms)} old: its master served on while its agent was silent, what it changed would be lost"
    if not behind:
        # Never that nothing would be lost: a VM that has just been started, or a full disk, is in no file.
        return f"as new as the master's file on disk, {file}: what it held in memory alone since then would be lost"
    count = f"{behind} generation{'s' if behind != 1 else ''} behind"
    if ms is None:
        return f"{count}, since when is not known: what was changed since would be lost"
    return f"{span(ms)} and {count}: what was changed since would be lost"


def _say_bound(ms: Ms | None) -> str:
    if ms is None:
        return "its age is not known: the master was not heard in this run, nor was the copy seen to change"
    return f"at most {span(ms)} old; how far behind is not known, the master was not heard in this run"
