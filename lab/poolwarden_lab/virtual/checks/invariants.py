"""Safety, asserted after every event of every simulation, per pool (the numbers are those of the design).

I1  Never two hosts of a pool whose xapi runs as master and serves, but for one exception that Poolwarden cannot prevent
    where an agent has no boot gate: a superseded old master that has *booted anew* after the promotion was intended,
    for as long as it is owed its tombstone or its failover is still open.
I2, I4, I6, I8, I10, I12 of each collector's journal: see journal_rules.py.
I5  What an agent says of its epoch and term never decreases.
I7  No power-off of a host that has said something in the last 15 s which the collector heard, unless a person approved:
    when it is ordered, and at the instant at which the power goes. There it counts what was heard until the order could
    be recalled no more: up to that very instant where the collector runs the fence agent, up to its begin where that
    collector is gone, and up to 3 s (the order's validity) before its begin where a member runs it.
I9  A fence device is asked for ``status`` and ``off``, for nothing else.
I10 No host that has power is declared dead, no VM started that runs, and none runs on two hosts after that.
I20 No VM is started by policy but in a pool that has this policy and is not paused, and of a host that was off, while
    every other host that has power was heard just now; and none against its owner's word (own_starts.py).
I11 A host whose agent has stored a tombstone, and is heard, does not go on serving as master (TOMBSTONE_LIMIT_MS).
I16 An order for another pool, host or boot, or with a lower epoch or term than the agent has stored, does nothing; the
    stories of tests/simulation/test_orders.py forge them.
I17 No running VM is terminated because of anything Poolwarden did (see kills.py), unless an operator accepted as many
    (``expected_kills`` names a story's own exceptions).

I18 No topic of an alert is told more than once a minute by one collector and its journal, over its restarts; and none
    is over sooner than its settling time after it was told (core/state/alert_book.py).

I19 A xapi loads a restore_db.db only where a journal has said so before: the start of a restart in place with that very
    generation, or a handover to the host that is promoted. And none lies for long (PLACED_LIMIT_MS) on a host that is
    heard and not held, and of which no journal says that it is to be used or removed. One that somebody put there is
    not ours.

At the end: I13 where nobody has served for a while (CALM_MS), or a failover stands still, there is an open alert (or
an operator's pause). MODEL: xapi's model itself has failed, nothing that xapi would meet. I15
while the pool is called Healthy every reachable member follows the one master, is owed that, or an alert says that
somebody has changed its pool.conf.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NoReturn, Protocol

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.alert_book import MINUTE_MS, settling
from poolwarden_collector.core.state.alert_topic import Matter, of_key
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import OwedWork, PoolRecord
from poolwarden_lab.statedb import parse_local
from poolwarden_lab.virtual.agent.agent import SimAgent
from poolwarden_lab.virtual.checks.journal_rules import NEW_THINGS, Opinion
from poolwarden_lab.virtual.checks.kills import Kills
from poolwarden_lab.virtual.checks.own_starts import OwnStarts
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.world.bmc import SimBmc
from poolwarden_lab.virtual.world.network import COLLECTOR
from poolwarden_lab.virtual.world.tapped import TappedPool
from poolwarden_lab.xapi.database import LOCAL_DB, RESTORE_DB

LIVE_REPORT_MS = 15_000
TOMBSTONE_LIMIT_MS = 240_000
PLACED_LIMIT_MS = 60_000
LOOK_MS = 1_000
CALM_MS = 120_000
STUCK_MS = 600_000
HEARINGS = 64  # more than are heard of a host in 15 s


class InvariantBroken(AssertionError):
    """A safety rule does not hold; the text names it and tells the story."""


class WatchedPool(Protocol):
    """The pool that is looked at: its hosts, machines, agents and devices, and its first collector's view of it."""

    uuid: str
    pool: TappedPool
    outcasts: set[str]
    bmcs: dict[str, SimBmc]
    agents: dict[str, SimAgent]

    @property
    def now(self) -> int: ...
    @property
    def shell(self) -> SimCollector | None: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def core(self) -> Pool: ...
    @property
    def record(self) -> PoolRecord: ...
    @property
    def verdict(self) -> str: ...
    @property
    def watched(self) -> bool: ...
    def entries_of(self, node: str) -> Iterator[Entry]: ...
    def name_of(self, uuid: str) -> str: ...
    def masters(self) -> list[str]: ...
    def story(self) -> str: ...


