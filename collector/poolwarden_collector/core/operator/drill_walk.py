"""A drill's step on its way: what is awaited, what it took, what it came to; and how it gets back from where it is.

Rules
-----
* A step that was begun is walked to its safe end whatever becomes of its caller, of this collector, of the pool or of
  the drill: what was switched off is switched on and owed that, what is held is owed its release. What went wrong on
  the way is kept, and makes it *failed* at its end.
* Facts end a phase, never an answer. Each phase has its time; one that is over leads to the way back, never further on.
* A hold is let go as soon as it has been seen, and at once where the pool is not what it was: nobody is to miss a
  candidate for a drill.
* Nothing here proves anything to a failover: no term is raised, no reading is kept beyond what every reading is, and a
  drill's hold is of a member, at a term of which no failover is.
* Durations are this run's: where the collector was restarted within a phase, how long that took is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.catalogue.hosts import DRILL_OPEN, LEFT_OFF
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import entry_of, follows
from poolwarden_collector.core.evidence.signs import fresh_probe, read_off_twice
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups import power_switch
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness, PoolHost, ProbeOutcome
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.operator import enable_host
from poolwarden_collector.core.recovery import switchover
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.drill_record import POWER, Drill, DrillStep, Part, Phase, StepState
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.live_slices import DrillProgress
from poolwarden_collector.core.state.order_delivery import answer_of
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

# How long each phase may take, ms. A machine's firmware and its storage take minutes.
LIMITS: dict[Phase, Ms] = {
    Phase.OFF: 300_000,  # a run has a result, or its hard limit and some seconds are over, long before
    Phase.READS_OFF: 90_000,
    Phase.FAILOVER: 600_000,  # for one to begin; one that is open is waited for
    Phase.READS_ON: 600_000,
    Phase.HEARD: 1_800_000,
    Phase.ANSWERS: 300_000,
    Phase.HELD: 30_000,  # twice as long as the order is valid
    Phase.REFUSED: 20_000,
    Phase.RELEASED: 600_000,
    Phase.HANDED: 900_000,  # the switchover itself gives up before
    Phase.HEALTHY: 600_000,
    Phase.HANDED_BACK: 900_000,
    Phase.BACK: 900_000,
    Phase.ENABLED: 300_000,
}
# Where a host is declared dead only once xapi has it not live, that alone takes up to 630 s (ocaml/xapi/db_gc.ml).
DECLARED_WITHIN_MS: Ms = 1_200_000
TOLD_AFTER_MS: Ms = 600_000
READS_ON_WITHIN_MS: Ms = 180_000  # a device that lost its own power with the host's boots for a minute or two
ENABLE_AFTER_MS: Ms = 20_000  # xapi enables a host by itself some time after its start


@dataclass(frozen=True, slots=True)
class Started:
    """What a step has begun with; ``before``: what its host or pool was, to be told from what comes after."""

    phase: Phase
    before: str = ""
    order: str = ""


def process_of(agent: AgentState | None) -> str:
    """The xapi process there, as a text that another process never has."""
    process = agent.facts.xapi.process if agent is not None else None
    return f"{process.pid}/{process.start_ticks}" if process is not None else ""


# ------------------------------------------------------------------------------------------------ the journal


def begun(tx: Transaction) -> None:
    """A drill was begun in this pass."""
    tx.change(DrillProgress, begun=tx.now, since=None)


def step_begun(tx: Transaction, drill: Drill, number: int, started: Started, actor: str) -> None:
    """A step was begun in this pass."""
    step = drill.steps[number]
    entry = entry_of(tx, step.host, verified(tx))
    text = f"{actor} begins step {number + 1} of the drill: {step.part.value} of {tx.name(step.host)}"
    tx.note(
        Kind.DRILL_PHASE,
        text,
        actor,
        drill=drill.id,
        step=number,
        phase=started.phase.value,
        took=None,
        why="",
        by=actor,
        before=started.before,
        order=started.order,
        enabled=not isinstance(entry, str) and entry.enabled,
    )
    tx.change(DrillProgress, since=tx.now)


def skipped(tx: Transaction, drill: Drill, number: int, why: str, actor: str) -> None:
    """A step is not tried."""
    step = drill.steps[number]
    text = f"step {number + 1} of the drill, {step.part.value} of {tx.name(step.host)}, is not tried: {why}"
    data = {"drill": drill.id, "step": number, "outcome": StepState.SKIPPED.value, "took": None, "why": why}
    tx.note(Kind.DRILL_RESULT, text, actor, **data)


def _to(tx: Transaction, walk: Walk, phase: Phase, why: str = "") -> None:
    """The phase is over, and this one is next. ``why``: what went wrong in it."""
    step, took = walk.step, walk.took(tx)
    said = f" after {span(took)}" if took is not None else ""
    failed = f"; {why}" if why else ""
    over = step.phase.value if step.phase is not None else ""
    text = f"drill: {step.part.value} of {tx.name(step.host)}: {over} is over{said}, {phase.value} is next{failed}"
    data = {"drill": walk.drill.id, "step": walk.number, "phase": phase.value, "took": took}
    tx.note(Kind.DRILL_PHASE, text, **data, why="; ".join(each for each in (step.why, why) if each))
    tx.change(DrillProgress, since=tx.now)


def _end_step(tx: Transaction, walk: Walk, why: str = "") -> None:
    """The step has come to its end; it has passed where nothing went wrong."""
    step = walk.step
    wrong = "; ".join(each for each in (step.why, why) if each)
    state = StepState.FAILED if wrong else StepState.PASSED
    text = f"step {walk.number + 1} of the drill, {step.part.value} of {tx.name(step.host)}, has {state.value}"
    data = {"drill": walk.drill.id, "step": walk.number, "outcome": state.value, "took": walk.took(tx), "why": wrong}
    tx.note(Kind.DRILL_RESULT, f"{text}{f': {wrong}' if wrong else ''}", **data)
    tx.change(DrillProgress, since=None)


def _end(tx: Transaction, drill: Drill) -> None:
    """Every step has its result, or nobody wants the rest."""
    states = [step.state for step in drill.steps]
    if drill.abandoned:
        outcome = "abandoned"
    elif StepState.FAILED in states:
        outcome = "failed"
    else:
        outcome = "passed" if all(state is StepState.PASSED for state in states) else "partly"
    steps = [
        {
            "part": step.part.value,
            "host": step.host,
            "name": tx.name(step.host),
            "state": (StepState.SKIPPED if step.state is StepState.PLANNED else step.state).value,
            "phases": [{"phase": phase.value, "took_ms": took} for phase, took in step.took],
            "why": step.why or ("the drill was abandoned before" if step.state is StepState.PLANNED else ""),
        }
        for step in drill.steps
    ]
    told = ", ".join(f"{each['part']} {each['state']}" for each in steps)
    text = f"the drill of {drill.by} is over ({outcome}): {told}"
    tx.note(Kind.DRILL_ENDED, text, drill.by, drill=drill.id, by=drill.by, outcome=outcome, steps=steps)
    tx.change(DrillProgress, since=None, begun=None)


# ------------------------------------------------------------------------------------------------ on its way


@dataclass(frozen=True, slots=True)
class Walk:
    """The step that runs."""

    drill: Drill
    number: int
    step: DrillStep
    known: bool  # was its phase begun in this run?

    def took(self, pool: Snapshot) -> Ms | None:
        """How long its phase has taken, where that is known."""
        return pool.now - self.since(pool) if self.known else None

    def since(self, pool: Snapshot) -> Ms:
        """When its phase began, as far as this run knows: counted anew after a restart, never shorter."""
        begun = pool.live.drill.since
        return begun if begun is not None else pool.site.started_at

    def over(self, pool: Snapshot) -> bool:
        """Has its phase had its time?"""
        return self.step.phase is not None and pool.now - self.since(pool) >= LIMITS[self.step.phase]


def advance(tx: Transaction, verdict: Verdict) -> None:
    """Walk on with the step that runs, end a drill of which nothing is left, and say what waits for a person."""
    drill = tx.record.drill
    if drill is not None and (number := drill.running) is not None:
        step = drill.steps[number]
        assert step.phase is not None
        _PHASES[step.phase](tx, Walk(drill, number, step, tx.live.drill.since is not None), verdict)
    drill = tx.record.drill
    if drill is not None and drill.running is None and (drill.abandoned or drill.next is None):
        _end(tx, drill)
    _say_open(tx)


def _say_open(tx: Transaction) -> None:
    """Whoever walks it looks at the last step, or evacuates the next host: it is told once it has waited for long."""
    drill, topic = tx.record.drill, AlertTopic(Matter.DRILL)
    if drill is None or drill.running is not None:
        tx.change(DrillProgress, waiting=None)
        if topic in tx.open_topics:
            tx.resolve_alert(topic, "the drill goes on" if drill is not None else "the drill is over")
        return
    since = tx.live.drill.waiting
    if since is None:
        tx.change(DrillProgress, waiting=tx.now)
    elif tx.now - since >= TOLD_AFTER_MS:
        left = ", ".join(f"{s.part.value} of {tx.name(s.host)}" for s in drill.steps if s.state is StepState.PLANNED)
        body = f"the drill that {drill.by} has begun waits for a word to its next step; not tried yet: {left}"
        tx.raise_alert(topic, DRILL_OPEN, body, {"by": drill.by, "left": left})


# ------------------------------------------------------------------------------------------------ power


def _off(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    if walk.step.host not in tx.record.after.switches:
        _to(tx, walk, Phase.READS_OFF)


def _reads_off(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    """Twice, and its agent silent: what is switched on before that was never seen off."""
    host = walk.step.host
    loss = walk.step.part is Part.POWER_LOSS
    failover = tx.record.failover
    if (read_off_twice(tx, host) and tx.heard(host) is None) or (loss and failover is not None and failover.open):
        if loss:
            _to(tx, walk, Phase.FAILOVER)
        else:
            _switch_on(tx, walk)
    elif walk.over(tx):
        seen = view(tx, host)
        says = f"its power reads {seen.power.value.upper()}" if seen.power is not Power.UNKNOWN else seen.why
        _switch_on(tx, walk, f"it was not read OFF twice within {span(LIMITS[Phase.READS_OFF])}: {says}")


def _switch_on(tx: Transaction, walk: Walk, why: str = "") -> None:
    _to(tx, walk, Phase.READS_ON, why)
    power_switch.drill_on(tx, walk.step.host, walk.step.by, walk.step.before)


def _failover(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    """The failover is the pool's own, by its mode and policy; here it is only watched."""
    host, failover = walk.step.host, tx.record.failover
    ours = failover is not None and failover.old_master == host and failover.old_boot == walk.step.before
    if ours and failover is not None and failover.open:
        return
    if ours and failover is not None and failover.step is Step.CLOSED:
        # That xapi is told may be put off for good; the host is not left off for it.
        if not any(item.host == host and item.what is OwedWork.DECLARE_DEAD for item in tx.record.owed):
            _switch_on(tx, walk)
        elif tx.now - walk.since(tx) >= DECLARED_WITHIN_MS:
            limit = span(DECLARED_WITHIN_MS)
            _switch_on(tx, walk, f"xapi was not told within {limit} that it is dead: poolwarden explain POOL")
    elif walk.over(tx):
        limit = span(LIMITS[Phase.FAILOVER])
        _switch_on(tx, walk, f"nobody has taken its place within {limit}: the pool is {verdict.word}")


