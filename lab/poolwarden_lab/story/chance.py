"""Stories by chance: a schedule of faults drawn from a seed, written in the stories' own language.

Theory: what breaks a failover engine is rarely one fault; it is a second one at the wrong moment. So a schedule begins
in most cases with a plot that takes the master away and is known to be hard, goes on with a few faults at random times
or bound to a moment of the failover (``after journal proof: ...``), undoes most of them after a while, then repairs
everything and asks that the pool recovers, or that an alert says why it does not (invariants I13 and I15). All other
invariants are checked after every event by the world itself.

Left out are the faults against which no proof is possible in this version, because a story would have to allow two
masters then: a fence device that reads OFF for longer than two readings are apart about a running machine that nobody
else can see, an outlet that was attested and feeds another machine, an operator who confirms what is not so, and local
root who makes a host master (by pool.conf, or by opening its gate).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from poolwarden_lab.story.text import say_duration

FAULTS_LAST_MS = 75_000
STARTS_LAST_MS = 60_000  # so much later: a dead host is declared dead after its failover
DAMAGES = ("truncated", "empty", "zeros", "missing")
RECOVERY_LIMIT = "6m"
# One on which each capability rests alone.
ASSUMPTIONS = (
    "promote-exit-123",
    "repoint-pool-conf",
    "restart-helps",
    "hold-stops",
    "stop-flushes",
    "restart-keeps-domains",
    "fence-off-is-off",
    "declare-dead",
)
MOMENTS = (
    "journal decided",
    "journal claimed",
    "journal candidate",
    "journal fence-intent",
    "journal proof",
    "journal promote-intent",
    "journal promote-answer",
    "journal promoted",
    "journal repoint-intent",
    "journal owed",
    "journal toolstack-intent",
    "journal handover-result",
    "journal handover-intent",
    "journal release-intent",
    "journal aborted",
    "order claim",
    "order promote",
    "order probe-now",
)


@dataclass(frozen=True)
class Drawn:
    """A schedule: what comes before ``start``, the commands that may be left out, and how it ends."""

    seed: int
    head: tuple[str, ...]
    body: tuple[str, ...]
    tail: tuple[str, ...]

    def text(self, *why: str) -> str:
        """The story's text."""
        lines = [*(f"# {line}" for line in why), *self.head, "start", "", *self.body, "", *self.tail]
        return "\n".join(lines) + "\n"


class Draw:
    """One seed's dice."""

    def __init__(self, seed: int, hosts: int | None) -> None:
        self.dice = random.Random(seed)
        self.count = hosts or self.dice.choices((2, 3, 4, 5), (3, 6, 1, 1))[0]
        self.hosts = [f"h{number}" for number in range(1, self.count + 1)]
        self.gone: set[str] = set()  # hosts that somebody swore to be off
        self.shared = ""  # what two of its machines share

    def ms(self, low: int, high: int) -> int:
        """A time in this range: short ones as often as long ones, in steps of 100 ms."""
        return max(100, int(round(low * float(high / low) ** self.dice.random(), -2)))

    def time(self, low: int, high: int) -> str:
        return say_duration(int(self.ms(low, high)))

    def host(self) -> str:
        """The master more often than the others."""
        return self.hosts[0] if self.dice.random() < 0.5 else self.dice.choice(self.hosts)

    def member(self) -> str:
        return self.dice.choice(self.hosts[1:])

    def nodes(self) -> tuple[str, str]:
        one, other = self.dice.sample([*self.hosts, "collector"], 2)
        return one, other


Timed = list[tuple[int, str]]  # [(ms after its beginning, command)]
Fault = Callable[[Draw], Timed]
AnyDraw = TypeVar("AnyDraw", bound=Draw)


def undone(
    low: int, high: int, do: Callable[[AnyDraw], tuple[str, str]], always: bool = False
) -> Callable[[AnyDraw], Timed]:
    """A fault that is mostly undone after a while."""

    def fault(draw: AnyDraw) -> Timed:
        begin, end = do(draw)
        if not always and draw.dice.random() < 0.3:
            return [(0, begin)]
        return [(0, begin), (draw.ms(low, high), end)]

    return fault


