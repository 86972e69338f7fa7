"""Stories of several collectors by chance: two or three of them over one etcd, one or two pools.

Theory: what breaks an ownership is that two collectors, etcd and the agents disagree for a while about who is the
owner, in the middle of a failover. So most schedules take a master away, and whoever owns its pool is lost, stands
still or is cut off at a moment of the failover; a few faults of collectors, etcd and hosts are drawn beside that.
Everything is repaired in the end, and the pools recover, or an alert says why not.

Left out is what no design takes care of: a lease that etcd lets go too early, an etcd that was restored, and a
collector whose hypervisor pauses it, so that no clock of it goes on (docs/collectors.md). Writes of etcd that take 2 s
are left out too: there a collector counts as behind at every other step. A host is lost as in ``chance``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from poolwarden_lab.story.chance import (
    FAULTS_LAST_MS,
    RECOVERY_LIMIT,
    Draw,
    Drawn,
    Timed,
    once,
    plus,
    some_moment,
    undone,
)
from poolwarden_lab.story.text import say_duration
from poolwarden_lab.virtual.several.world_etcd import ETCD


class DrawSeveral(Draw):
    """One seed's dice, for several collectors; hosts of two pools carry their pool's name."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, None)
        self.dice = random.Random(f"several collectors of {seed}")
        self.collectors = [f"c{number}" for number in range(1, self.dice.choice((2, 3, 3)) + 1)]
        self.pools = {"lab": self.dice.choice((2, 3, 3))}
        if self.dice.random() < 0.3:
            self.pools = {"A": self.dice.choice((2, 3)), "B": 2}
        self.hosts = [
            f"{pool}/h{number}" if len(self.pools) > 1 else f"h{number}"
            for pool, count in self.pools.items()
            for number in range(1, count + 1)
        ]

    def collector(self) -> str:
        """The first one more often than the others: it owns most pools at first."""
        return self.collectors[0] if self.dice.random() < 0.6 else self.dice.choice(self.collectors)

    def pool(self) -> str:
        return self.dice.choice(list(self.pools))

    def nodes(self) -> tuple[str, str]:
        """A collector, and what it talks to."""
        one = self.collector()
        return one, ETCD if self.dice.random() < 0.5 else self.host()


# ------------------------------------------------------------------------------------------------ what befalls whom


def _loss(draw: DrawSeveral) -> list[str]:
    return [f"at 1s power off {draw.hosts[0]}"]


def _stalled(draw: DrawSeveral) -> list[str]:
    """Its power is to be taken: the one thing that another owner must never find begun later."""
    return [f"at 1s stall {draw.hosts[0]}", f"at {draw.time(30_000, 120_000)} resume {draw.hosts[0]}"]


def _isolated(draw: DrawSeveral) -> list[str]:
    return [f"at 1s isolate {draw.hosts[0]}", f"at {draw.time(4_000, 60_000)} rejoin {draw.hosts[0]}"]


def _hung(draw: DrawSeveral) -> list[str]:
    return [f"every 1s for {draw.time(10_000, 60_000)}: try xapi hang {draw.hosts[0]}"]


def _of_host(do: str, undo: str) -> Callable[[Draw], tuple[str, str]]:
    def fault(draw: Draw) -> tuple[str, str]:
        host = draw.host()
        return do.format(host), undo.format(host)

    return fault


def _cut(draw: Draw) -> tuple[str, str]:
    one, other = draw.nodes()
    arrow = draw.dice.choice(("-", "-", "->"))
    return f"cut {one} {arrow} {other}", f"heal {one} - {other}"


def _of_collector(*forms: str) -> Callable[[DrawSeveral], str]:
    def fault(draw: DrawSeveral) -> str:
        form, node, time = draw.dice.choice(forms), draw.collector(), draw.time(500, 60_000)
        return form.format(node=node, time=time, pool=draw.pool(), few=draw.dice.choice((1, 1, 2)))

    return fault


