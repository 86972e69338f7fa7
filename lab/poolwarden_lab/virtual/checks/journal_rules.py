"""What one collector's journal says of one pool, and the rules that hold between its entries and its effects.

I2  A promote call reaches a xapi only with a proof of the same failover and term journaled before, and an intent for
    this very host.
I4  One open failover, one candidate per term, and never a second candidate after a promote call.
I6  No effect before its record: every order that changes something, and every power-off, has its intent in the ledger.
I8  Nothing new (decision, power-off, promotion) in quiet time, while paused, in cool-down, or with HA armed. The quiet
    time of a pool that was taken over may end early, but never before 15 s, nor before a power switch of its last
    owner's has landed.
I10 No host is declared dead after a mere toolstack proof.
I12 Every intent has a sentence, an actor, and no term lower than the record's.

Also: before every effect the engine's record is the fold of the ledger, so that a restart stands where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.pool_record import OwedWork, PoolRecord, apply
from poolwarden_lab.virtual.collector.collector import SimCollector

NEW_THINGS = (Kind.DECIDED, Kind.FENCE_INTENT, Kind.PROMOTE_INTENT, Kind.IN_PLACE_INTENT)
INTENTS: dict[type, Kind | tuple[Kind, ...]] = {
    out.Promote: Kind.PROMOTE_INTENT,
    out.Repoint: Kind.REPOINT_INTENT,
    out.RestartXapi: Kind.RESTART_INTENT,
    out.SetTombstone: Kind.TOMBSTONE_INTENT,
    out.ToolstackFence: (Kind.TOOLSTACK_INTENT, Kind.IN_PLACE_INTENT, Kind.DRILL_PHASE),
    out.ToolstackRelease: Kind.RELEASE_INTENT,
    out.DesignateMaster: Kind.DESIGNATE_INTENT,
    out.SyncDatabase: Kind.SYNC_INTENT,
    out.RecoverMembers: Kind.RECOVER_INTENT,
    out.DeclareHostDead: Kind.DEAD_INTENT,
    out.EnableHost: Kind.ENABLE_INTENT,
    out.StartVm: Kind.START_INTENT,
}
TAKEN_OVER_QUIET_MS = 15_000
HA_LAG_MS = 6_000  # until a report has told the collector that HA was armed

Fail = Callable[[str, str], None]


class Opinion:
    """One journal, as it grows. ``fail`` takes an invariant's number and why it is broken; it does not return."""

    def __init__(self, pool: str, entries: Iterable[Entry], fail: Fail) -> None:
        self.record = PoolRecord(pool)
        self.proofs: dict[str, Entry] = {}
        self.unseen: set[str] = set()  # hosts that an operator had told although nobody sees their VMs
        self.accepted: dict[str, int] = {}  # by failover (or question): how many VMs an operator accepted to lose
        self._intents: dict[Kind, set[str]] = {}
        self._candidates: dict[int, str] = {}
        self._meant: set[tuple[str, int]] = set()  # a host, and the generation of the database that it may start with
        self._handed: set[str] = set()  # hosts to which a database was handed for a promotion
        self._called: dict[str, set[str]] = {}  # by failover: hosts whose xapi was told to become master
        self._fail = fail
        for entry in entries:
            self.record = apply(self.record, entry)
            self._remember(entry)

    # ------------------------------------------------------------------------------------------ entries

    def add(self, entry: Entry, shell: SimCollector | None, ha_since: int | None) -> None:
        """A committed entry. ``ha_since``: since when HA is truly armed, ms. ``shell``: whose, if it is still there."""
        if shell is not None:
            self._may_happen(entry, shell, ha_since)
        before = self.record
        if entry.kind is Kind.DECIDED and before.failover is not None and before.failover.open:
            self._fail("I4", f"{entry.failover} was opened while {before.failover.id} is open")
        if entry.kind.value.endswith("-intent") and not (entry.text and entry.actor and entry.term >= 0):
            self._fail("I12", f"{entry.kind.value} without a sentence or an actor")
        if entry.kind in NEW_THINGS and entry.term < before.term:
            self._fail("I12", f"{entry.kind.value} at term {entry.term}, the record's is {before.term}")
        self.record = apply(before, entry)
        self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        if entry.kind is Kind.PROOF:
            self.proofs[entry.failover] = entry
        if entry.kind is Kind.APPROVED:
            self.accepted[entry.failover or entry.text] = int(entry.data.get("accept_kill", 0) or 0)
            if entry.data.get("kind") == Ask.RECOVER.value:
                self.unseen |= set(entry.data["hosts"])
        if entry.kind is Kind.PROMOTE_INTENT:
            other = self._candidates.setdefault(entry.term, entry.data["host"])
            if other != entry.data["host"]:
                self._fail("I4", f"two candidates in term {entry.term}")
        if entry.kind is Kind.IN_PLACE_START:
            self._meant.add((entry.data["host"], entry.data["generation"]))
        if entry.kind is Kind.HANDOVER_INTENT and not entry.data.get("in_place"):
            self._handed.add(entry.data["target"])
        key = entry.data.get("order") or entry.data.get("run") or entry.data.get("transfer") or ""
        self._intents.setdefault(entry.kind, set()).add(str(key))

    def _may_happen(self, entry: Entry, shell: SimCollector, ha_since: int | None) -> None:
        """I8, judged from the durable state before this entry and from the truth about HA."""
        if entry.kind not in NEW_THINGS:
            return
        record, now = self.record, shell.now
        if record.paused is not None:
            self._fail("I8", f"{entry.kind.value} while paused")
        if now < shell.site(record.pool).quiet_until and not self._early(shell):
            self._fail("I8", f"{entry.kind.value} in quiet time")
        if ha_since is not None and shell.world.now - ha_since > HA_LAG_MS:
            self._fail("I8", f"{entry.kind.value} while HA is armed")
        why = str(entry.data.get("why", ""))
        by_operator = "confirmed" in why or "approved by" in why or entry.actor != "poolwarden"
        if record.cooldown and entry.kind is Kind.DECIDED and not by_operator:
            self._fail("I8", "a decision within the cool-down")

    def _early(self, shell: SimCollector) -> bool:
        """Of a pool that was taken over it ends after 15 s where every host on record has said Hello since."""
        taken = shell.site(self.record.pool).takeover
        if taken is None or shell.now < taken.claimed_at + TAKEN_OVER_QUIET_MS:
            return False
        heard = shell.pools[self.record.pool].live.agents
        return all(host in heard for host in self.record.hosts)

    def may_kill(self, host: str) -> bool:
        """Has an operator let this host be powered off although it lives?"""
        failover, switch = self.record.failover, self.record.after.switches.get(host)
        forced = switch is not None and switch.forced
        return forced or (failover is not None and failover.old_master == host and failover.id in self.accepted)

    # ------------------------------------------------------------------------------------------ placed databases

    def lets_load(self, host: str, generation: int) -> bool:
        """May this host's xapi start with a database of this generation that was placed there?"""
        return (host, generation) in self._meant or host in self._handed

    def accounts_for(self, host: str) -> bool:
        """Is a database that lies on this host still to be used, or owed its removal?"""
        record = self.record
        held = record.in_place is not None and record.in_place.host == host
        owed = any(
            item.host == host and item.what in (OwedWork.REMOVE_DATABASE, OwedWork.RELEASE) for item in record.owed
        )
        failover = record.failover
        placed = failover is not None and failover.open and host in failover.hold.placed_on
        return held or owed or placed

    # ------------------------------------------------------------------------------------------ effects

    def allows(self, effect: effects.Effect, shell: SimCollector, owner: bool = True) -> None:
        """An effect is about to be performed; ``owner``: by whoever writes this journal."""
        known = shell.pools.get(self.record.pool) if owner else None
        if known is not None and known.record != self.record:
            self._fail("I6", "the engine's record is not the fold of the ledger")
        if isinstance(effect, effects.SendOrder):
            self._order(effect.order)
        elif isinstance(effect, effects.PowerOff | effects.PowerOn) and not self._intended(effect.run_id):
            self._fail("I6", f"power-off {effect.run_id} without an intent")
        elif isinstance(effect, effects.HandOver) and effect.transfer_id not in self._intents.get(
            Kind.HANDOVER_INTENT, ()
        ):
            self._fail("I6", f"handover {effect.transfer_id} without an intent")

    def _intended(self, run: str) -> bool:
        return any(run in self._intents.get(kind, ()) for kind in (Kind.FENCE_INTENT, Kind.SWITCH_INTENT))

    def _order(self, order: out.Order) -> None:
        named = INTENTS.get(type(order.kind), ())
        kinds = named if isinstance(named, tuple) else (named,)
        if kinds and not any(order.order_id in self._intents.get(kind, ()) for kind in kinds):
            self._fail("I6", f"{order.kind_name} {order.order_id} without a durable intent")
        if isinstance(order.kind, out.DeclareHostDead):
            proofs = [entry for entry in self.proofs.values() if entry.data.get("old_master") == order.kind.host]
            if proofs and proofs[-1].data["kind"] == "toolstack":
                self._fail("I10", f"{order.kind.host} is declared dead after a mere toolstack proof")

    # ------------------------------------------------------------------------------------------ promote calls

    def why_not(self, name: str, uuid: str) -> tuple[str, str] | None:
        """Which rule forbids that this host's xapi was told to become master now, by this journal; None: none does."""
        failover = self.record.failover
        if failover is None or failover.id not in self.proofs:
            return "I2", f"{name} was told to become master without a proof"
        if self.proofs[failover.id].term != failover.term:
            return "I2", f"{name}: the proof is of term {self.proofs[failover.id].term}, not {failover.term}"
        if failover.candidate != uuid or failover.step not in (Step.PROMOTING, Step.PROMOTED):
            return "I2", f"{name} was told to become master without an intent for it"
        called = self._called.setdefault(failover.id, set())
        called.add(name)
        if len(called) > 1:
            return "I4", f"two hosts were promoted in one failover: {sorted(called)}"
        return None