def _power(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"power off {host}", f"power on {host}"


def _cut(draw: Draw) -> tuple[str, str]:
    one, other = draw.nodes()
    arrow = draw.dice.choice(("-", "-", "->"))
    return f"cut {one} {arrow} {other}", f"heal {one} - {other}"


def _isolate(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"isolate {host}", f"rejoin {host}"


def _stall(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"stall {host}", f"resume {host}"


def _hang(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"xapi hang {host}", f"xapi unhang {host}"


def _device(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    mode = draw.dice.choice(("unreachable", "unreachable", "lies-on", "stuck"))
    return f"device bmc-{host} {mode}", f"device bmc-{host} true"


def _partition(draw: Draw) -> tuple[str, str]:
    everybody = [*draw.hosts, "collector"]
    draw.dice.shuffle(everybody)
    at = draw.dice.randrange(1, len(everybody))
    left, right = " ".join(everybody[:at]), " ".join(everybody[at:])
    return f"partition {left} | {right}", "heal all"


def _file(draw: Draw) -> str:
    """One of xapi's files is not what it was; nothing of it is undone, a xapi's next flush or copy does that."""
    host = draw.host()
    kind = draw.dice.random()
    if kind < 0.5:
        harm = draw.dice.choice((*DAMAGES, "unloadable", "newer by 7", "of another pool", "backed up", "rolled back"))
        return f"try state.db of {host} {harm}"
    if kind < 0.65:
        return f"try restore_db of {host} {draw.dice.choice((*DAMAGES, 'newer by 7', 'of another pool newer by 90'))}"
    if kind < 0.8:
        return f"try pool.conf of {draw.member()} {draw.dice.choice(DAMAGES)}"
    return f"try pool.conf of {draw.dice.choice(draw.hosts)} names {draw.member()}"


def _guest(draw: Draw) -> str:
    vm = draw.dice.choice(("web", "db"))
    return (
        f"try vm {vm} stops" if draw.dice.random() < 0.5 else f"try vm {vm} appears on {draw.dice.choice(draw.hosts)}"
    )


def _root(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"root full {host}", f"root ok {host}"


def _by_root(draw: Draw) -> str:
    host = draw.host()
    follow = f"gate release as member of {draw.member()}"
    return f"try root on {host} {draw.dice.choice(('gate release', follow))}"


def _mute(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"device bmc-{host} mute", f"device bmc-{host} tells"


def _port(draw: Draw) -> tuple[str, str]:
    host, port = draw.host(), draw.dice.choice(("80", "80", "443"))
    return f"port {port} of {host} {draw.dice.choice(('closed', 'filtered'))}", f"port {port} of {host} open"


def once(command: Callable[[AnyDraw], str]) -> Callable[[AnyDraw], Timed]:
    """A fault that nothing undoes before the end."""
    return lambda draw: [(0, command(draw))]


def _flap(draw: Draw) -> str:
    one, other = draw.nodes()
    return f"flap {one} - {other} every {draw.time(1_000, 20_000)} for {draw.time(10_000, 60_000)}"


def _delay(draw: Draw) -> tuple[str, str]:
    host = draw.host()
    return f"delay {host} - collector by {draw.time(500, 20_000)}", f"delay {host} - collector by 0s"


def _pause(draw: Draw) -> tuple[str, str]:
    return "operator pause", "operator resume"


def some_moment(draw: Draw) -> str:
    """Mostly the first time of one of MOMENTS."""
    nth = draw.dice.choice(("", "", "", "2nd "))
    return f"{draw.dice.choice(('after', 'after', 'before'))} {nth}{draw.dice.choice(MOMENTS)}"


def _loss(draw: Draw) -> list[str]:
    """The master's power is lost, and mostly comes back."""
    back = draw.ms(8_000, 120_000)
    return ["at 1s power off h1", *([f"at {say_duration(back)} power on h1"] if draw.dice.random() < 0.6 else [])]


def _loss_unwatched(draw: Draw) -> list[str]:
    """The collector dies at a moment of the failover; the old master is back before it."""
    away = draw.ms(20_000, 90_000)
    back = draw.ms(500, max(1_000, away - 15_000))
    moment = f"{draw.dice.choice(('after', 'before'))} {draw.dice.choice(MOMENTS)}"
    lines = [f"{moment}: try kill collector for {say_duration(away)}", "boot takes 5s on h1", "at 1s power off h1"]
    return [*lines, f"after collector dead +{say_duration(back)}: power on h1"]


def _unseen(draw: Draw) -> list[str]:
    """The master lives and is not seen; its fence device may read OFF once, for less than two readings are apart."""
    begin, end = draw.dice.choice((("isolate h1", "rejoin h1"), ("stall h1", "resume h1")))
    lines = [f"at 1s {begin}"]
    if draw.dice.random() < 0.7:
        at = draw.ms(5_000, 20_000)
        lines += [f"at {say_duration(at)} device bmc-h1 lies-off", f"at {say_duration(at + 2_800)} device bmc-h1 true"]
    return [*lines, f"at {draw.time(4_000, 60_000)} {end}"]


def _moved(draw: Draw) -> list[str]:
    """A VM is where no copy of the database knows it."""
    change = draw.dice.choice((f"new vm young on {draw.member()}", f"migrate web to {draw.member()}"))
    return [f"at 1s try {change}", f"at {draw.time(6_000, 15_000)} power off h1"]


def _ill(draw: Draw) -> list[str]:
    """The master's xapi is of no use, its dom0 lives: restart, or hold its toolstack."""
    if draw.dice.random() < 0.3:
        return ["at 1s xapi stop h1"]
    full = ["at 1s root full h1"] if draw.dice.random() < 0.2 else []
    return [*full, f"every 1s for {draw.time(5_000, 60_000)}: try xapi hang h1"]


def _damaged(draw: Draw) -> list[str]:
    """A database is not what its generation says, on the master or on whoever could succeed it."""
    host = draw.dice.choice(draw.hosts)
    harm = draw.dice.choice((*DAMAGES, "unloadable", "newer by 50", "of another pool newer by 1000"))
    file = draw.dice.choice(("state.db", "state.db", "state.db", "restore_db"))
    end = draw.dice.choice(("power off h1", "xapi crash h1", "xapi stop h1", "every 1s for 30s: try xapi hang h1"))
    before = [f"at 500ms try {file} of {host} {harm}"]
    return [*before, f"at 1s {end}" if not end.startswith("every") else end]


def _one_off_takes_two(draw: Draw) -> list[str]:
    """The master stalls where one power feed, or one BMC, is two machines'."""
    end = draw.dice.choice(("stall h1", "power off h1", "kernel hang h1"))
    bmc = ["at 500ms device bmc-h1 unreachable"] if draw.dice.random() < 0.7 else []
    draw.shared = draw.dice.choice(("chassis of", "one bmc for"))
    approve = [f"at {draw.time(20_000, 60_000)} operator approve --shoot"] if draw.dice.random() < 0.5 else []
    return [*bmc, f"at 1s {end}", *approve]


def _successor_dies(draw: Draw) -> list[str]:
    """Whoever is to be promoted is lost at a moment."""
    harm = draw.dice.choice(
        ("power off h2", "isolate h2", "stall h2", "xapi crash h2", "agent crash h2", "xapi deaf h2")
    )
    return [f"{some_moment(draw)}: {harm}", "at 1s power off h1"]


def _sworn(draw: Draw) -> list[str]:
    """The master loses its power for good, and an operator says so, truly."""
    draw.gone.add("h1")
    device = ["device bmc-h1 unreachable"] if draw.dice.random() < 0.8 else []
    confirm = 'operator confirm-fenced h1 --how "cord pulled"'
    return [*device, "at 1s power off h1", f"at {draw.time(4_000, 60_000)} {confirm}"]


PLOTS: tuple[tuple[int, Callable[[Draw], list[str]]], ...] = (
    (4, _loss),
    (3, _loss_unwatched),
    (4, _unseen),
    (2, _moved),
    (4, _ill),
    (2, _successor_dies),
    (1, _sworn),
    (3, _damaged),
    (1, _one_off_takes_two),
)
OTHERS: tuple[tuple[int, Fault], ...] = (
    (4, undone(5_000, 60_000, _power)),
    (4, undone(1_000, 60_000, _cut)),
    (3, undone(1_000, 60_000, _isolate)),
    (3, undone(1_000, 60_000, _partition)),
    (3, undone(1_000, 90_000, _stall)),
    (2, undone(5_000, 90_000, _hang)),
    (3, undone(5_000, 60_000, _device)),
    (1, undone(5_000, 60_000, _root)),
    (1, once(_flap)),
    (1, undone(5_000, 60_000, _delay)),
    (2, undone(2_000, 60_000, _pause)),
    (1, undone(2_000, 30_000, lambda draw: ("disk of collector full", "disk of collector ok"))),
    (1, undone(2_000, 30_000, lambda draw: ("cut collector", "heal collector"))),
    (5, once(lambda draw: f"try kill collector for {draw.time(500, 90_000)}")),
    (2, once(lambda draw: f"xapi crash {draw.host()}")),
    (1, once(lambda draw: f"xapi restart {draw.host()}")),
    (2, once(lambda draw: f"agent crash {draw.host()} for {draw.time(500, 30_000)}")),
    (1, once(lambda draw: f"try reboot {draw.host()}")),
    (1, undone(5_000, 60_000, lambda draw: ("try ha arm", "try ha disarm"), always=True)),
    (1, once(lambda draw: f"try xe designate {draw.dice.choice(draw.hosts)}")),
    (1, once(lambda draw: "try xe sync")),
    (1, once(lambda draw: f"operator designate {draw.dice.choice(draw.hosts)}")),
    (1, once(lambda draw: f"operator restart-xapi {draw.host()}")),
    (1, once(lambda draw: f"try new vm v{draw.dice.randrange(10**6)} on {draw.member()}")),
    (1, once(lambda draw: f"try migrate web to {draw.dice.choice(draw.hosts)}")),
    (3, once(_file)),
    (1, once(_guest)),
    (1, once(_by_root)),
    (2, undone(2_000, 60_000, _port)),
    (1, undone(2_000, 40_000, lambda draw: ("freeze collector", "thaw collector"), always=True)),
    (1, undone(5_000, 60_000, _mute)),
    (1, once(lambda draw: f"xapi crash loop {draw.host()} for {draw.time(10_000, 120_000)}")),
    (1, once(lambda draw: f"try xe eject {draw.member()}")),
)


def _one(draw: Draw, faults: tuple[tuple[int, Fault], ...]) -> list[tuple[int, str]]:
    fault = draw.dice.choices([fault for _, fault in faults], [weight for weight, _ in faults])[0]
    return [item for item in fault(draw) if not _broken_promise(draw, item[1])]


def _broken_promise(draw: Draw, command: str) -> bool:
    """Would it power on what was confirmed to be off?"""
    words = command.split()
    return bool(draw.gone) and ("reboot" in words or words[:2] == ["power", "on"] and words[2] in draw.gone)


def draw(seed: int, hosts: int | None = None) -> Drawn:
    """The schedule of a seed."""
    d = Draw(seed, hosts)
    timed: list[tuple[int, str]] = []
    bound: list[str] = []
    if d.dice.random() < 0.85:
        bound += d.dice.choices([plot for _, plot in PLOTS], [weight for weight, _ in PLOTS])[0](d)
    for _ in range(d.dice.choices((0, 1, 2, 3, 5), (3, 4, 4, 2, 1))[0]):
        drawn = _one(d, OTHERS)
        if drawn and d.dice.random() < 0.4:
            moment = some_moment(d)
            bound += [f"{moment}{plus(at)}: {command}" for at, command in drawn]
        else:
            begin = d.ms(500, FAULTS_LAST_MS)
            timed += [(begin + at, command) for at, command in drawn]
    timed = [(at, command) for at, command in timed if not _broken_promise(d, command)]
    body = [*bound, *(f"at {say_duration(at)} {command}" for at, command in sorted(timed) if at < 2 * FAULTS_LAST_MS)]
    if any(" designate " in line for line in body):
        body.insert(
            0, 'allow two masters "xapi moves the role in two phases; its old master may stand still between them"'
        )
    head, holds = _failed(seed, d)
    starts, harms, alone = _starts(seed, d)
    if alone:
        body = ["at 1s power off h1"]
    tail = _tail(STARTS_LAST_MS if starts else 0)
    return Drawn(seed, (*_head(d, seed), *head, *starts), (*body, *holds, *harms), tail)


_AT_A_START = (
    "journal lost-vms",
    "journal declared-dead",
    "journal start-intent",
    "journal start-result",
    "order start-vm",
)
_OF_A_START = (
    "power on h1",
    "try kill collector for {time}",
    "power off h2",
    "agent crash h2 for {time}",
    "agent crash {host} for {time}",
    "xapi hang h2 for {time}",
    "try untag vm db",
    "try xe start db on {host}",
    "try stop vm web",
    "try vm web stops",
    "operator pause",
    "try ha arm",
    "device bmc-h1 unreachable",
    "isolate {host}",
    "operator start-lost --forget",
    "operator start-lost",
    "try xe designate {host}",
)


def _starts(seed: int, d: Draw) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """The policy by which lost VMs start by themselves, what befalls that, and whether nothing else does: most other
    faults keep it from coming so far. From dice of its own, as above.
    """
    dice = random.Random(f"starts of {seed}")
    if dice.random() >= 0.2:
        return (), (), False
    head = ["policy start_lost tagged", "wished vm db", f"wished vm web order 1 delay {dice.choice((0, 5, 20))}s"]
    body = ["after journal closed: operator declare-dead h1"] if dice.random() < 0.8 else []
    for _ in range(dice.choice((0, 1, 2))):
        harm = dice.choice(_OF_A_START)
        time = say_duration(dice.randrange(500, 40_000, 100))
        moment = f"{dice.choice(('after', 'before'))} {dice.choice(_AT_A_START)}"
        command = harm.format(time=time, host=dice.choice(d.hosts))
        body += [f"{moment}: {command}"] if not _broken_promise(d, command) else []
    return tuple(head), tuple(body), dice.random() < 0.6


def _failed(seed: int, d: Draw) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has failed on a host from the beginning, and perhaps holds later; from dice of its own, so that the rest of
    a seed's schedule is what it was.
    """
    dice = random.Random(f"assumptions of {seed}")
    if dice.random() >= 0.2:
        return (), ()
    head, body = [], []
    for id in dice.sample(ASSUMPTIONS, dice.choice((1, 1, 2))):
        host = dice.choice(d.hosts)
        head.append(f"failed {id} on {host}")
        if dice.random() < 0.4:
            body.append(f"at {say_duration(dice.randrange(1_000, FAULTS_LAST_MS, 100))} assumption {host} {id} holds")
    return tuple(head), tuple(body)


def plus(at: int) -> str:
    return f" +{say_duration(at)}" if at else ""


def _head(d: Draw, seed: int) -> tuple[str, ...]:
    lines = [f"pool {d.count}", f"vm web on {d.host()}", f"vm db on {d.member()}", f"seed {seed}"]
    lines.append("policy quiet_time 5s")
    lines.append("policy patience 15s")
    lines.append("policy boot_grace 60s")
    lines.append("policy xapi_hung_after 15s")
    lines.append("policy xapi_down_after 10s")
    lines.append(f"policy xapi_restarts {d.dice.choice((0, 1, 2))}")
    if d.dice.random() < 0.5:
        lines.append("policy auto_fence_running yes")
    if d.dice.random() < 0.5:
        lines.append("policy xapi_starting_limit 40s")
    if d.dice.random() < 0.3:
        lines.append("policy collector_probe no")
    if d.dice.random() < 0.2:
        lines.append(f"policy mode {d.dice.choice(('observe', 'ask'))}")
    if d.dice.random() < 0.2:
        lines.append("policy relocate_split yes")
    if d.dice.random() < 0.2:
        lines.append("https-only")
    if d.shared:
        lines += ["with pdu", f"{d.shared} h1 h2"]
    elif d.dice.random() < 0.1:
        lines.append(f"mute devices on {d.host()}")
    if d.dice.random() < 0.25:
        may = d.dice.sample(d.hosts, d.dice.randint(2, d.count))
        lines.append(f"fence agents run by {' '.join(sorted(may))}")
    return tuple(lines)


def _tail(longer: int) -> tuple[str, ...]:
    return (
        f"run {say_duration(FAULTS_LAST_MS + longer)}",
        "repair everything",
        f"recover within {RECOVERY_LIMIT}",
    )
