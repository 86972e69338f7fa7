"""Who may act for a pool: every state of two collectors with leases, two agents' gates and one fence device.

What is modelled
----------------
* etcd: the owner's key under a lease, its epoch, the generation, power-offs that were intended and have no result. A
  transaction is one step; one may stay unanswered and be carried out later. A lease ends ``TTL`` ticks after its last
  renewal, or once too early (``let_go``); a leader that is stuck answers a renewal and renews nothing (``stuck``).
* A collector: what it believes of its ownership, and how long ago the last renewal that counts was *sent*. It may stand
  still at any point: between its commit, its check, and what follows. Orders carry the time of their check, because
  they are valid on the agent's own clock from the message on which they rest.
* An agent: the highest epoch that it has heard. Whether anybody reaches it is chance.
* The fence device: a power-off that was begun lands within ``LIMIT`` ticks or never, and asks for no epoch.
* Time: a tick may come at any moment; ages are counted as far as a rule looks at them.

What must hold
--------------
* E1: nothing is sent that is not in etcd, under this ownership.
* E2: every ownership has an epoch above all before it.
* E3: no agent carries out an order of a former owner once a new one has begun a failover.
* E4: no power-off of a former owner lands once a new one has concluded anything from power.
* E5: nobody believes in his right to act while another owns the pool (but for a lease that was let go too early).
* E6: what an owner takes for not done does not come afterwards; a promise that nothing is under way is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from .explorer import Found, Step, explore

TTL, RIGHT, VALID, LIMIT, FRESH = 3, 2, 1, 1, 0  # ticks
WAIT_ORDERS = TTL + VALID + 1  # from the claim on: the right, and the order's time
WAIT_POWER = FRESH + LIMIT + 1
LONGEST = max(WAIT_ORDERS, WAIT_POWER)
GONE = -1
IDLE, DOUBT, OFF, CHECKED, ORDER = "idle", "in doubt", "off intended", "off checked", "order intended"
NOBODY = -1
GENERATION = 100
NAMES = ("A", "B")
AGENTS = ("M", "S")
TO = 1  # the agent that orders are sent to


class Rule(Enum):
    """What keeps the ownership safe; each can be taken away."""

    COMMIT_FIRST = "what is sent is in etcd first"
    COMPARE = "a commit compares the owner's key"
    GENERATION = "after a restore a person raises the generation"
    EPOCH_GATE = "an agent refuses an epoch lower than its own"
    WAIT_ORDERS = "a taker begins no failover before every agent has heard it or the last owner's orders are over"
    ORDER_RIGHT = "an order is sent within two thirds of the lease's time"
    OFF_RIGHT = "a power-off is begun within two thirds of the lease's time"
    OFF_FRESH = "a power-off is begun within 2 s of its entry in etcd"
    CHILD_CHECKS = "who begins a power-off checks right before, with nothing in between"
    WAIT_POWER = "a taker concludes nothing from power while a power-off without a result may land"
    SENDING = "the lease's time counts from the sending of a renewal"
    CONFIRM = "a renewal counts only with a linearizable read after it, in the same term"
    DOUBT = "a commit without an answer is neither done nor not done"
    CLOSE_FIRST = "who gives a pool up begins nothing from before that is sent"
    AT_REST = "only a pool with nothing under way is given up"


class Collector(NamedTuple):
    """``epoch`` is what it believes to own the pool with, 0: nothing."""

    lease: int = 0  # ticks since etcd renewed it
    sent: int = 0  # ticks since the sending of the last renewal that counts
    renewal: int = GONE  # ticks since one was sent that has no answer yet
    answer: int = 0  # 1: etcd has renewed it, 2: etcd knows no such lease, 3: a stuck leader says that it has
    epoch: int = 0
    claimed: int = LONGEST  # ticks since the answer to its claim
    handed: bool = False
    acknowledged: int = 0  # agents, as bits
    stage: str = IDLE
    begun: bool = False


NO_MORE = Collector(lease=GONE, sent=RIGHT)


class Left(NamedTuple):
    """How often each may still happen."""

    claims: int = 1
    offs: int = 1
    orders: int = 1
    let_go: int = 0
    stuck: int = 0
    restores: int = 0
    doubts: int = 0
    releases: int = 0


class World(NamedTuple):
    """The whole state; offs and orders on their way as (epoch, age) and (epoch, agent, age)."""

    collectors: tuple[Collector, ...]
    left: Left
    owner: int = 0
    revision: int = 1
    generation: int = 1
    highest: int = GENERATION + 1  # of all epochs that were ever given
    handed: bool = False
    intents: frozenset[tuple[int, int]] = frozenset()
    offs: frozenset[tuple[int, int]] = frozenset()
    orders: frozenset[tuple[int, int, int]] = frozenset()
    agents: tuple[int, int] = (GENERATION + 1, GENERATION + 1)
    begun: int = 0
    concluded: int = 0
    lingering: tuple[str, int] = ("", 0)  # a commit or a release that etcd may still carry out, of which epoch
    denied: int = 0  # an epoch whose owner has taken that for not done
    early: bool = False  # a lease was let go too early, or etcd has forgotten it


@dataclass(frozen=True)
class Setting:
    """One configuration."""

    name: str
    left: Left = field(default_factory=Left)
    steady: bool = True  # B's lease and right never end: what A may break is looked at
    slow: bool = False  # a renewal takes its time to etcd and back; otherwise it is one step
    without: frozenset[Rule] = frozenset()

    def keeps(self, rule: Rule) -> bool:
        return rule not in self.without

    def start(self) -> World:
        """A owns the pool and every agent has heard it."""
        first = Collector(epoch=GENERATION + 1, acknowledged=3, begun=True)
        return World((first, Collector()), self.left, begun=GENERATION + 1, concluded=GENERATION + 1)


def run(s: Setting) -> Found:
    """Explore a configuration to its end."""
    return explore(s.start(), lambda w: (step._replace(after=_in_short(step.after)) for step in steps(w, s)))


def _in_short(w: World) -> World:
    """The same without what nothing looks at any more, so that worlds which only differ in that are one."""
    acts = w.left.offs or w.left.orders
    orders = w.left.orders or w.orders or any(c.stage == ORDER for c in w.collectors)
    for i, c in enumerate(w.collectors):
        if not c.epoch and not w.left.claims:
            w = _with(w, i, **NO_MORE._asdict())
            continue
        if c.begun and (w.concluded >= c.epoch or not c.epoch):
            w = _with(w, i, claimed=LONGEST, handed=False)
        if c.epoch and not acts and not w.left.releases and c.stage in (IDLE, DOUBT) and not w.left.stuck:
            w = _with(w, i, sent=RIGHT, renewal=GONE, answer=0)
    if not orders:
        heard = [c._replace(acknowledged=3 if c.begun else c.acknowledged) for c in w.collectors]
        w = w._replace(agents=(0, 0), collectors=tuple(heard))
    return w


def steps(w: World, s: Setting) -> Iterator[Step]:
    """Everything that can happen next."""
    yield Step("a tick passes", _tick(w, s))
    yield from _lingers(w, s)
    yield from _lands(w, s)
    for i in (0, 1):
        if i == 0 or not s.steady:
            yield from _lease(w, s, i)
        yield from _owning(w, s, i)
        if w.collectors[i].epoch:
            yield from _off(w, s, i)
            yield from _order(w, s, i)
            yield from _takes(w, s, i)
            yield from _gives_up(w, s, i)


# ------------------------------------------------------------------------------------------------ helpers


def _with(w: World, i: int, **changes: object) -> World:
    changed = w.collectors[i]._replace(**changes)
    return w._replace(collectors=tuple(changed if n == i else c for n, c in enumerate(w.collectors)))


def _less(w: World, name: str) -> World:
    return w._replace(left=w.left._replace(**{name: getattr(w.left, name) - 1}))


def _epoch(w: World) -> int:
    """Of the present owner."""
    return w.generation * GENERATION + w.revision


def _owns(w: World, i: int) -> bool:
    """Do the compares of a write by this collector hold?"""
    return w.owner == i and w.collectors[i].epoch == _epoch(w)


def _right(c: Collector) -> bool:
    return c.sent < RIGHT


def _stands_down(w: World, i: int) -> World:
    return _with(w, i, epoch=0, stage=IDLE, begun=False, acknowledged=0, handed=False, claimed=0)


def _ends(w: World, i: int) -> World:
    """etcd lets the lease of a collector go."""
    w = _with(w, i, lease=GONE)
    return w._replace(owner=NOBODY) if w.owner == i else w


# ------------------------------------------------------------------------------------------------ time


def _tick(w: World, s: Setting) -> World:
    collectors = tuple(
        c._replace(
            lease=c.lease if c.lease == GONE else c.lease + 1,
            sent=min(c.sent + 1, RIGHT),
            renewal=c.renewal if c.renewal == GONE else min(c.renewal + 1, RIGHT),
            claimed=min(c.claimed + 1, LONGEST),
        )
        if i == 0 or not s.steady
        else c._replace(claimed=min(c.claimed + 1, LONGEST))
        for i, c in enumerate(w.collectors)
    )
    w = w._replace(
        collectors=collectors,
        intents=frozenset((epoch, min(age + 1, FRESH + 1)) for epoch, age in w.intents),
        offs=frozenset((epoch, age + 1) for epoch, age in w.offs if age < LIMIT),
        orders=frozenset((epoch, agent, age + 1) for epoch, agent, age in w.orders if age < VALID),
    )
    for i in (0, 1):
        if w.collectors[i].lease >= TTL:
            w = _ends(w, i)
    return w


def _lands(w: World, s: Setting) -> Iterator[Step]:
    for off in w.offs:
        broken = "E4" if off[0] < w.concluded else ""
        yield Step(f"the power-off of {off[0]} lands", w._replace(offs=w.offs - {off}), broken)
    for order in w.orders:
        epoch, agent, _ = order
        if s.keeps(Rule.EPOCH_GATE) and epoch < w.agents[agent]:
            continue
        agents = tuple(max(have, epoch) if n == agent else have for n, have in enumerate(w.agents))
        broken = "E3" if epoch < w.begun else ""
        after = w._replace(orders=w.orders - {order}, agents=agents)
        yield Step(f"{AGENTS[agent]} carries out the order of {epoch}", after, broken)


# ------------------------------------------------------------------------------------------------ leases


def _lease(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    if c.lease == GONE and c.renewal == GONE and not c.epoch:
        if not w.left.claims:
            return
        yield Step(f"{name} joins anew", _with(w, i, lease=0, sent=0))
    elif not s.slow:
        if c.lease == GONE:
            yield Step(f"{name} hears that its lease is gone", _stands_down(w, i))
        elif c.lease or c.sent:
            yield Step(f"{name} renews its lease", _with(w, i, lease=0, sent=0))
    elif c.renewal == GONE:
        yield Step(f"{name} sends a renewal", _with(w, i, renewal=0, answer=0))
    elif not c.answer:
        if c.lease == GONE:
            yield Step(f"etcd knows no lease of {name}", _with(w, i, answer=2))
        else:
            yield Step(f"etcd renews the lease of {name}", _with(w, i, answer=1, lease=0))
        if w.left.stuck:
            yield Step(f"a stuck leader answers {name}", _less(_with(w, i, answer=3), "stuck"))
    else:
        yield from _answered(w, s, i)
    if w.left.let_go and c.lease != GONE:
        yield Step(f"etcd lets the lease of {name} go too early", _less(_ends(w, i), "let_go")._replace(early=True))


def _answered(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    done = _with(w, i, renewal=GONE, answer=0)
    if c.answer == 2:
        yield Step(f"{name} hears that its lease is gone", _stands_down(done, i))
        return
    if c.answer == 3 and s.keeps(Rule.CONFIRM):
        yield Step(f"{name} cannot read after its renewal", done)
        return
    if c.answer == 1 and s.keeps(Rule.CONFIRM) and c.lease == GONE:
        yield Step(f"{name} reads that its lease is gone", _stands_down(done, i))
        return
    counted = c.renewal if s.keeps(Rule.SENDING) else 0
    after = _with(done, i, sent=min(c.sent, counted))
    yield Step(f"{name} has its renewal answered", after, _why_no_right(after, i))


def _why_no_right(w: World, i: int) -> str:
    """E5, for a collector that has just got a right, or whose pool has just got another owner."""
    c = w.collectors[i]
    return "E5" if c.epoch and _right(c) and w.owner not in (i, NOBODY) and not w.early else ""


# ------------------------------------------------------------------------------------------------ owning


def _owning(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    if w.owner == NOBODY and c.lease != GONE and not c.epoch and w.left.claims:
        claimed = _less(w, "claims")._replace(owner=i, revision=w.revision + 1, handed=False)
        epoch = _epoch(claimed)
        broken = "E2" if epoch <= w.highest else _why_no_right(claimed, 1 - i)
        claimed = claimed._replace(highest=max(w.highest, epoch))
        mine = {"epoch": epoch, "claimed": 0, "handed": w.handed, "acknowledged": 0, "begun": False, "stage": IDLE}
        yield Step(f"{name} claims the pool with {epoch}", _with(claimed, i, **mine), broken)
    if w.left.restores and w.revision > 1:
        older = _less(w, "restores")._replace(owner=NOBODY, revision=w.revision - 1, handed=False, early=True)
        if s.keeps(Rule.GENERATION):
            older = older._replace(generation=w.generation + 1)
        yield Step("etcd is restored from a backup", older)


def _takes(w: World, s: Setting, i: int) -> Iterator[Step]:
    """Agents hear it, it begins a failover, it concludes from power."""
    c, name = w.collectors[i], NAMES[i]
    for agent in (0, 1):
        if not c.acknowledged >> agent & 1 and c.epoch >= w.agents[agent]:
            agents = tuple(c.epoch if n == agent else have for n, have in enumerate(w.agents))
            heard = _with(w._replace(agents=agents), i, acknowledged=c.acknowledged | 1 << agent)
            yield Step(f"{AGENTS[agent]} acknowledges {c.epoch}", heard)
    if not _owns(w, i):
        return
    waited = c.acknowledged == 3 or c.claimed >= WAIT_ORDERS or c.handed
    if not c.begun and (waited or not s.keeps(Rule.WAIT_ORDERS)):
        begun = w._replace(begun=max(w.begun, c.epoch))
        yield Step(f"{name} begins a failover", _with(begun, i, begun=True))
    others = any(epoch < c.epoch for epoch, _ in w.intents)
    sure = not others or c.claimed >= WAIT_POWER or c.handed
    if w.concluded < c.epoch and (sure or not s.keeps(Rule.WAIT_POWER)):
        yield Step(f"{name} concludes from power", w._replace(concluded=c.epoch))


# ------------------------------------------------------------------------------------------------ acts


def _off(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    if c.stage == IDLE and w.left.offs:
        begun = _less(w, "offs")
        if _owns(w, i) or not s.keeps(Rule.COMPARE):
            intended = begun._replace(intents=w.intents | {(c.epoch, 0)})
            broken = "" if _owns(w, i) else "E1"
            yield Step(f"{name} writes that it will power off", _with(intended, i, stage=OFF), broken)
        else:
            yield Step(f"{name} is refused: deposed", _stands_down(w, i))
        if not s.keeps(Rule.COMMIT_FIRST):
            yield Step(f"{name} begins before it writes", _with(begun, i, stage=OFF))
        if w.left.doubts and not w.lingering[0]:
            sent = _less(begun, "doubts")._replace(lingering=("off", c.epoch))
            yield Step(f"{name} has no answer to its commit", _with(sent, i, stage=DOUBT))
    if c.stage == DOUBT:
        yield from _doubt(w, s, i)
    if c.stage in (OFF, CHECKED):
        yield from _begin_off(w, s, i)


def _doubt(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    if not s.keeps(Rule.DOUBT):
        yield Step(f"{name} takes it for not done", _with(w._replace(denied=c.epoch), i, stage=IDLE))
        return
    if not _owns(w, i):
        yield Step(f"{name} sends it again and is deposed", _stands_down(w, i))
    elif w.lingering == ("off", c.epoch):
        there = w._replace(lingering=("", 0), intents=w.intents | {(c.epoch, 0)})
        yield Step(f"{name} sends it again", _with(there, i, stage=OFF))
    else:
        yield Step(f"{name} finds it there", _with(w, i, stage=OFF))


def _begin_off(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    age = min((age for epoch, age in w.intents if epoch == c.epoch), default=None)
    known = age is not None or not s.keeps(Rule.COMMIT_FIRST)
    fresh = age is None or age <= FRESH or not s.keeps(Rule.OFF_FRESH)
    may = known and fresh and (_right(c) or not s.keeps(Rule.OFF_RIGHT))
    if c.stage == OFF and not s.keeps(Rule.CHILD_CHECKS):
        if may:
            yield Step(f"{name} checks", _with(w, i, stage=CHECKED))
    elif may or c.stage == CHECKED:
        off = w._replace(offs=w.offs | {(c.epoch, 0)})
        broken = "" if age is not None else "E1"
        yield Step(f"{name} begins the power-off", _with(off, i, stage=IDLE), broken)
    if c.stage == OFF and not may:
        yield Step(f"{name} begins no power-off", _with(w, i, stage=IDLE))


def _order(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    if c.stage == IDLE and w.left.orders:
        begun = _less(w, "orders")
        if _owns(w, i) or not s.keeps(Rule.COMPARE):
            broken = "" if _owns(w, i) else "E1"
            yield Step(f"{name} writes that it will order", _with(begun, i, stage=ORDER), broken)
        else:
            yield Step(f"{name} is refused: deposed", _stands_down(w, i))
    if c.stage != ORDER:
        return
    yield Step(f"{name} has its order ended", _with(w, i, stage=IDLE))
    if _right(c) or not s.keeps(Rule.ORDER_RIGHT):
        sent = w._replace(orders=w.orders | {(c.epoch, TO, 0)})
        yield Step(f"{name} sends its order to {AGENTS[TO]}", sent)


def _gives_up(w: World, s: Setting, i: int) -> Iterator[Step]:
    c, name = w.collectors[i], NAMES[i]
    of_mine = any(each[0] == c.epoch for each in (*w.offs, *w.orders))
    rests = c.stage == IDLE and not of_mine and not any(epoch == c.epoch for epoch, _ in w.intents)
    if w.left.releases and _owns(w, i) and (rests or not s.keeps(Rule.AT_REST)):
        given = _less(w, "releases")
        released = given._replace(owner=NOBODY, handed=True)
        yield Step(f"{name} gives the pool up", _stands_down(released, i))
        if w.left.doubts and not w.lingering[0]:
            sent = _less(given, "doubts")._replace(lingering=("release", c.epoch))
            closed = s.keeps(Rule.CLOSE_FIRST)
            yield Step(f"{name} has no answer to its release", _stands_down(sent, i) if closed else sent)


def _lingers(w: World, s: Setting) -> Iterator[Step]:
    what, epoch = w.lingering
    if not what:
        return
    holds = w.owner != NOBODY and epoch == _epoch(w)
    over = w._replace(lingering=("", 0))
    if not holds:
        yield Step(f"what etcd had not answered to {epoch} is refused", over)
    elif what == "release":
        yield Step(f"etcd carries out the release of {epoch}", over._replace(owner=NOBODY, handed=True))
    else:
        broken = "E6" if w.denied == epoch else ""
        yield Step(f"etcd carries out the commit of {epoch}", over._replace(intents=w.intents | {(epoch, 0)}), broken)


# ------------------------------------------------------------------------------------------------ configurations

PLAIN = Setting("a power-off", Left(orders=0))
ORDERS = Setting("orders alone, a lease let go too early", Left(offs=0, let_go=1))
EARLY = Setting("a lease let go too early", Left(orders=0, let_go=1))
STUCK = Setting("a stuck leader", Left(offs=0, orders=0, stuck=2), slow=True)
RESTORED = Setting("etcd restored", Left(claims=2, offs=0, orders=0, restores=1))
DOUBTED = Setting("answers lost", Left(orders=0, doubts=1))
HANDED = Setting("a pool handed over", Left(orders=0, releases=1, doubts=1))
SHORT = (PLAIN, ORDERS, EARLY, STUCK, RESTORED, DOUBTED, HANDED)
LONG = (
    Setting("both acts, a lease let go too early", Left(let_go=1)),
    Setting("taken and taken back", Left(claims=2, orders=0), steady=False),
)


@dataclass(frozen=True)
class Removal:
    """Rules that are taken away together, where, and what breaks; sets that alone break nothing there."""

    rules: tuple[Rule, ...]
    where: Setting
    breaks: str
    covered: tuple[tuple[Rule, ...], ...] = ()

    @property
    def name(self) -> str:
        return " + ".join(rule.name for rule in self.rules)

    def setting(self, *rules: Rule) -> Setting:
        return replace(self.where, without=frozenset(rules or self.rules))


R = Rule
REMOVALS = (
    Removal((R.COMMIT_FIRST,), PLAIN, "E1"),
    Removal((R.COMPARE,), PLAIN, "E1"),
    Removal((R.GENERATION,), RESTORED, "E2"),
    Removal((R.EPOCH_GATE,), ORDERS, "E3"),
    Removal((R.WAIT_ORDERS,), ORDERS, "E3"),
    Removal((R.ORDER_RIGHT,), ORDERS, "E3"),
    Removal((R.OFF_FRESH,), EARLY, "E4"),
    # While no lease is let go too early either of the two is enough.
    Removal((R.OFF_FRESH, R.OFF_RIGHT), PLAIN, "E4", covered=((R.OFF_FRESH,), (R.OFF_RIGHT,))),
    Removal((R.CHILD_CHECKS,), EARLY, "E4"),
    Removal((R.WAIT_POWER,), EARLY, "E4"),
    Removal((R.SENDING,), STUCK, "E5"),
    Removal((R.CONFIRM,), STUCK, "E5"),
    Removal((R.DOUBT,), DOUBTED, "E6"),
    Removal((R.CLOSE_FIRST,), HANDED, "E5"),
    Removal((R.AT_REST,), HANDED, "E4"),
)