class Invariants:
    """Looks at one pool after every event. ``expected_kills`` and ``two_masters_allowed`` are a story's exceptions."""

    def __init__(self, world: WatchedPool) -> None:
        self.world = world
        self.expected_kills: set[str] = set()
        self.two_masters_allowed = ""
        self.by_hand: list[str] = []  # hosts that an administrator is about to promote himself
        self.kills = Kills(world)
        self.in_common = ""  # the name of the journal that several collectors have in common; empty: each its own
        self._opinions: dict[str, Opinion] = {}
        self._seen_events = 0
        self._numbers: dict[str, tuple[int, int]] = {}
        self.heard_at: dict[str, int] = {}  # when what was heard last of a host was sent
        self.own_starts = OwnStarts(world, self.heard_at, self._fail)
        self._hearings: dict[str, deque[tuple[int, int]]] = {}  # of each host the last ones: heard, sent, ms
        self._told: dict[tuple[str, str], int] = {}  # (collector, topic) -> when it was told last
        self._undead: dict[str, int] = {}  # since when a tombstoned host that is heard serves as master
        self._placed: dict[str, int] = {}  # since when a database lies on a heard host that no journal accounts for
        self._looked_at = 0
        self._masterless_since: int | None = None
        self.restored_by_hand: set[str] = set()  # hosts where somebody has put a restore_db.db

    def opinion(self, node: str) -> Opinion:
        """A collector's journal of this pool."""
        if node not in self._opinions:
            self._opinions[node] = Opinion(self.world.uuid, self.world.entries_of(node), self._fail)
        return self._opinions[node]

    def journal_changed(self, node: str) -> None:
        """A ledger was lost, restored or copied, on purpose."""
        self._opinions.pop(node, None)
        self._told = {key: at for key, at in self._told.items() if key[0] != node}

    # ------------------------------------------------------------------------------------------ after every event

    def check(self) -> None:
        """Everything that can be seen from outside; called when something of this pool may have changed."""
        pool = self.world.pool
        if self.world.now - self._looked_at >= LOOK_MS:
            self._looked_at = self.world.now
            self._tombstoned()
            self._left_behind()
            self._twice()
            self.own_starts.look()
        if self._seen_events < len(pool.log):
            news = pool.log[self._seen_events :]
            self._seen_events = len(pool.log)
            for entry in news:
                name = entry.event.name
                if name == "promote-call":
                    self._promote_call(entry.host)
                elif name == "xapi-start":
                    self.kills.started(entry.host)
                elif name == "killed":
                    self._killed(entry.host)
                elif name == "db-loaded" and entry.event.facts["path"] == RESTORE_DB:
                    self._loaded(entry.host, int(entry.event.facts["generation"]))
                elif name.startswith("vm-"):
                    self._twice()
                    self.own_starts.happened(entry.host, entry.event, self._opinions.values())
                elif name == "model-fault":
                    self._fail("MODEL", f"xapi on {entry.host}: {dict(entry.event.facts).get('error', '')}")
        self._one_master()
        if self.world.masters():
            self._masterless_since = None
        elif self._masterless_since is None:
            self._masterless_since = self.world.now

    def _tombstoned(self) -> None:
        owed = any(opinion.record.owed for opinion in self._opinions.values())
        if not owed:
            self._undead.clear()
            return
        masters = self.world.masters()
        for name in [name for name in self._undead if name not in masters]:
            del self._undead[name]
        for name in masters:
            agent = self.world.agents[name]
            marked = agent.side is not None and agent.side.executor.state.tombstone is not None
            if not marked or agent.stream is None or agent.asleep:
                self._undead.pop(name, None)
            elif self.world.now - self._undead.setdefault(name, self.world.now) > TOMBSTONE_LIMIT_MS:
                self._fail("I11", f"{name} is tombstoned and has served as master for {TOMBSTONE_LIMIT_MS} ms since")

    def _loaded(self, name: str, generation: int) -> None:
        uuid = self.world.pool.hosts[name].uuid
        if name in self.restored_by_hand:
            self.restored_by_hand.discard(name)
            return
        if not any(opinion.lets_load(uuid, generation) for opinion in self._opinions.values()):
            self._fail(
                "I19", f"xapi on {name} loads a restore_db.db of generation {generation} that nobody meant for it"
            )

    def _left_behind(self) -> None:
        for name, host in self.world.pool.hosts.items():
            agent = self.world.agents[name]
            heard = host.power and not host.frozen and agent.stream is not None and not agent.asleep
            # Under a hold nothing loads it, and whoever ends the hold removes it, also where a journal was lost.
            held = agent.side is not None and agent.side.executor.state.hold is not None
            lies = host.disk.exists(RESTORE_DB) and heard and not held and name not in self.restored_by_hand
            if not lies or any(opinion.accounts_for(host.uuid) for opinion in self._opinions.values()):
                self._placed.pop(name, None)
            elif self.world.now - self._placed.setdefault(name, self.world.now) > PLACED_LIMIT_MS:
                self._fail("I19", f"a restore_db.db has lain on {name} for {PLACED_LIMIT_MS} ms, for nothing")

    def _ha_since(self) -> int | None:
        """Since when HA has been armed on a host with power."""
        since = None
        for host in self.world.pool.hosts.values():
            content = host.disk.files.get(LOCAL_DB, b"") if host.power else b""
            if content and parse_local(content).get("ha.armed") == "true":
                changed = host.disk.changed.get(LOCAL_DB, 0)
                since = changed if since is None else min(since, changed)
        return since

    def _one_master(self) -> None:
        masters = [name for name in self.world.masters() if name not in self.world.outcasts]
        if len(masters) < 2 or self.two_masters_allowed:
            return
        unexcused = [name for name in masters if not self._superseded(name)]
        if len(unexcused) > 1:
            self._fail("I1", f"{' and '.join(unexcused)} serve as master at the same time")

    def _superseded(self, name: str) -> bool:
        host = self.world.pool.hosts[name]
        for opinion in self._opinions.values():
            record = opinion.record
            if any(item.host == host.uuid and item.what is OwedWork.TOMBSTONE for item in record.owed):
                return True
            failover = record.failover
            ours = failover is not None and failover.old_master == host.uuid and failover.step is Step.PROMOTING
            if ours and failover is not None and self.boot_id(name) != failover.old_boot:
                return True
        return False

    def boot_id(self, name: str) -> str:
        return self.world.pool.hosts[name].disk.read("proc/sys/kernel/random/boot_id").decode().strip()

    def _promote_call(self, name: str) -> None:
        self.kills.promoted(name, name not in self.by_hand)
        if name in self.by_hand:
            self.by_hand.remove(name)
            return
        uuid = self.world.pool.hosts[name].uuid
        refusals = [opinion.why_not(name, uuid) for opinion in self._opinions.values()]
        if None in refusals:
            return
        number, why = next((each for each in refusals if each is not None), ("I2", f"{name}: nobody's order"))
        self._fail(number, why)

    def _killed(self, name: str) -> None:
        accepted = sum(sum(opinion.accepted.values()) for opinion in self._opinions.values())
        host = self.world.pool.hosts[name]
        unseen = any(host.uuid in opinion.unseen for opinion in self._opinions.values())
        kills = self.kills.ours(name, self.expected_kills | {kill.name for kill in host.domains.kills if unseen})
        if len(kills) > accepted:
            self._fail("I17", f"xapi on {name} terminated {kills[0].name}: {kills[0].why}")

    def _twice(self) -> None:
        """I10: does a VM run on two hosts?"""
        ledger = self.world.ledger
        if not any(ledger.of(kind) for kind in (Kind.DEAD_INTENT, Kind.START_INTENT)):
            return
        seen: dict[str, str] = {}
        for host in self.world.pool.hosts.values():
            for uuid, name in host.domains.domains().items():
                if uuid in seen:
                    self._fail("I10", f"{name} runs on {seen[uuid]} and on {host.name}")
                seen[uuid] = host.name

    # ------------------------------------------------------------------------------------------ at commits and effects

    def on_commit(self, shell: SimCollector, commit: Commit) -> None:
        """A transaction has become durable, or is in the archive of one of several collectors."""
        self._alerts(self.in_common or shell.node, commit)
        if self.in_common:
            return
        if shell.node not in self._opinions:
            self.opinion(shell.node)  # with this commit in it
            return
        news = any(entry.kind in NEW_THINGS for entry in commit.entries)
        ha_since = self._ha_since() if news else None
        for entry in commit.entries:
            self._opinions[shell.node].add(entry, shell, ha_since)

    def on_shared(self, commit: Commit, shell: SimCollector | None) -> None:
        """Several collectors' etcd has this. ``shell``: its owner's process, where that one guards the pool still."""
        opinion = self._opinions.get(self.in_common)
        if opinion is None:
            self.opinion(self.in_common)  # with this commit in it
            return
        ha_since = self._ha_since() if any(entry.kind in NEW_THINGS for entry in commit.entries) else None
        for entry in commit.entries:
            opinion.add(entry, shell, ha_since)

    def _alerts(self, node: str, commit: Commit) -> None:
        for alert in commit.alerts:
            topic = of_key(self.world.uuid, alert.key)
            about = topic.about
            before = self._told.get((node, about))
            age = self.world.now - before if before is not None else None
            if isinstance(alert, effects.AlertRaised):
                if age is not None and age < MINUTE_MS:
                    self._fail("I18", f"the alert {about} was told {age} ms ago, and is told again: {alert.title}")
                self._told[node, about] = self.world.now
            elif age is not None and age < settling(topic):
                self._fail("I18", f"the alert {about} was told {age} ms ago, and is over: {alert.text}")

    def on_effect(self, shell: SimCollector, effect: effects.Effect) -> None:
        """An effect is about to be performed."""
        opinion = self.opinion(self.in_common or shell.node)
        # One of several that has the pool no more acts on what it knew: whether it may, ownership_rules.py says.
        opinion.allows(effect, shell, not self.in_common or shell is self.world.shell)
        if isinstance(effect, effects.SendOrder):
            self._truth(effect.order)
            self.own_starts.ordered(shell, effect.order, opinion.record)
        if isinstance(effect, effects.PowerOff):
            name = self.world.name_of(effect.host)
            quiet = self.world.now - self.heard_at.get(name, -LIVE_REPORT_MS)
            if quiet < LIVE_REPORT_MS and not opinion.may_kill(effect.host):
                self._fail("I7", f"power-off of {name}, which said something {quiet} ms ago")

    def power_goes(self, name: str, recallable: int) -> None:
        """A fence agent is about to take this host's power; it could be recalled until then. Before its invariants know
        of the host (or where the device is another machine's) there is nothing to say."""
        host, now = self.world.pool.hosts[name], self.world.now
        if not host.power or any(opinion.may_kill(host.uuid) for opinion in self._opinions.values()):
            return
        for heard, sent in self._hearings.get(name, ()):
            if heard <= recallable and now - sent < LIVE_REPORT_MS:
                self._fail("I7", f"the power of {name} goes, which was heard {now - heard} ms ago")

    def _truth(self, order: out.Order) -> None:
        """I10: what an order would do to a host that lives, or to a VM that runs."""
        hosts = self.world.pool.hosts.values()
        if isinstance(order.kind, out.DeclareHostDead):
            if any(host.uuid == order.kind.host and host.power for host in hosts):
                self._fail("I10", f"{self.world.name_of(order.kind.host)} has power and is to be declared dead")
        elif isinstance(order.kind, out.StartVm):
            running = [host.name for host in hosts if order.kind.vm in host.domains.domains()]
            if running:
                self._fail("I10", f"{order.kind.vm} is to be started and runs on {running}")

    def on_heard(self, name: str, sent_at: int) -> None:
        """A collector has heard something that this host's agent sent then."""
        self.heard_at[name] = max(sent_at, self.heard_at.get(name, 0))
        self._hearings.setdefault(name, deque(maxlen=HEARINGS)).append((self.world.now, sent_at))

    def on_numbers(self, name: str, epoch: int, term: int) -> None:
        """An agent said its highest epoch and term."""
        before = self._numbers.get(name, (0, 0))
        if epoch < before[0] or term < before[1]:
            self._fail("I5", f"{name} went from epoch and term {before} to {(epoch, term)}")
        self._numbers[name] = (epoch, term)

    def forget_numbers(self, name: str) -> None:
        """Its durable slot was rolled back, on purpose."""
        self._numbers.pop(name, None)

    # ------------------------------------------------------------------------------------------ at the end

    def finish(self) -> None:
        """What must hold of a whole run: I9, I13 and I15."""
        for bmc in self.world.bmcs.values():
            verbs = {verb for _, verb, _ in bmc.log}
            if not verbs <= {"status", "off", "on"}:
                self._fail("I9", f"{bmc.device} was asked for {sorted(verbs)}")
        shell = self.world.shell
        if shell is None or not shell.alive or shell.frozen or shell.roster.stalled or not self.world.watched:
            return
        record = self.world.record
        if not record.open_alerts and record.paused is None:
            since = self._masterless_since
            if since is not None and self.world.now - since > CALM_MS:
                self._fail("I13", f"nobody serves, the verdict is {self.world.verdict}, and no alert says why")
            if record.failover is not None and record.failover.open and self._quiet_for() > STUCK_MS:
                self._fail(
                    "I13", f"{record.failover.id} stands still at {record.failover.step.value}, and no alert says why"
                )
        self._all_follow()

    def _quiet_for(self) -> int:
        """For how long nothing has been journaled of this pool, ms."""
        commits = [commit.ms for commit in self.world.ledger.commits if commit.pool == self.world.uuid]
        return self.world.now - max(commits, default=0)

    def _long_since(self) -> bool:
        live = self.world.core.live
        return self.world.now - live.verdict.since > CALM_MS

    def _all_follow(self) -> None:
        """I15, where the collector says that all is well."""
        masters = self.world.masters()
        if self.world.verdict != "Healthy" or not self._long_since() or len(masters) != 1:
            return
        record, address = self.world.record, self.world.pool.hosts[masters[0]].address
        topics = [of_key(record.pool, key) for key in record.open_alerts]
        told = [topic.host for topic in topics if topic.matter is Matter.NEXT_START]
        owed = {item.host for item in record.owed} | set(told)
        for name, host in self.world.pool.hosts.items():
            reachable = host.power and not host.frozen and self.world.agents[name].stream is not None
            if not reachable or name in masters or name in self.world.outcasts or host.uuid in owed:
                continue
            if self.world.pool.pool_conf(name) != f"slave:{address}":
                self._fail("I15", f"the pool is Healthy, and {name} follows {self.world.pool.pool_conf(name)}")

    def _fail(self, number: str, why: str) -> NoReturn:
        raise InvariantBroken(f"{number} at {self.world.now} ms: {why}\n{self.world.story()}")


__all__ = ["COLLECTOR", "InvariantBroken", "Invariants"]
