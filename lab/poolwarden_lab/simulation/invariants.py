"""Safety, asserted after every event of every simulation (the numbers are those of the design).

I1  Never two hosts of a pool whose xapi runs as master and serves, but for one exception that Poolwarden cannot prevent
    in this version (no boot gate): a superseded old master that has *booted anew* after the promotion was intended, for
    as long as it is owed its tombstone or its failover is still open.
I2  A promote call reaches a xapi only with a proof of the same failover and term journaled before, and an intent for
    this very host.
I4  One open failover, one candidate per term, and never a second candidate after a promote call.
I5  What an agent says of its epoch and term never decreases.
I6  No effect before its record: promote, repoint, restart, tombstone and power-off have their intent in the ledger.
I7  No power-off of a host that streamed a report within the last 15 s.
I8  Nothing new (decision, power-off, promotion) in quiet time, while paused, in cool-down, or with HA armed.
I9  A BMC is asked for ``status`` and ``off``, for nothing else.
I11 A host whose agent has stored a tombstone, and is heard, does not go on serving as master (TOMBSTONE_LIMIT_MS).
I16 An order for another pool, host or boot, or with a lower epoch or term than the agent has stored, does nothing; the
    stories of tests/simulation/test_orders.py forge them.
I17 No running VM is terminated by a xapi (``expected_kills`` names the exceptions of a story).

I13 At the end a vanished master has a successor, serves again, or there is an open alert.

Also: before every effect the engine's record is the fold of the ledger, so that a restart stands where it stood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_collector.core import orders as out
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.record import PoolRecord, Step, apply
from poolwarden_lab.simulation.ledger import Commit
from poolwarden_lab.statedb import parse_local
from poolwarden_lab.xapi.database import LOCAL_DB

if TYPE_CHECKING:
    from poolwarden_lab.simulation.world import Simulation

NEW_THINGS = (Kind.DECIDED, Kind.FENCE_INTENT, Kind.PROMOTE_INTENT)
INTENTS = {
    out.Promote: Kind.PROMOTE_INTENT,
    out.Repoint: Kind.REPOINT_INTENT,
    out.RestartXapi: Kind.RESTART_INTENT,
    out.SetTombstone: Kind.TOMBSTONE_INTENT,
    out.DeclareHostDead: Kind.DEAD_INTENT,
    out.StartVm: Kind.START_INTENT,
    out.DesignateMaster: Kind.DESIGNATE_INTENT,
    out.SyncDatabase: Kind.SYNC_INTENT,
    out.EnableHost: Kind.ENABLE_INTENT,
}
LIVE_REPORT_MS = 15_000
TOMBSTONE_LIMIT_MS = 240_000
HA_LAG_MS = 6_000  # until a report has told the collector that HA was armed


class InvariantBroken(AssertionError):
    """A safety rule does not hold; the text names it and tells the story."""


class Invariants:
    """Looks at the world after every event. ``expected_kills`` and ``two_masters_allowed`` are a story's exceptions."""

    def __init__(self, world: Simulation) -> None:
        self.world = world
        self.expected_kills: set[str] = set()
        self.two_masters_allowed = ""
        self.by_hand: list[str] = []  # hosts that an administrator is about to promote himself
        self.checks = 0
        self._seen_events = 0
        self._record = PoolRecord("")
        self._intents: dict[Kind, set[str]] = {}
        self._proofs: dict[str, Entry] = {}
        self._candidates: dict[int, str] = {}
        self._promote_calls: set[str] = set()
        self._numbers: dict[str, tuple[int, int]] = {}
        self._ha_since: int | None = None
        self._local_files: tuple[bytes, ...] = ()
        self._undead: dict[str, int] = {}  # since when a tombstoned host that is heard serves as master

    # ------------------------------------------------------------------------------------------ after every event

    def check(self) -> None:
        """Everything that can be seen from outside; cheap while nothing has happened."""
        pool = self.world.pool
        self._watch_ha()
        self._tombstoned()
        if self._seen_events == len(pool.log):
            return
        self.checks += 1
        for entry in pool.log[self._seen_events :]:
            if entry.event.name == "promote-call":
                self._promote_call(entry.host)
            if entry.event.name == "killed":
                self._killed(entry.host)
        self._seen_events = len(pool.log)
        self._one_master()

    def _tombstoned(self) -> None:
        if not self._record.owed:
            self._undead.clear()
            return
        masters = self.world.masters()
        for name in [name for name in self._undead if name not in masters]:
            del self._undead[name]
        for name in masters:
            agent = self.world.agents[name]
            marked = agent.side is not None and agent.side.state.tombstone is not None
            if not marked or agent.stream is None:
                self._undead.pop(name, None)
            elif self.world.now - self._undead.setdefault(name, self.world.now) > TOMBSTONE_LIMIT_MS:
                self._fail("I11", f"{name} is tombstoned and has served as master for {TOMBSTONE_LIMIT_MS} ms since")

    def _watch_ha(self) -> None:
        """Since when HA has been armed on a host with power; read from the file only when that has changed."""
        files = tuple(host.disk.files.get(LOCAL_DB, b"") for host in self.world.pool.hosts.values() if host.power)
        if files == self._local_files:
            return
        self._local_files = files
        armed = any(parse_local(content).get("ha.armed") == "true" for content in files if content)
        self._ha_since = (self._ha_since or self.world.now) if armed else None

    def _one_master(self) -> None:
        masters = self.world.masters()
        if len(masters) < 2 or self.two_masters_allowed:
            return
        unexcused = [name for name in masters if not self._superseded(name)]
        if len(unexcused) > 1:
            self._fail("I1", f"{' and '.join(unexcused)} serve as master at the same time")

    def _superseded(self, name: str) -> bool:
        host, record = self.world.pool.hosts[name], self._record
        if any(item.host == host.uuid and item.what == "tombstone" for item in record.owed):
            return True
        failover = record.failover
        if failover is None or failover.old_master != host.uuid or failover.step is not Step.PROMOTING:
            return False
        return self.boot_id(name) != failover.old_boot

    def boot_id(self, name: str) -> str:
        return self.world.pool.hosts[name].disk.read("proc/sys/kernel/random/boot_id").decode().strip()

    def _promote_call(self, name: str) -> None:
        if name in self.by_hand:
            self.by_hand.remove(name)
            return
        uuid, record = self.world.pool.hosts[name].uuid, self._record
        failover = record.failover
        if failover is None or failover.id not in self._proofs:
            self._fail("I2", f"{name} was told to become master without a proof")
        assert failover is not None
        if self._proofs[failover.id].term != failover.term:
            self._fail("I2", f"{name}: the proof is of term {self._proofs[failover.id].term}, not {failover.term}")
        if failover.candidate != uuid or failover.step not in (Step.PROMOTING, Step.PROMOTED):
            self._fail("I2", f"{name} was told to become master without an intent for it")
        self._promote_calls.add(name)
        if len(self._promote_calls_of(failover.id)) > 1:
            self._fail("I4", f"two hosts were promoted in one failover: {sorted(self._promote_calls)}")

    def _promote_calls_of(self, failover: str) -> set[str]:
        intents = [e for e in self.world.ledger.of(Kind.PROMOTE_INTENT) if e.failover == failover]
        named = {self.world.name_of(entry.data["host"]) for entry in intents}
        return self._promote_calls & named

    def _killed(self, name: str) -> None:
        unexpected = [
            kill for kill in self.world.pool.hosts[name].domains.kills if kill.name not in self.expected_kills
        ]
        unexpected = [kill for kill in unexpected if kill.why != "migrated-away"]
        if unexpected:
            self._fail("I17", f"xapi on {name} terminated {unexpected[0].name}: {unexpected[0].why}")

    # ------------------------------------------------------------------------------------------ at commits and effects

    def on_commit(self, commit: Commit) -> None:
        """A transaction has become durable."""
        if not self._record.pool:
            self._record = PoolRecord(commit.pool)
        for entry in commit.entries:
            self._may_happen(entry)
            before = self._record
            if entry.kind is Kind.DECIDED and before.failover is not None and before.failover.open:
                self._fail("I4", f"{entry.failover} was opened while {before.failover.id} is open")
            self._record = apply(before, entry)
            self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        if entry.kind is Kind.PROOF:
            self._proofs[entry.failover] = entry
        if entry.kind is Kind.PROMOTE_INTENT:
            other = self._candidates.setdefault(entry.term, entry.data["host"])
            if other != entry.data["host"]:
                self._fail("I4", f"two candidates in term {entry.term}")
        key = entry.data.get("order") or entry.data.get("run") or ""
        self._intents.setdefault(entry.kind, set()).add(str(key))

    def _may_happen(self, entry: Entry) -> None:
        """I8, judged from the durable state before this entry and from the truth about HA."""
        if entry.kind not in NEW_THINGS:
            return
        record, shell = self._record, self.world.shell
        assert shell is not None
        if record.paused is not None:
            self._fail("I8", f"{entry.kind.value} while paused")
        if self.world.now < shell.site().quiet_until:
            self._fail("I8", f"{entry.kind.value} in quiet time")
        if self._ha_since is not None and self.world.now - self._ha_since > HA_LAG_MS:
            self._fail("I8", f"{entry.kind.value} while HA is armed")
        by_operator = "confirmed" in str(entry.data.get("why", ""))
        if record.cooldown and entry.kind is Kind.DECIDED and not by_operator:
            self._fail("I8", "a decision within the cool-down")

    def forget(self) -> None:
        """The ledger was lost, on purpose."""
        self._record = PoolRecord("")

    def on_effect(self, pool: str, effect: out.Effect) -> None:
        """An effect is about to be performed."""
        shell = self.world.shell
        if shell is not None and shell.pools[pool].record != self._record:
            self._fail("I6", "the engine's record is not the fold of the ledger")
        if isinstance(effect, out.SendOrder):
            self._order(effect.order)
        elif isinstance(effect, out.PowerOff):
            if effect.run_id not in self._intents.get(Kind.FENCE_INTENT, ()):
                self._fail("I6", f"power-off {effect.run_id} without an intent")
            quiet = self.world.agents[self.world.name_of(effect.host)].silent_for()
            if quiet < LIVE_REPORT_MS:
                self._fail("I7", f"power-off of a host that reported {quiet} ms ago")

    def _order(self, order: out.Order) -> None:
        kind = INTENTS.get(type(order.kind))
        if kind is not None and order.order_id not in self._intents.get(kind, ()):
            self._fail("I6", f"{order.kind_name} {order.order_id} without a durable intent")
        hosts = self.world.pool.hosts.values()
        if isinstance(order.kind, out.DeclareHostDead) and self._has_power(order.kind.host):
            self._fail("I10", f"{self.world.name_of(order.kind.host)} has power and is to be declared dead")
        if isinstance(order.kind, out.StartVm):
            running = [host.name for host in hosts if order.kind.vm in host.domains.domains()]
            if running:
                self._fail("I10", f"{order.kind.vm} is to be started and runs on {running}")

    def _has_power(self, uuid: str) -> bool:
        return any(host.uuid == uuid and host.power for host in self.world.pool.hosts.values())

    def on_numbers(self, name: str, epoch: int, term: int) -> None:
        """An agent said its highest epoch and term."""
        before = self._numbers.get(name, (0, 0))
        if epoch < before[0] or term < before[1]:
            self._fail("I5", f"{name} went from epoch and term {before} to {(epoch, term)}")
        self._numbers[name] = (epoch, term)

    # ------------------------------------------------------------------------------------------ at the end

    def finish(self) -> None:
        """What must hold of a whole run: I9 and I13."""
        if self.world.verdict == "MasterVanished" and not self._record.open_alerts:
            self._fail("I13", "the master has vanished, nobody succeeds it, and no alert says why")
        for device in self.world.settings.devices.values():
            for each in device:
                verbs = {verb for _, verb, _ in self.world.bmc(each.name).log}
                if not verbs <= {"status", "off"}:
                    self._fail("I9", f"{each.name} was asked for {sorted(verbs)}")

    def _fail(self, number: str, why: str) -> None:
        raise InvariantBroken(f"{number} at {self.world.now} ms: {why}\n{self.world.story()}")
