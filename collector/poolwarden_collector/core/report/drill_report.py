"""A drill for people: what each step does, how far it is, what it came to; of an open one, or one that could be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.operator import drill, drill_checks
from poolwarden_collector.core.state.drill_record import POWER, DrillStep, Part, Phase, StepState
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot

# What a step does, also to VMs. {name}: its host, {master}: the master now.
DOES: dict[Part, str] = {
    Part.FENCE: (
        "Switches the power of {name} off, reads it OFF twice, switches it on and waits until it is back and enabled. "
        "Nothing runs there; no other VM is touched. A few minutes, by the machine's firmware."
    ),
    Part.RESTART: ("Restarts xapi on {name}. VMs run on; the VMs of {name} cannot be managed for about a minute."),
    Part.HOLD: (
        "Stops xapi on {name}, sees from another member that it is closed, and lets it go. VMs run on; the VMs of "
        "{name} cannot be managed for about a minute."
    ),
    Part.SWITCHOVER: (
        "Hands the master's role from {master} to {name} and back. VMs run on; xapi restarts on every host, twice: the "
        "pool cannot be managed for some minutes, and clients log in anew."
    ),
    Part.POWER_LOSS: (
        "Switches the power of the master {name} off: a failover, by the pool's own mode and policy. Nothing runs "
        "there; VMs elsewhere run on. Another member is master afterwards; {name} comes back as a member."
    ),
}
NOW: dict[Phase, str] = {
    Phase.OFF: "its power is being switched off",
    Phase.READS_OFF: "its power is to read OFF twice",
    Phase.FAILOVER: "another member is to become master",
    Phase.READS_ON: "its power is being switched on, and is to read ON",
    Phase.HEARD: "it boots; its agent is to be heard",
    Phase.ANSWERS: "a new xapi is to answer",
    Phase.HELD: "its xapi is being stopped",
    Phase.REFUSED: "another member is to find its xapi closed",
    Phase.RELEASED: "its xapi is being let go",
    Phase.HANDED: "it is to serve as master, followed by every host",
    Phase.HEALTHY: "the pool is to be healthy before the role goes back",
    Phase.HANDED_BACK: "the role is being handed back",
    Phase.BACK: "it is to be an attached member again",
    Phase.ENABLED: "it is to be enabled again",
}


@dataclass(frozen=True, slots=True)
class PhaseStatus:
    """A phase that is over."""

    name: str
    took_ms: Ms
    took_known: bool


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One step; field names are the contract's."""

    number: int
    part: str
    host_uuid: HostId
    host_name: str
    state: str
    does: str
    now: str
    why: str
    next_step: str
    power: bool
    phases: tuple[PhaseStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class DrillStatus:
    """A drill that is open; or one that could be begun, whose ``id`` is empty."""

    id: str
    by: str
    state: str
    age_ms: Ms
    next_step: str
    steps: tuple[StepStatus, ...]


def drill_status(pool: Snapshot) -> DrillStatus | None:
    """The drill that is open."""
    found = pool.record.drill
    if found is None:
        return None
    state = "abandoned" if found.abandoned else "running" if found.running is not None else "waiting"
    begun = pool.live.drill.begun
    steps = tuple(_step(pool, number, step) for number, step in enumerate(found.steps))
    command = f"poolwarden drill {pool.record.display_name} --resume, or --abandon"
    return DrillStatus(found.id, found.by, state, pool.now - begun if begun is not None else 0, command, steps)


def drill_plan(state: Pool, now: Ms, site: Site, said: OperatorSaid) -> DrillStatus | Refused:
    """What a drill with these steps would do, and what stands against each step now."""
    pool = Snapshot(state, now, site)
    steps = drill.wanted(pool, said)
    if isinstance(steps, Refused):
        return steps
    verdict = judge(signs(pool))
    first = drill_checks.of_pool(pool, verdict)
    found = []
    for number, (part, host) in enumerate(steps):
        against = first or drill_checks.of_step(pool, part, host, verdict)
        shown = _step(pool, number, DrillStep(part, host))
        found.append(_against(pool, shown, against))
    command = f"poolwarden drill {pool.record.display_name}"
    return DrillStatus("", "", "plan", 0, command, tuple(found))


def _against(pool: Snapshot, shown: StepStatus, against: Refused | None) -> StepStatus:
    if against is None:
        return shown
    name = pool.record.display_name
    return replace(shown, why=against.why, next_step=against.next_step.replace("POOL", name))


def _step(pool: Snapshot, number: int, step: DrillStep) -> StepStatus:
    master = pool.name(verified(pool)) if verified(pool) else "the master"
    does = DOES[step.part].format(name=pool.name(step.host), master=master)
    phases = tuple(PhaseStatus(phase.value, took or 0, took is not None) for phase, took in step.took)
    now = NOW[step.phase] if step.state is StepState.RUNNING and step.phase is not None else ""
    power = step.part in POWER
    return StepStatus(
        number + 1,
        step.part.value,
        step.host,
        pool.name(step.host),
        step.state.value,
        does,
        now,
        step.why,
        "",
        power,
        phases,
    )


def sentence(pool: Snapshot) -> str:
    """The open drill in one line; empty: none is."""
    found = pool.record.drill
    if found is None:
        return ""
    number = found.running
    if number is None:
        return f"a drill by {found.by} is open and waits for a word to its next step"
    step = found.steps[number]
    now = NOW[step.phase] if step.phase is not None else ""
    return f"a drill by {found.by} runs: {step.part.value} of {pool.name(step.host)}: {now}"
