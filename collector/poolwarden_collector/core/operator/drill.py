"""``drill POOL``: a maintenance window that is walked step by step, each step begun by a word of its own.

Rules
-----
* One drill per pool. It is begun, each of its steps is begun, passed over or refused, and it ends, with who said so.
* A step is one of the acts that an operator can order anyway, by the modules that guard it; here is only asked what
  stands against it as a drill (drill_checks.py), and who wants it. Switching off needs the host's name typed.
* What is begun is brought to its safe end by drill_walk.py, whether or not anybody asks for the rest. Abandoning ends
  the drill once the step that runs has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from poolwarden_collector.core.decision.database_contents import forget_placements
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups import power_switch
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.orders import Preconditions, ToolstackFence
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.operator import drill_checks, drill_walk, restart_xapi
from poolwarden_collector.core.operator.drill_walk import Started
from poolwarden_collector.core.recovery import switchover
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.drill_record import POWER, Drill, DrillStep, Part, Phase
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

READ_WITHIN_MS: Ms = 8_000  # a database's file is being read
SEEN_WITHIN_MS: Ms = 9_000  # the host looks once more; the caller is answered within ten seconds
WHY_MOST = 300  # characters of why a step is passed over
USUAL = (Part.FENCE, Part.RESTART, Part.HOLD, Part.SWITCHOVER)
GO_ON = "poolwarden drill POOL --resume, or --abandon"


def argument(part: Part) -> str:
    """The name of the command's argument that asks for this step."""
    return part.name.lower()


def wanted(pool: Snapshot, said: OperatorSaid) -> tuple[tuple[Part, HostId], ...] | Refused:
    """The steps that this command names, in their order, each with its host."""
    parts = [part for part in Part if said.arg(argument(part))] or list(USUAL)
    master = verified(pool)
    member = said.host or _member(pool, master)
    if not member and any(part is not Part.POWER_LOSS for part in parts):
        return Refused("nobody-to-drill", "no member of this pool is heard", "poolwarden hosts POOL")
    return tuple((part, master if part is Part.POWER_LOSS else member) for part in parts)


def _member(pool: Snapshot, master: HostId) -> HostId:
    """The member that is drilled where none is named: one on which nothing runs before one that is in use."""
    heard = [host for host in sorted(pool.record.hosts, key=pool.name) if host != master and pool.heard(host)]
    empty = [host for host in heard if drill_checks.runs_there(pool, host) is None]
    return next(iter([*empty, *heard]), "")


# ------------------------------------------------------------------------------------------------ the drill


