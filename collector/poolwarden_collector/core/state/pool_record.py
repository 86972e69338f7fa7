"""A pool's durable state: what survives the collector, folded from its journal.

Invariant: ``apply`` is pure, and total over what this version writes and its predecessors wrote; any other entry is a
``BadEntry``, never an error of another kind and never half of it. Folding the journal from the first entry gives the
state in which the engine was when it wrote the last one. One open failover per pool is a property of the type: there is
one field for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.state import (
    device_record,
    drill_record,
    failover_fold,
    followup_record,
    question_record,
    restart_record,
)
from poolwarden_collector.core.state.alert_topic import of_key
from poolwarden_collector.core.state.assumption_record import FailedAssumption, fold_assumptions
from poolwarden_collector.core.state.device_record import Devices
from poolwarden_collector.core.state.drill_record import Drill
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.followup_record import Aftermath
from poolwarden_collector.core.state.question_record import Asked, Question
from poolwarden_collector.core.state.restart_record import InPlace


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What is remembered of a host."""

    host: HostId
    name: str = ""
    address: str = ""
    boot_id: str = ""
    system_uuid: str = ""


TOLD_KEPT = 64  # topics of alerts that a new run does not tell at once again


class OwedWork(StrEnum):
    """What a host can be owed; the value is the word for it in the journal and in ``status``."""

    TOMBSTONE = "tombstone"  # to be marked as superseded, and attached to its successor
    REPOINT = "repoint"  # to be pointed at the master
    RELEASE = "release"  # the end of a toolstack fence's hold
    REMOVE_DATABASE = "remove-database"  # a database that was placed and not used
    WAKE = "wake"  # to be powered on again
    DECLARE_DEAD = "declare-dead"  # to be declared dead in xapi


@dataclass(frozen=True, slots=True)
class Owed:
    """Work owed to a host that cannot be reached now, kept until done."""

    host: HostId
    what: OwedWork
    successor: HostId
    term: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An operator's word that a silent host is off, in this boot; over with its next sign of life (fenced_hosts.py)."""

    host: HostId
    boot_id: str
    by: str
    how: str
    despite_power_on: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """The master's own goodbye for a shutdown or a reboot (announcements.py); over when it is heard again."""

    host: HostId
    reason: str  # "host_shutdown" or "host_reboot"
    boot_id: str


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of master by order: ours, or an operator's that was observed; over when the pool has settled."""

    host: HostId
    before: HostId


@dataclass(frozen=True, slots=True)
class PauseEnd:
    """When a pause ends by itself (operator/pauses.py): ``at`` on the monotonic clock that ``clock`` names, in ms."""

    lasts: int  # ms in all
    at: int
    clock: str


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """Everything durable about one pool."""

    pool: PoolId
    name: str = ""
    term: int = 0
    master: HostId = ""
    hosts: dict[HostId, HostRecord] = field(default_factory=dict)
    listed: frozenset[HostId] = frozenset()  # the pool's hosts as a serving master listed them last; empty: none has
    generation: int = 0  # of that master's database, some thousand changes ago at the most; 0: none is known
    # Members that have reached the present master's xapi since it took the role, with the certificate that they saw.
    standing: dict[HostId, str] = field(default_factory=dict)
    paused: str | None = None
    pause_end: PauseEnd | None = None  # None: a pause lasts until somebody ends it
    failover: Failover | None = None
    owed: tuple[Owed, ...] = ()
    cooldown: bool = False
    failovers: int = 0
    incidents: int = 0
    restarts: tuple[tuple[HostId, str], ...] = ()  # (host, order id) of this incident's restarts of a master's xapi
    open_alerts: tuple[str, ...] = ()
    titles: dict[str, str] = field(default_factory=dict)  # of the open alerts, by key
    severities: dict[str, str] = field(default_factory=dict)  # of the open alerts, by key
    told: tuple[str, ...] = ()  # the topics of the last alerts, the newest last
    stale_epoch: int = 0
    holds: int = 0  # toolstack fences ordered in this incident
    doubted: HostId = ""  # who alone says that this journal is not the newest; empty: nobody, or others say so too
    restored: tuple[int, int] = (0, 0)  # the gap of a restored journal: the term at which it ended, and above the gap
    short: bool = False  # entries of it are missing in the journal, and neither its hosts nor a person have said more
    restored_epochs: tuple[int, int] = (0, 0)  # the collector's own then, and the one that was obeyed
    identity: dict[HostId, str] = field(default_factory=dict)  # hosts whose identity is in conflict, and why
    confirmed: dict[HostId, Confirmed] = field(default_factory=dict)  # silent hosts that somebody says are off
    planned: Planned | None = None
    transition: Transition | None = None
    upgrading: bool = False  # a rolling upgrade was seen; only a serving master takes it back
    ha_armed: frozenset[HostId] = frozenset()  # hosts that said so last; only they or a serving master take it back
    after: Aftermath = Aftermath()
    devices: Devices = Devices()
    asked: Asked = Asked()
    assumptions: dict[HostId, tuple[FailedAssumption, ...]] = field(default_factory=dict)  # what failed on which host
    in_place: InPlace | None = None  # a restart of the master's xapi under a hold, while it is under way
    drill: Drill | None = None  # a fire drill, while it is open

    @property
    def question(self) -> Question | None:
        """What is asked of an operator now."""
        return self.asked.open

    @property
    def display_name(self) -> str:
        """The pool's name for people, its UUID where no name is known."""
        return self.name or self.pool

    def name_of(self, host: HostId) -> str:
        """The host's name for people, its UUID where no name is known."""
        known = self.hosts.get(host)
        return known.name if known and known.name else host

    def address_of(self, host: HostId) -> str:
        """The host's last known management address."""
        known = self.hosts.get(host)
        return known.address if known else ""


