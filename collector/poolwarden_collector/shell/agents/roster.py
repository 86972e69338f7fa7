"""What every part of the shell may read: the pools as of the last commit, and the collector's own condition.

Only the service writes it; agents' gateway, operator's interface and alerts read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, NoReturn

from poolwarden_collector.core.catalogue.journal import JOURNAL_DAMAGED
from poolwarden_collector.core.decision.storm_brake import Blind
from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.model.epoch import HIGHEST
from poolwarden_collector.core.model.host_facts import Machine
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.agents.charge import Charge
from poolwarden_collector.shell.agents.elsewhere import NOBODYS, Elsewhere
from poolwarden_collector.shell.agents.messages.bounds import Limits
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.tally import Tally

_WARNINGS_KEPT = 20
_BEHIND = "THIS COLLECTOR IS {:.1f} s BEHIND what it hears (machine or disk too slow): nothing is begun"
_STALLED = "NOTHING IS DECIDED OR DONE in pool {}: {}"
_NO_RIGHT = "THIS COLLECTOR ACTS IN NO POOL: {}; look at etcd: this collector's log names what it answers"
_UNARCHIVED = "THIS COLLECTOR'S OWN JOURNAL CANNOT BE WRITTEN: its history gets a hole, and no alert is delivered: {}"
_AT_ENTRANCE = (
    "THIS COLLECTOR CARRIES NO MORE AT PRESENT: {} agents wait to be let in, the first for {:.0f} s, and are not "
    "guarded meanwhile. Give it a faster processor, or another collector some of its pools (docs/limits.md)"
)
_WAITS = "{} fence runs wait for their turn, the longest for {:.0f} s: poolwarden doctor"
COUNTED_MS: Ms = 2_500  # until all collectors have read a site's counts, each once a second
RUNNING_MS: Ms = 1_000  # for which it is known which VMs run in which pools: hosts tell theirs every two seconds
LONG_WAIT_MS: Ms = 5_000  # of a fence run that something waits for, and of an agent that is not let in
_FOLDED = "a pool writes too much: {} entries that only inform were counted instead of written since the start"


# What no step is told of; how late the collector is has its own rule in rest.py.
_NO_CONDITION = frozenset(
    {
        "pools",
        "now",
        "behind_ms",
        "told_behind",
        "stalled",
        "stalled_at",
        "stalls",
        "unarchived",
        "right",
        "without_right",
        "elsewhere",
        "right_until",
        "acts_from",
        "reload_refused",
        "damage",
        "_warnings",
        "_running",
        "tally",
    }
)


def _word(blind: Blind) -> str:
    return "braked" if blind.young else "blind"


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _rhythm(policy: Policy) -> tuple[Ms | str, ...]:
    """What says how often agents speak, and with which pools this one falls silent together."""
    return policy.report_interval, policy.probe_interval, policy.probe_timeout, policy.site


class Pools(dict[PoolId, Pool]):
    """The pools by their UUIDs, and in which of them each host is on record: found at once, however many there are."""

    def __init__(self) -> None:
        super().__init__()
        self._listed: dict[HostId, dict[PoolId, None]] = {}  # the values are sets in the order of listing

    def of(self, host: HostId) -> tuple[PoolId, ...]:
        """The pools that have this host on record."""
        return tuple(self._listed.get(host, ()))

    def __setitem__(self, uuid: PoolId, pool: Pool) -> None:
        before = self.get(uuid)
        super().__setitem__(uuid, pool)
        if before is None or before.record.hosts is not pool.record.hosts:
            was = before.record.hosts.keys() if before is not None else set()
            self._list(uuid, pool.record.hosts.keys() - was, was - pool.record.hosts.keys())

    def __delitem__(self, uuid: PoolId) -> None:
        self._list(uuid, set(), self[uuid].record.hosts.keys())
        super().__delitem__(uuid)

    def update(self, pools: Iterable[tuple[PoolId, Pool]]) -> None:  # type: ignore[override]
        for uuid, pool in pools:
            self[uuid] = pool

    def _not_so(self, *_: object) -> NoReturn:
        raise TypeError("a pool is put here, replaced or deleted, in no other way")

    pop = popitem = clear = setdefault = __ior__ = _not_so

    def _list(self, uuid: PoolId, come: Iterable[HostId], gone: Iterable[HostId]) -> None:
        for host in come:
            self._listed.setdefault(host, {})[uuid] = None
        for host in gone:
            self._listed[host].pop(uuid)
            if not self._listed[host]:
                del self._listed[host]


class Roster:
    """The pools that this collector guards.

    ``one_of_several``: it guards those alone that it owns (``take_charge``), each with an epoch of its own; its own
    ``epoch`` goes out to nobody then.
    """

    def __init__(
        self, config: Config, epoch: int, now: Callable[[], Ms], clock: str = "", one_of_several: bool = False
    ) -> None:
        self.config = config
        self.one_of_several = one_of_several
        self.epoch = epoch
        self.raised: tuple[int, ...] = ()  # every epoch of this run, once a host's word has raised it
        self.now = now
        self.clock = clock or f"run {epoch}"  # which clock that is; one without a name is this run's alone
        self.started_at = now()
        self.pools = Pools()
        self._charges: dict[PoolId, Charge] = {}  # of one of several
        self.sites: dict[str, Blind] = {}  # sites towards which it considers itself blind
        self.stood_down: dict[PoolId, str] = {}  # pools in which another collector is obeyed, and how that is known
        self.stalled = ""  # why nothing can be made durable; empty: it can
        self.stalled_at: Ms | None = None
        self.stalls: dict[PoolId, str] = {}  # of one of several: pools in which nothing can be made durable, and why
        self.scouts: dict[PoolId, HostId] = {}  # of one of several: whose agent it has sent to look at another one
        self.unarchived = ""  # of one of several: why its own journal cannot be written; empty: it can
        self.right: Callable[[], str] = str  # of one of several: why it may act nowhere now; empty: it may
        self.without_right: Callable[[], Ms] = int  # of one of several: for how long it may not act; 0: it may
        self.elsewhere: Callable[[PoolId], Elsewhere] = lambda _: NOBODYS  # of one of several: who has a pool
        self.acts_from: Ms = 0  # of one of several: before it had no right, or missed agents that it had sent away
        self.right_until: Callable[[], Ms] = lambda: 1 << 62  # of one of several: until when, on CLOCK_BOOTTIME
        self.behind_ms: Ms = 0  # how long ago what was taken in last has arrived
        self.told_behind = False
        self._quiet_from = self.started_at
        self._quiet_sites: dict[str, Ms] = {}
        self._quiet_pools: dict[PoolId, Ms] = {}
        self.damage = ""  # what was found damaged in the journal and nobody has taken note of; empty: nothing
        self.reload_refused = ""  # why the file as it is now is not in use; empty: it is, as far as is known
        self.fence_waits: Callable[[], dict[Urgency, tuple[int, Ms]]] = dict  # how many wait, and the longest, ms
        self.at_entrance: Callable[[], tuple[int, Ms]] = lambda: (0, 0)  # how many wait to be let in; the first, ms
        self._warnings: dict[str, tuple[str, int]] = {}
        # As of when; of which VMs; and in which pools each of them runs.
        self._running: tuple[Ms, frozenset[str], dict[str, set[PoolId]]] = (0, frozenset(), {})
        self.tally = Tally()

    def site(self, pool: PoolId, behind_ms: Ms | None = None) -> Site:
        """The collector's condition as this pool must know it. ``behind_ms``: of this step; None: of the last one."""
        blind = self.sites.get(self.config.policy_of(pool).site)
        charge = self.charge(pool)
        why = blind.why if blind else ""
        scout, cut_off = self.scouts.get(pool, ""), self.cut_off
        return Site(
            charge.epoch,
            charge.started_at,
            self.quiet_until(pool),
            why,
            self.behind_ms if behind_ms is None else behind_ms,
            self.why_not_in_charge(pool),
            charge.clock,
            raised=charge.raised,
            takeover=charge.takeover,
            cut_off=cut_off,
            # safety: with the right to act every agent that is away is silent.
            scouts=frozenset({scout}) if scout and cut_off else frozenset(),
            young=blind is not None and blind.young,
            elsewhere=self._elsewhere(pool),
        )

    def _elsewhere(self, pool: PoolId) -> frozenset[str]:
        """VMs in this pool's queue of starts that run in another pool, whoever may have brought them there."""
        queued = self._queued(pool)
        if not queued:
            return queued
        at, asked, found = self._running
        # Asked at each step of a pool whose queue may stand for hours; looking through all hosts costs milliseconds.
        if not queued <= asked or not 0 <= self.now() - at < RUNNING_MS:
            asked = frozenset[str]().union(*map(self._queued, self.pools))
            found = self._who_runs(asked)
            self._running = (self.now(), asked, found)
        return frozenset(vm for vm in queued if found.get(vm, {pool}) != {pool})

    def _queued(self, pool: PoolId) -> frozenset[str]:
        """The VMs in this pool's queue of starts."""
        own = self.pools.get(pool)
        lost = own.record.after.lost if own is not None else {}
        return frozenset(vm.vm for vm in lost.values() if vm.state == "queued")

    def _who_runs(self, vms: frozenset[str]) -> dict[str, set[PoolId]]:
        """In which pools a connected host has a domain of each; a VM that runs nowhere is not there."""
        found: dict[str, set[PoolId]] = {}
        for uuid, pool in self.pools.items():
            for agent in pool.live.agents.values():
                if agent.connected and not vms.isdisjoint(agent.facts.domains or ()):
                    for vm in vms.intersection(agent.facts.domains or ()):
                        found.setdefault(vm, set()).add(uuid)
        return found

    # ------------------------------------------------------------------------------------------------ in charge, or not

    def charge(self, pool: PoolId) -> Charge:
        """With what this collector acts in this pool; of no meaning where ``why_not_in_charge`` says something."""
        own = self._charges.get(pool)
        if own is not None:
            return own
        # safety: of a pool that it does not own one of several has no epoch, and every host's gate refuses 0.
        if self.one_of_several:
            return Charge(0, self.started_at, self.clock)
        return Charge(self.epoch, self.started_at, self.clock, self.raised)

    def owns(self, pool: PoolId) -> bool:
        """May this pool be guarded here at all? One collector alone guards whatever comes."""
        return not self.one_of_several or pool in self._charges

    def why_not_in_charge(self, pool: PoolId) -> str:
        """Why this collector may do nothing in this pool; empty: it may."""
        if why := self.stood_down.get(pool, ""):
            return why
        return "" if self.owns(pool) else "this collector does not own the pool"

    def take_charge(self, pool: PoolId, epoch: int, now: Ms, left: LeftBehind | None = None) -> None:
        """One of several: the pool is this one's from now on, and quiet: nobody has been heard yet.

        ``left``: by the owner before; None: nobody has ever had it.
        """
        taken = left.since(now) if left is not None else None
        self._charges[pool] = Charge(epoch, now, self.clock, takeover=taken)
        self._quiet_pools[pool] = now

    def give_back(self, pool: PoolId) -> None:
        """The pool is another one's from now on; nothing is kept of it."""
        if pool in self.pools:
            del self.pools[pool]
        for kept in (self._charges, self.stood_down, self.stalls, self._quiet_pools, self.scouts):
            kept.pop(pool, None)
        if not self.pools:
            self.behind_ms = 0  # it hears nothing, and so is behind with nothing

    def why_no_act(self, pool: PoolId) -> str:
        """Why no order and no power switch may be begun in this pool at this instant; empty: they may."""
        return self.why_not_in_charge(pool) or self.right()

    # ------------------------------------------------------------------------------------------------ its condition

    def condition(self) -> dict[str, Any]:
        """Everything of which ``site`` is made, to be compared with itself later: what is not named here counts."""
        kept = {name: _copied(value) for name, value in vars(self).items() if name not in _NO_CONDITION}
        return {**kept, "cut_off": self.cut_off}

    @property
    def cut_off(self) -> bool:
        """One of several that may act nowhere."""
        return self.one_of_several and bool(self.right())

    @property
    def blind(self) -> str:
        """Every reason why it considers itself blind; empty if there is none."""
        return "; ".join(dict.fromkeys(blind.why for _, blind in sorted(self.sites.items()) if not blind.young))

    def limits(self, pool: PoolId) -> Limits:
        """The highest numbers that a host of this pool may claim now."""
        known = self.pools.get(pool)
        term = max(known.record.term if known is not None else 0, self.config.term_above)
        if not self.owns(pool):
            return Limits(HIGHEST, HIGHEST)  # it obeys another collector, to which it is sent on; nothing is concluded
        return Limits.beyond(max(self.charge(pool).epoch, self.config.epoch_above), term)

    def quiet_until(self, pool: PoolId) -> Ms:
        """When this pool's start-up quiet time ends (or ended)."""
        policy = self.config.policy_of(pool)
        began = max(self._quiet_from, self._quiet_sites.get(policy.site, 0), self._quiet_pools.get(pool, 0))
        planned = began + policy.quiet_time
        # While there is no right nobody knows when there will be: that is told as what it is (``Site.cut_off``).
        return planned if self.cut_off else max(planned, self.acts_from)

    def young(self, now: Ms) -> frozenset[PoolId]:
        """Pools that this collector has taken over so lately that nobody can have been found silent there.

        Where every host has said Hello that ends early, with the pool's quiet time. A pool is counted ``COUNTED_MS``
        before that is over: the site's sum must have it by then, else the pool is told to be unseen.
        """
        return frozenset(
            pool for pool, charge in self._charges.items() if now + COUNTED_MS < self._young_until(pool, charge, now)
        )

    def _young_until(self, pool: PoolId, charge: Charge, now: Ms) -> Ms:
        planned = min(self.quiet_until(pool), charge.started_at + self.config.policy_of(pool).quiet_time)
        known = self.pools.get(pool)
        if known is None or now >= planned:
            return planned
        return min(planned, Snapshot(known, now, self.site(pool)).quiet_until)

    def be_quiet_again(self, now: Ms, pool: PoolId | None = None) -> None:
        """The collector was away (from this pool): what it remembers of agents' silence is its own."""
        if pool is None:
            self._quiet_from = now
        else:
            self._quiet_pools[pool] = now

    def quiet_for_less(self, pool: PoolId, since: Ms, ms: Ms) -> None:
        """The pool's quiet time that began then lasts no longer than this; not one that has begun later."""
        if self._quiet_pools.get(pool) == since:
            less = max(0, self.config.policy_of(pool).quiet_time - ms)
            # safety: in the quiet time of a takeover it would end with that (taken_over.quiet_ends), at old Hellos.
            self._quiet_pools[pool] = max(since - less, min(since, self.charge(pool).started_at + 1))

    def reconfigure(self, config: Config, now: Ms) -> None:
        """From now on this is the configuration.

        A pool whose agents are to report or to probe at other times, or that is of another site now, is quiet anew:
        they go on as they were told before until they hear of it. A site that is not seen stays so under its new name.
        """
        before, self.config, self.reload_refused = self.config, config, ""
        for pool in self.pools:
            was, is_now = before.policy_of(pool), config.policy_of(pool)
            if _rhythm(was) != _rhythm(is_now):
                self._quiet_pools[pool] = now
            if was.site in self.sites and is_now.site not in self.sites:
                self.sites = {**self.sites, is_now.site: self.sites[was.site]}

    def judged(self, sites: dict[str, Blind], now: Ms) -> tuple[str, ...]:
        """Take the newest judgement of the sites; those that it sees again are quiet anew. What to log."""
        changes = [f"{_word(blind)}: {blind.why}" for site, blind in sites.items() if site not in self.sites]
        for site in self.sites.keys() - sites.keys():
            towards = f"not {_word(self.sites[site])} any more{f' towards site {site}' if site else ''}"
            if self.sites[site].silent:
                self._quiet_sites[site] = now
                towards += ": quiet time begins anew"
            changes.append(towards)
        self.sites = sites
        return tuple(changes)

    def shown_at(self) -> Ms:
        """The instant as of which states are shown: now, or when the journal failed and time stood still for pools."""
        return self.now() if self.stalled_at is None else self.stalled_at

    def pool_of(self, host: HostId) -> PoolId:
        """The pool in which this host has spoken, else the only one that has it on record; empty: none, or several."""
        listed = self.pools.of(host)
        return self.spoke_in(host) or (listed[0] if len(listed) == 1 else "")

    def on_record(self, pool: PoolId, host: HostId) -> bool:
        """Is this host on record in this pool, if only by its master?"""
        known = self.pools.get(pool)
        return known is not None and host in known.record.hosts

    def spoke_in(self, host: HostId) -> PoolId:
        """The pool of which this host's own agent was; empty: none. That a master lists it makes it nobody's."""
        found = self.pools.of(host)
        return next((uuid for uuid in found if self.pools[uuid].record.hosts[host].boot_id), "")

    def pool_label(self, pool: PoolId) -> str | None:
        """The name of a guarded pool, its UUID where it has none; None: it is not guarded."""
        known = self.pools.get(pool)
        return known.record.display_name if known is not None else None

    def machine(self, host: HostId) -> dict[str, str]:
        """What is known of the machine of this host, by the names of ``Machine``; empty: nothing."""
        pool = self.pools.get(self.spoke_in(host))
        if pool is None:
            return {}
        agent = pool.live.agents.get(host)
        told = agent.hello.machine if agent is not None else Machine(pool.record.hosts[host].system_uuid)
        return {item.name: getattr(told, item.name) for item in fields(Machine)}

    def warn(self, text: str, about: str = "") -> None:
        """Something that an operator should see in ``status``, the newest last.

        ``about``: what stays the same where the text has numbers; of each such topic only the newest text is kept,
        with how often it came.
        """
        topic = about or text
        _, count = self._warnings.pop(topic, ("", 0))
        self._warnings[topic] = (text, count + 1)
        if len(self._warnings) > _WARNINGS_KEPT:
            del self._warnings[next(iter(self._warnings))]

    def long_waits(self) -> tuple[int, Ms]:
        """How many fence runs that something waits for wait too long for their turn, as the longest does, ms."""
        found = [each for urgency, each in self.fence_waits().items() if urgency is not Urgency.ROUTINE]
        longest = max((wait for _, wait in found), default=0)
        return (sum(count for count, _ in found), longest) if longest > LONG_WAIT_MS else (0, 0)

    def warnings(self) -> tuple[str, ...]:
        stood_down = [
            f"THIS COLLECTOR HAS STOOD DOWN in pool {self._name(pool)}, it is read-only there: {why}"
            for pool, why in self.stood_down.items()
        ]
        stood_down += [_STALLED.format(self._name(pool), why) for pool, why in self.stalls.items()]
        stood_down += [_NO_RIGHT.format(why)] if (why := self.right()) else []
        stood_down += [_UNARCHIVED.format(self.unarchived)] if self.unarchived else []
        late = [_BEHIND.format(self.behind_ms / 1000)] if self.told_behind and self.pools else []
        agents, first = self.at_entrance()
        late += [_AT_ENTRANCE.format(agents, first / 1000)] if first > LONG_WAIT_MS else []
        waits, longest = self.long_waits()
        late += [_WAITS.format(waits, longest / 1000)] if waits else []
        folded = [_FOLDED.format(self.tally.entries)] if self.tally.entries else []
        refused = [f"the configuration's file is not in use: {self.reload_refused}"] if self.reload_refused else []
        kept = [text if count == 1 else f"{text} ({count} times)" for text, count in self._warnings.values()]
        damage = [f"{self.damage}; noted: poolwarden alerts ack {JOURNAL_DAMAGED.id}"] if self.damage else []
        return (*stood_down, *damage, *late, *refused, *folded, *self.config.cautions(), *kept)

    def _name(self, pool: PoolId) -> str:
        known = self.pools.get(pool)
        return known.record.name if known is not None and known.record.name else pool