def command_begin(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """Begin a drill: no step of it is begun by that. Empty: a database is being read."""
    if (drill := tx.record.drill) is not None:
        return Refused("drill-open", f"a drill by {drill.by} is open already", GO_ON)
    steps = wanted(tx, said)
    if isinstance(steps, Refused):
        return steps
    refusal = against(tx, steps, verdict)
    if isinstance(refusal, Refused):
        return _read_anew(tx, refusal)
    if refusal is False:
        waiting_commands.wait(tx, said, READ_WITHIN_MS)
        return ""
    number = tx.fresh_id("drill")
    what = ", ".join(f"{part.value} of {tx.name(host)}" for part, host in steps)
    data = [{"part": part.value, "host": host} for part, host in steps]
    text = f"{said.actor} begins a drill: {what}"
    tx.note(Kind.DRILL_BEGUN, text, said.actor, drill=number, by=said.actor, steps=data)
    drill_walk.begun(tx)
    return f"the drill is begun, and no step of it yet: {what}. {GO_ON.replace('--abandon', '--abandon ends it')}"


def against(tx: Transaction, steps: tuple[tuple[Part, HostId], ...], verdict: Verdict) -> Refused | bool:
    """What stands against these steps: of the first one everything, of the others what no word of a person changes
    meanwhile. True: nothing; False: a database is being read.
    """
    if len(tx.record.hosts) < 2:
        return Refused("one-host", "a pool of one host has nobody to hand a role to", "Nothing is drilled here.")
    if no := drill_checks.of_pool(tx, verdict):
        return no
    for number, (part, host) in enumerate(steps):
        if number and part in POWER and (no := power_switch.drill_refusal(tx, host)):
            return no
    part, host = steps[0]
    read = drill_checks.placed_there(tx, host) if part in POWER else True
    if read is False:
        return False
    return drill_checks.of_step(tx, part, host, verdict) or read


def _read_anew(tx: Transaction, refusal: Refused) -> Refused:
    """Whoever evacuates the host and asks again is answered by what the master's file says then."""
    forget_placements(tx, verified(tx))
    return refusal


def command_abandon(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """No further step; the one that runs is brought to its safe end first."""
    drill = tx.record.drill
    if drill is None:
        return _none()
    if drill.abandoned:
        return Refused("abandoned", f"{drill.abandoned} has abandoned it already", "poolwarden status POOL")
    tx.note(Kind.DRILL_ABANDONED, f"{said.actor} abandons the drill", said.actor, drill=drill.id, by=said.actor)
    running = drill.running
    if running is None:
        return "the drill is abandoned"
    step = drill.steps[running]
    return f"the drill is abandoned, and ends once {step.part.value} of {tx.name(step.host)} has come to its safe end"


def _none() -> Refused:
    return Refused("no-drill", "no drill is open in this pool", "poolwarden drill POOL --plan")


# ------------------------------------------------------------------------------------------------ its steps


def command_step(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """Begin the next step. Empty: a database is being read first."""
    found = _next(tx, said)
    if isinstance(found, Refused):
        return found
    drill, number = found
    step = drill.steps[number]
    if step.part in POWER and said.arg("typed_name") not in (tx.name(step.host), step.host):
        why = f"typed {said.arg('typed_name')!r}, the host's name is {tx.name(step.host)!r}"
        return Refused("name-differs", why, "Type the host's name exactly.")
    refusal = drill_checks.of_pool(tx, verdict) or drill_checks.of_step(tx, step.part, step.host, verdict)
    if refusal is not None:
        return _read_anew(tx, refusal)
    of_host = replace(said, host=step.host)
    started = _STARTS[step.part](tx, step, of_host, verdict)
    if isinstance(started, Refused):
        return _read_anew(tx, started)
    if started is None:
        return ""
    drill_walk.step_begun(tx, drill, number, started, said.actor)
    return f"begun: {step.part.value} of {tx.name(step.host)}; poolwarden status POOL tells how far it is"


def command_skip(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """Pass the next step over; the result says why it was never tried."""
    found = _next(tx, said)
    if isinstance(found, Refused):
        return found
    drill, number = found
    why = said.arg("why").strip()[:WHY_MOST] or f"{said.actor} passed it over"
    drill_walk.skipped(tx, drill, number, why, said.actor)
    step = drill.steps[number]
    return f"passed over: {step.part.value} of {tx.name(step.host)}"


def _next(pool: Snapshot, said: OperatorSaid) -> tuple[Drill, int] | Refused:
    """The step that this command is about: the next one, and no other."""
    drill = pool.record.drill
    if drill is None:
        return _none()
    if drill.abandoned:
        return Refused("abandoned", f"{drill.abandoned} has abandoned this drill", "poolwarden status POOL")
    if (running := drill.running) is not None:
        step = drill.steps[running]
        return Refused("step-running", f"{step.part.value} of {pool.name(step.host)} runs", "poolwarden status POOL")
    number = drill.next
    if number is None:
        return _none()
    asked = said.arg("step")
    if asked.isdecimal() and int(asked) not in (0, number + 1):
        # safety: the word was to a step that is over, or not due; another host would be switched off by it.
        return Refused("other-step", f"step {number + 1} is next, not step {asked}", "poolwarden status POOL")
    return drill, number


# Each begins its step: what it came to, or why not, or None while a database is being read.


def _fence(tx: Transaction, step: DrillStep, said: OperatorSaid, verdict: Verdict) -> Started | Refused | None:
    empty = drill_checks.placed_there(tx, step.host)
    if isinstance(empty, Refused):
        return empty
    asked = said if said.arg("asked_at") else replace(said, args=(*said.args, ("asked_at", str(tx.now))))
    # safety: a VM may have been started there since what was seen before this word; it would be killed.
    if not empty or not drill_checks.seen_since(tx, step.host, int(asked.arg("asked_at"))):
        waiting_commands.wait(tx, asked, SEEN_WITHIN_MS)
        return None
    agent = tx.heard(step.host)
    assert agent is not None  # of_step has asked
    power_switch.drill_off(tx, step.host, said.actor)
    return Started(Phase.OFF, before=agent.hello.boot_id)


def _restart(tx: Transaction, step: DrillStep, said: OperatorSaid, verdict: Verdict) -> Started | Refused | None:
    agent = tx.heard(step.host)
    answer = restart_xapi.command_restart(tx, said, verdict)
    if isinstance(answer, Refused):
        return answer
    return Started(Phase.ANSWERS, before=drill_walk.process_of(agent)) if answer else None


def _hold(tx: Transaction, step: DrillStep, said: OperatorSaid, verdict: Verdict) -> Started | Refused | None:
    safe = drill_checks.kills_none(tx, step.host)
    if isinstance(safe, Refused):
        return safe
    if not safe:
        waiting_commands.wait(tx, said, READ_WITHIN_MS)
        return None
    order_id = tx.fresh_id("drill-hold")
    # safety: a member's, by its own pool.conf, at the pool's present term: no failover is of that term or ever will be.
    pre = Preconditions(ha_off=True, pool_conf_in=(Role.MEMBER,))
    tx.send(order_id, step.host, ToolstackFence(), ORDER_VALID_MS, pre)
    return Started(Phase.HELD, order=order_id)


def _switchover(tx: Transaction, step: DrillStep, said: OperatorSaid, verdict: Verdict) -> Started | Refused | None:
    before = verified(tx)
    answer = switchover.begin(tx, step.host, said.actor, verdict)
    if isinstance(answer, Refused):
        return answer
    if not answer:
        waiting_commands.wait(tx, said, READ_WITHIN_MS)
        return None
    return Started(Phase.HANDED, before=before)


_Start = Callable[[Transaction, DrillStep, OperatorSaid, Verdict], Started | Refused | None]
_STARTS: dict[Part, _Start] = {
    Part.FENCE: _fence,
    Part.RESTART: _restart,
    Part.HOLD: _hold,
    Part.SWITCHOVER: _switchover,
    Part.POWER_LOSS: _fence,
}
VERBS: dict[str, Callable[[Transaction, OperatorSaid, Verdict], str | Refused]] = {
    "drill-begin": command_begin,
    "drill-step": command_step,
    "drill-skip": command_skip,
    "drill-abandon": command_abandon,
}