class BadEntry(ValueError):
    """An entry that lacks something, or says what this version does not know; the text names it."""


def fold(record: PoolRecord, entries: Iterable[Entry]) -> PoolRecord:
    """The record after all these entries."""
    for entry in entries:
        record = apply(record, entry)
    return record


def apply(record: PoolRecord, entry: Entry) -> PoolRecord:
    """The record after one entry; kinds without a durable effect leave it as it is. Raises BadEntry."""
    try:
        return _applied(record, entry)
    except KeyError as error:
        raise BadEntry(f"it has no {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        # An enum's own words name the value: "'leap' is not a valid Ask".
        raise BadEntry(str(error) or type(error).__name__) from error


def _applied(record: PoolRecord, entry: Entry) -> PoolRecord:
    change = _CHANGES.get(entry.kind)
    if change is not None:
        record = change(record, entry)
    after, questions = (
        followup_record.fold_followups(record.after, entry),
        question_record.fold_questions(record.asked, entry),
    )
    devices, under_way = (
        device_record.fold_devices(record.devices, entry),
        restart_record.fold_restart(record.in_place, entry),
    )
    failover = failover_fold.fold_failover(record.failover, entry)
    drill = drill_record.fold_drill(record.drill, entry)
    same = after is record.after and questions is record.asked and devices is record.devices
    if same and under_way is record.in_place and failover is record.failover and drill is record.drill:
        return record
    changed = replace(record, failover=failover, after=after, asked=questions, devices=devices, in_place=under_way)
    return replace(changed, drill=drill)


def _host_seen(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    host = HostRecord(data["host"], data["name"], data["address"], data.get("boot_id", ""), data.get("system_uuid", ""))
    return replace(record, hosts={**record.hosts, host.host: host})


def _master_observed(record: PoolRecord, entry: Entry) -> PoolRecord:
    return _new_master(replace(record, term=entry.term), entry.data["host"])


def _new_master(record: PoolRecord, host: HostId) -> PoolRecord:
    """Standing is gained anew under each master, and the goodbye of the one before binds nobody any more."""
    return replace(record, master=host, standing={}, planned=None)


def _standing(record: PoolRecord, entry: Entry) -> PoolRecord:
    return replace(record, standing={**record.standing, entry.data["host"]: entry.data.get("certificate", "")})


def _goodbye(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    return replace(record, planned=None if data.get("over") else Planned(data["host"], data["reason"], data["boot_id"]))


def _transition(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    return replace(
        record, transition=None if data.get("over") else Transition(data["host"], data.get("before", record.master))
    )


def _identity(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    kept = {host: why for host, why in record.identity.items() if host != data["host"]}
    return replace(record, identity={**kept, data["host"]: data["why"]} if data.get("frozen") else kept)


def _verdict(record: PoolRecord, entry: Entry) -> PoolRecord:
    if entry.data.get("over"):
        return replace(record, restarts=(), holds=0)
    return record


def _decided(record: PoolRecord, entry: Entry) -> PoolRecord:
    return replace(record, term=entry.term, failovers=record.failovers + 1)


def _host_left(record: PoolRecord, entry: Entry) -> PoolRecord:
    host = entry.data["host"]
    hosts = {name: known for name, known in record.hosts.items() if name != host}
    owed = tuple(item for item in record.owed if item.host != host)
    standing = {name: seen for name, seen in record.standing.items() if name != host}
    identity = {name: why for name, why in record.identity.items() if name != host}
    failed = {name: items for name, items in record.assumptions.items() if name != host}
    record = replace(record, assumptions=failed)
    record = replace(record, doubted="") if record.doubted == host else record
    armed = record.ha_armed - {host}
    record = _confirmed_over(record, entry)
    return replace(record, hosts=hosts, owed=owed, standing=standing, identity=identity, ha_armed=armed)


def _confirmed_off(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    word = Confirmed(data["host"], data["boot_id"], data["by"], data["how"], data["despite_power_on"])
    return replace(record, confirmed={**record.confirmed, word.host: word})


def _confirmed_over(record: PoolRecord, entry: Entry) -> PoolRecord:
    return replace(record, confirmed={h: word for h, word in record.confirmed.items() if h != entry.data["host"]})


def _promoted(record: PoolRecord, entry: Entry) -> PoolRecord:
    return _new_master(record, entry.data["host"])


def _restart_intent(record: PoolRecord, entry: Entry) -> PoolRecord:
    if entry.failover and record.failover is not None and entry.failover == record.failover.id:
        return record  # a member's, on its way to the new master (failover_fold.py)
    if entry.data.get("remedy"):
        return replace(record, restarts=(*record.restarts, (entry.data["host"], entry.data["order"])))
    return record


def _in_place_intent(record: PoolRecord, entry: Entry) -> PoolRecord:
    tried = (*record.restarts, (entry.data["host"], entry.data["order"]))
    return replace(record, restarts=tried, term=max(record.term, entry.term))


def _in_place_ended(record: PoolRecord, entry: Entry) -> PoolRecord:
    if order := entry.data.get("order"):
        # From here on it is a restart like any other: its success is told, and its time is counted, from that order.
        record = replace(record, restarts=(*record.restarts[:-1], (entry.data["host"], order)))
    return _raises_term(record, entry)


def _raises_term(record: PoolRecord, entry: Entry) -> PoolRecord:
    return replace(record, term=max(record.term, entry.term))


def _owed(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    owed = Owed(data["host"], OwedWork(data["what"]), data["successor"], entry.term)
    kept = tuple(item for item in record.owed if (item.host, item.what) != (owed.host, owed.what))
    return replace(record, owed=(*kept, owed))


def _owed_done(record: PoolRecord, entry: Entry) -> PoolRecord:
    done = (entry.data["host"], entry.data["what"])
    return replace(record, owed=tuple(item for item in record.owed if (item.host, item.what) != done))


def _pause_end(entry: Entry) -> PauseEnd | None:
    """The end of a pause with a time; entries of earlier versions, and of a pause that lasts, have none."""
    data = entry.data
    return PauseEnd(data["lasts"], data["ends"], data["clock"]) if data.get("lasts") else None


def _ended(cooldown: bool) -> Callable[[PoolRecord, Entry], PoolRecord]:
    def change(record: PoolRecord, entry: Entry) -> PoolRecord:
        if record.failover is None:
            return record
        term = max(record.term, entry.data.get("new_term", record.term))
        return replace(record, cooldown=cooldown or record.cooldown, term=term)

    return change


def _restored(record: PoolRecord, entry: Entry) -> PoolRecord:
    data = entry.data
    # A second host that claims anything from beyond the journal's end says the same as the first.
    other = record.doubted and record.doubted != data["host"]
    doubted = data["host"] if data.get("alone") else "" if other else record.doubted
    own, obeyed = data.get("epochs", (0, 0))
    changed = replace(record, restored=(data["ended"], entry.term), restored_epochs=(own, obeyed), doubted=doubted)
    return replace(changed, term=max(record.term, entry.term), short=False)


def _alert(record: PoolRecord, entry: Entry) -> PoolRecord:
    key = entry.data["key"]
    incident = max(record.incidents, entry.data.get("facts", {}).get("incident", 0))
    topic = of_key(record.pool, key).about
    told = (*(other for other in record.told if other != topic), topic)[-TOLD_KEPT:]
    titles = {**record.titles, key: entry.data.get("title", "")}
    severities = {**record.severities, key: entry.data.get("severity", "")}
    opened = record.open_alerts if key in record.open_alerts else (*record.open_alerts, key)
    return replace(record, incidents=incident, open_alerts=opened, titles=titles, severities=severities, told=told)


def _moved(record: PoolRecord, entry: Entry) -> PoolRecord:
    """It brings a whole record (decision_input.py reads it), in whose place the entries before it mean nothing."""
    raise ValueError("a record that was moved here is begun with, and not folded into another one")


def _pool_listed(record: PoolRecord, entry: Entry) -> PoolRecord:
    generation = int(entry.data.get("generation", 0)) or record.generation
    return replace(record, listed=frozenset(entry.data["hosts"]), generation=generation)


def _alert_resolved(record: PoolRecord, entry: Entry) -> PoolRecord:
    gone = entry.data["key"]
    opened = tuple(key for key in record.open_alerts if key != gone)
    return replace(
        record,
        open_alerts=opened,
        titles={k: title for k, title in record.titles.items() if k != gone},
        severities={k: severity for k, severity in record.severities.items() if k != gone},
    )


_CHANGES: dict[Kind, Callable[[PoolRecord, Entry], PoolRecord]] = {
    Kind.HOST_SEEN: _host_seen,
    Kind.HOST_BOOTED: _host_seen,
    Kind.POOL_NAMED: lambda r, e: replace(r, name=e.data["name"]),
    Kind.POOL_LISTED: _pool_listed,
    Kind.MASTER_OBSERVED: _master_observed,
    Kind.MASTER_NAMED: _master_observed,
    Kind.TERM_OBSERVED: _raises_term,
    Kind.STANDING: _standing,
    Kind.VERDICT: _verdict,
    Kind.DECIDED: _decided,
    Kind.TOOLSTACK_INTENT: lambda r, e: replace(r, holds=r.holds + 1),
    Kind.HOST_CONFIRMED_OFF: _confirmed_off,
    Kind.HOST_CONFIRMED_OVER: _confirmed_over,
    Kind.PROMOTED: _promoted,
    Kind.RESTART_INTENT: _restart_intent,
    Kind.IN_PLACE_INTENT: _in_place_intent,
    Kind.IN_PLACE_START: _raises_term,
    Kind.IN_PLACE_ENDED: _in_place_ended,
    Kind.OWED: _owed,
    Kind.OWED_DONE: _owed_done,
    Kind.ACKNOWLEDGED: lambda r, e: replace(r, cooldown=False),
    Kind.CLOSED: _ended(cooldown=True),
    Kind.ABORTED: _ended(cooldown=False),
    Kind.SUPERSEDED: _ended(cooldown=False),
    Kind.COOLDOWN_OVER: lambda r, e: replace(r, cooldown=False),
    Kind.PAUSED: lambda r, e: replace(r, paused=e.data["reason"], pause_end=_pause_end(e)),
    Kind.RESUMED: lambda r, e: replace(r, paused=None, pause_end=None),
    Kind.GOODBYE: _goodbye,
    Kind.TRANSITION: _transition,
    Kind.DESIGNATE_INTENT: _transition,
    Kind.DESIGNATE_RESULT: lambda r, e: replace(r, transition=None),
    Kind.IDENTITY: _identity,
    Kind.UPGRADE_SEEN: lambda r, e: replace(r, upgrading=e.data["under_way"]),
    Kind.RECORD_MOVED: _moved,
    Kind.RESTORED: _restored,
    Kind.JOURNAL_SHORT: lambda r, e: replace(r, short=True),
    Kind.JOURNAL_SHORT_OVER: lambda r, e: replace(r, short=False),
    Kind.ASSUMPTIONS: lambda r, e: replace(r, assumptions=fold_assumptions(r.assumptions, e)),
    Kind.OPINION_SETTLED: lambda r, e: replace(r, doubted=""),
    Kind.HA_SEEN: lambda r, e: replace(r, ha_armed=frozenset(e.data["hosts"])),
    Kind.HOST_LEFT: _host_left,
    Kind.STALE_EPOCH: lambda r, e: replace(r, stale_epoch=e.data["epoch"]),
    Kind.ALERT: _alert,
    Kind.ALERT_RESOLVED: _alert_resolved,
}