def _reads_on(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    host = walk.step.host
    if host in tx.record.after.switches:
        return
    agent, seen = tx.heard(host), view(tx, host)
    if seen.power is Power.ON:
        _to(tx, walk, Phase.HEARD)
    elif agent is not None and agent.hello.boot_id != walk.step.before:
        # It lives, and is brought back. A device that does not see that has not passed.
        if tx.now - walk.since(tx) >= READS_ON_WITHIN_MS:
            says = "reads OFF" if seen.power is Power.OFF else f"does not read ON: {seen.why}"
            _to(tx, walk, Phase.HEARD, f"it has booted, and its power {says}")
    elif walk.over(tx):
        name = tx.name(host)
        _left_off(tx, walk, f"it does not read ON: poolwarden fence on {name}")


def _heard(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    agent = tx.heard(walk.step.host)
    if agent is not None and agent.hello.boot_id != walk.step.before:
        _to(tx, walk, Phase.BACK)
    elif agent is not None and view(tx, walk.step.host).power is Power.ON:
        _end_step(tx, walk, "its agent is heard in the same boot: it never was off")
    elif walk.over(tx):
        _left_off(tx, walk, f"its agent is not heard {span(LIMITS[Phase.HEARD])} after its power was switched on")


def _left_off(tx: Transaction, walk: Walk, why: str) -> None:
    """It is not back: told until it is heard (power_switch.py), and what is owed to it stays owed."""
    name = tx.name(walk.step.host)
    topic = AlertTopic(Matter.ASLEEP, walk.step.host, "drill")
    tx.raise_alert(topic, LEFT_OFF, f"{name}: {why}", {"name": name, "why": why})
    _end_step(tx, walk, why)


# ------------------------------------------------------------------------------------------------ xapi


def _answers(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    agent = tx.heard(walk.step.host)
    other = agent is not None and process_of(agent) not in ("", walk.step.before)
    if other and agent is not None and agent.facts.xapi.liveness is Liveness.ANSWERS:
        _to(tx, walk, Phase.BACK)
    elif walk.over(tx):
        _end_step(tx, walk, f"no new xapi has answered within {span(LIMITS[Phase.ANSWERS])}")


def _held(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    agent = tx.heard(walk.step.host)
    hold = agent.facts.hold if agent is not None else None
    answer = answer_of(tx, walk.step.host, walk.step.order)
    if why := _not_now(tx, verdict):
        _release(tx, walk, why)
    elif hold is not None and hold.stopped and hold.ports_closed:
        _to(tx, walk, Phase.REFUSED)
    elif answer is not None and answer.outcome is Outcome.REFUSED and hold is None:
        _release(tx, walk, f"its agent refuses the hold: {answer.text or answer.reason}")
    elif walk.over(tx):
        said = f": {hold.text}" if hold is not None and hold.text else ""
        _release(tx, walk, f"its toolstack was not seen stopped within {span(LIMITS[Phase.HELD])}{said}")


def _not_now(pool: Snapshot, verdict: Verdict) -> str:
    """Why nothing is held on for a drill: the master may have to be succeeded."""
    if pool.failover is not None or verdict.entails.master_is_lost or not verified(pool):
        return f"given up, as the pool became {verdict.word}"
    return "the drill was abandoned" if pool.record.drill is not None and pool.record.drill.abandoned else ""


def _refused(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    """A toolstack proof needs a refused connection from somewhere else: is one to be had here?"""
    host, since = walk.step.host, walk.since(tx)
    seen = [probe for other in tx.record.hosts if other != host and (probe := fresh_probe(tx, other, host)) is not None]
    if why := _not_now(tx, verdict):
        _release(tx, walk, why)
    elif any(probe.probed_at >= since and probe.outcome is ProbeOutcome.REFUSED for probe in seen):
        _release(tx, walk)
    elif walk.over(tx):
        _release(tx, walk, f"no other member got a refused connection there within {span(LIMITS[Phase.REFUSED])}")


def _release(tx: Transaction, walk: Walk, why: str = "") -> None:
    _to(tx, walk, Phase.RELEASED, why)
    name, host = tx.name(walk.step.host), walk.step.host
    text = f"{name} is owed the release of its toolstack: the drill has held it"
    tx.note(Kind.OWED, text, host=host, what=OwedWork.RELEASE.value, successor="")


def _released(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    host, agent = walk.step.host, tx.heard(walk.step.host)
    owed = any(item.host == host and item.what is OwedWork.RELEASE for item in tx.record.owed)
    if not owed and agent is not None and agent.facts.hold is None:
        _to(tx, walk, Phase.BACK)
    elif walk.over(tx):
        _end_step(tx, walk, f"it was not released within {span(LIMITS[Phase.RELEASED])}: it stays owed that")


# ------------------------------------------------------------------------------------------------ the role


def _handed(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    if tx.record.after.designation is not None:
        return
    if verified(tx) == walk.step.host:
        _to(tx, walk, Phase.HEALTHY)
    else:
        _end_step(tx, walk, f"the switchover has failed: poolwarden alerts {tx.record.display_name} says why")


def _healthy(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    """Hand the role back as soon as that may be; until then the reason why not is what is awaited."""
    host, before = walk.step.host, walk.step.before
    stays = f"the role stays with {tx.name(host)}: poolwarden designate {tx.name(before)}"
    if walk.drill.abandoned or verified(tx) not in (host, ""):
        _end_step(tx, walk, f"{stays}; it was not handed back")
        return
    if before not in tx.record.hosts:
        _end_step(tx, walk, f"the role stays with {tx.name(host)}: the other master is no host of the pool any more")
        return
    answer = switchover.begin(tx, before, walk.step.by, verdict) if verdict is Verdict.HEALTHY else None
    if isinstance(answer, str) and answer:
        _to(tx, walk, Phase.HANDED_BACK)
    elif walk.over(tx):
        why = answer.why if isinstance(answer, Refused) else f"the pool is {verdict.word}"
        _end_step(tx, walk, f"{stays}; it was not handed back: {why}")


def _handed_back(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    if tx.record.after.designation is not None:
        return
    if verified(tx) == walk.step.before:
        _end_step(tx, walk)
    else:
        why = f"handing the role back has failed: poolwarden alerts {tx.record.display_name} says why"
        _end_step(tx, walk, why)


# ------------------------------------------------------------------------------------------------ back in the pool


def _back(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    host, master = walk.step.host, verified(tx)
    entry = _entry(tx, walk, master)
    why = follows(tx, host, master) if master and master != host else ""
    if not isinstance(entry, str) and entry.live and not why:
        if walk.step.enabled or walk.step.part in POWER:
            _to(tx, walk, Phase.ENABLED)
        else:
            _end_step(tx, walk)
    elif walk.over(tx):
        told = why or (entry if isinstance(entry, str) else "its master does not have it live")
        _end_step(tx, walk, f"it is not back in the pool after {span(LIMITS[Phase.BACK])}: {told}")


def _entry(pool: Snapshot, walk: Walk, master: HostId) -> PoolHost | str:
    """How its master has the host in a view that it has told since this phase began: an older one is of before."""
    agent = pool.heard(master) if master else None
    at = agent.facts.observed.pool_view if agent is not None else None
    if at is None or at <= walk.since(pool):
        return "no master has told its view since"
    return entry_of(pool, walk.step.host, master)


def _enabled(tx: Transaction, walk: Walk, verdict: Verdict) -> None:
    """It was enabled before, or disabled for the drill; xapi enables a host after its start, or is asked to."""
    host, master = walk.step.host, verified(tx)
    entry = _entry(tx, walk, master)
    if not isinstance(entry, str) and entry.enabled:
        _end_step(tx, walk)
        return
    asked = any(sent.kind == "enable_host" and sent.at >= walk.since(tx) for sent in tx.live.sent.values())
    due = tx.now - walk.since(tx) >= ENABLE_AFTER_MS and not asked
    if due and enable_host.refusal(tx, verdict, host, master) is None:
        enable_host.order(tx, host, master, walk.step.by)
    elif walk.over(tx):
        _end_step(tx, walk, f"it is back and still disabled: poolwarden host enable {tx.name(host)}")


_PHASES: dict[Phase, Callable[[Transaction, Walk, Verdict], None]] = {
    Phase.OFF: _off,
    Phase.READS_OFF: _reads_off,
    Phase.FAILOVER: _failover,
    Phase.READS_ON: _reads_on,
    Phase.HEARD: _heard,
    Phase.ANSWERS: _answers,
    Phase.HELD: _held,
    Phase.REFUSED: _refused,
    Phase.RELEASED: _released,
    Phase.HANDED: _handed,
    Phase.HEALTHY: _healthy,
    Phase.HANDED_BACK: _handed_back,
    Phase.BACK: _back,
    Phase.ENABLED: _enabled,
}