_LOST = _of_collector(
    "try kill {node}",
    "try kill {node} for {time}",
    "try freeze {node} for {time}",
    "try suspend {node} for {time}",
    "try stop {node}",
    "cut {node} - etcd for {time}",
    "cut {node} for {time}",
)
_ETCD = _of_collector(
    "etcd changes its leader",
    "etcd is away for {time}",
    "etcd loses {few} members for {time}",
    "etcd carries out {few} of {node} unanswered",
    "etcd drops {few} of {node}",
    "try etcd leaves {node} with a stuck leader",
)


def _late(draw: DrawSeveral) -> str:
    if draw.dice.random() < 0.5:
        return f"etcd holds one of {draw.collector()} for {draw.time(100, 20_000)}"
    return f"etcd is slow by {draw.time(50, 1_500)} for {draw.time(2_000, 60_000)}"


def _person(draw: DrawSeveral) -> tuple[str, str]:
    node = draw.collector()
    if draw.dice.random() < 0.5:
        return f"move {draw.pool()} to {node}", f"move {draw.pool()} to {draw.collector()}"
    return f"try drain {node}", f"try drain {node} off"


PLOTS: tuple[tuple[int, Callable[[DrawSeveral], list[str]]], ...] = (
    (4, _loss),
    (4, _stalled),
    (2, _isolated),
    (1, _hung),
)
OTHERS: tuple[tuple[int, Callable[[DrawSeveral], Timed]], ...] = (
    (6, once(_LOST)),
    (5, once(_ETCD)),
    (2, once(_late)),
    (3, undone(5_000, 60_000, _person)),
    (3, undone(1_000, 60_000, _cut)),
    (2, undone(5_000, 60_000, _of_host("power off {}", "power on {}"))),
    (2, undone(1_000, 60_000, _of_host("isolate {}", "rejoin {}"))),
    (1, undone(5_000, 60_000, _of_host("device bmc-{} unreachable", "device bmc-{} true"))),
    (1, once(lambda draw: f"agent crash {draw.host()} for {draw.time(500, 30_000)}")),
)


def draw_several(seed: int) -> Drawn:
    """The schedule of a seed."""
    d = DrawSeveral(seed)
    body = _plot(d) if d.dice.random() < 0.85 else []
    timed: list[tuple[int, str]] = []
    for _ in range(d.dice.choices((0, 1, 2, 3), (2, 4, 3, 2))[0]):
        drawn = d.dice.choices([fault for _, fault in OTHERS], [weight for weight, _ in OTHERS])[0](d)
        if d.dice.random() < 0.4:
            moment = some_moment(d)
            body += [f"{moment}{plus(at)}: {command}" for at, command in drawn]
        else:
            begin = d.ms(500, FAULTS_LAST_MS)
            timed += [(begin + at, command) for at, command in drawn]
    body += [f"at {say_duration(at)} {command}" for at, command in sorted(timed) if at < FAULTS_LAST_MS]
    tail = (f"run {say_duration(FAULTS_LAST_MS)}", "repair everything", f"recover within {RECOVERY_LIMIT}")
    return Drawn(seed, _head(d, seed), tuple(body), tail)


def _plot(d: DrawSeveral) -> list[str]:
    """A master is lost, and in most cases its pool's owner at a moment of the failover."""
    lines = d.dice.choices([plot for _, plot in PLOTS], [weight for weight, _ in PLOTS])[0](d)
    if d.dice.random() < 0.75:
        lines.insert(0, f"{some_moment(d)}: {_LOST(d)}")
    return lines


def _head(d: DrawSeveral, seed: int) -> tuple[str, ...]:
    named = len(d.pools) > 1
    lines = [f"pool {count} named {pool}" if named else f"pool {count}" for pool, count in d.pools.items()]
    lines += [f"collectors {len(d.collectors)}", f"vm web on {d.host()}", f"seed {seed}"]
    lines += ["policy quiet_time 5s", "policy patience 15s", "policy boot_grace 60s", "policy xapi_hung_after 15s"]
    if d.dice.random() < 0.5:
        lines.append("policy auto_fence_running yes")
    if d.dice.random() < 0.15:
        lines.append("policy mode ask")
    return tuple(lines)
