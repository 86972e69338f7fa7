"""Proofs: what makes a promotion permissible. Only the verifiers in this module can make one.

Theory: a proof is a value of a class whose constructor needs a token that this module keeps; ``steps.py`` cannot
promote without one. Each verifier returns a proof or a ``Refusal`` with the reason, never a boolean. What follows from
each kind stands in model/proof_kinds.py.

* *power*: every device of the deciding level is bound to the host, and each gave two OFF readings (of two members,
  where members run it and several can: device_runner.py) at least ``reading_gap`` apart (3 s), the newest at most
  ``reading_fresh`` old (10 s), with no sign of life after the first of them began. Where this failover has switched it
  off by a device that an operator's word alone makes this host's (an outlet cannot tell), every other host that was
  heard then is heard since, in the same boot: an outlet of another machine takes that one's power, and reads OFF.
* *toolstack*: the old master's own agent, in the same boot, holds its toolstack at the failover's term, sees it stopped
  and its ports closed; and a prober that has reached that xapi under its present mastership is *refused* at TCP 443 or
  80, by a probe of the last 10 s, and answered at neither. A timeout is no refusal: either may be filtered.
* *rebooted*: the same machine in another boot, whose boot gate is shut at the failover's term. It only ever stands in
  for power, once the promotion was intended.
* *roles*: every host on record has answered a claim at this term and is a member by process and by pool.conf, or is
  silent and off: by its power, or by a person's word (operator_confirmation.py). No pool.conf names any other host, and
  a word about a silent one that it names is as fresh as a human proof. Then there is no master that could be harmed.
* *human*: a named operator typed the host's name and how it was made safe, within ``human_proof_fresh``.

Never: silence, refused connections alone, an unreachable BMC, an ``off`` that was not read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwarden.machine_identity import names_no_machine
from poolwarden_collector.core.devices.device_binding import tells
from poolwarden_collector.core.devices.device_runner import independent
from poolwarden_collector.core.devices.power_view import counting, deciding, is_bound, view
from poolwarden_collector.core.evidence.operator_confirmation import confirmed, spoken
from poolwarden_collector.core.model.host_facts import GateState, Liveness, ProbeOutcome
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.failover_record import Failover, Path, Step
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.snapshot import Snapshot

_TOKEN = object()


@dataclass(frozen=True, slots=True)
class NoProof:
    """Why there is no proof: a stable word, one sentence, and the devices or hosts that it is about."""

    code: str
    why: str
    subjects: tuple[str, ...] = ()


class Proof:
    """That a host, in one boot, can act as master no more. Made by this module's verifiers alone."""

    __slots__ = ("boot_id", "facts", "host", "kind")

    def __init__(self, token: object, kind: ProofKind, host: HostId, boot_id: str, facts: dict[str, Any]) -> None:
        if token is not _TOKEN:
            raise TypeError("a Proof is made by a verifier of poolwarden_collector.core.evidence.proof")
        self.kind = kind
        self.host = host
        self.boot_id = boot_id
        self.facts = facts


def verify_power(pool: Snapshot, host: HostId, boot_id: str) -> Proof | NoProof:
    """The power proof for this host and boot, or why there is none."""
    if host in pool.record.after.switches:
        # safety: an `on` under way makes every OFF reading old; an `off` is read once it has a result.
        return NoProof("SWITCHING", f"the power of {pool.name(host)} is being switched")
    now_view = view(pool, host)
    if now_view.power is Power.ON:
        return NoProof("POWER_ON", now_view.why)
    if now_view.power is Power.UNKNOWN:
        return NoProof("POWER_UNKNOWN", now_view.why, now_view.subjects)
    facts: list[dict[str, Any]] = []
    first = pool.now
    for device in deciding(pool, host):
        pair = _two_off(pool, device)
        if isinstance(pair, NoProof):
            return pair
        first = min(first, pair[0].started_at)
        # safety: bound to the very boot that is being proven dead, not merely to the machine's last known one.
        bond = pool.record.devices.bonds.get(device.name)
        if not is_bound(pool, device.name, host) or bond is None or bond.boot_id != boot_id:
            return NoProof(
                "UNBOUND", f"fence device {device.name} is not bound to this boot of {pool.name(host)}", (device.name,)
            )
        facts.append(
            {"device": device.name, "bound": bond.by, "first": _show(pool, pair[0]), "second": _show(pool, pair[1])}
        )
    if (fallen := _fallen_silent(pool, host, first)) is not None:
        return fallen
    return Proof(_TOKEN, ProofKind.POWER, host, boot_id, {"readings": facts})


def _fallen_silent(pool: Snapshot, host: HostId, first: Ms) -> NoProof | None:
    """Has another host gone since we switched this one off by devices that cannot tell which machine they switch?

    ``first``: when the reading began that first read OFF since then.
    """
    failover = pool.failover
    if failover is None or failover.old_master != host or not failover.fencing.beside:
        return None
    attempted = {device for device, _ in failover.fencing.attempts}
    untold = [each.name for each in deciding(pool, host) if each.name in attempted and not tells(pool, each.name, host)]
    if not untold:
        return None
    gone, awaited = [], []
    for other, boot in failover.fencing.beside.items():
        agent = pool.agent(other)
        if other not in pool.record.hosts:
            continue
        spoke = agent is not None and _spoke_since(pool, agent, first)
        if agent is None or agent.hello.boot_id != boot or (not spoke and pool.heard(other) is None):
            gone.append(other)
        elif not spoke:
            awaited.append(other)
    if not gone:
        names = ", ".join(pool.name(each) for each in awaited)
        return NoProof("STALE", f"whether {names} lives is still awaited") if awaited else None
    # safety: its OFF may be another machine's, and the old master may run on.
    names, by = ", ".join(pool.name(each) for each in gone), ", ".join(untold)
    why = f"{names} fell silent when {pool.name(host)} was switched off by {by}, "
    why += "which cannot tell which machine it switches"
    return NoProof("ANOTHER_FELL_SILENT", why, (*gone, *untold))


def _spoke_since(pool: Snapshot, agent: AgentState, first: Ms) -> bool:
    """Has this agent said something after that instant, and not only before?"""
    # safety: what waited with its stream to be let in was said before, and is read all at once.
    return agent.last_heard >= max(first, agent.connected_at + pool.policy.suspect_after)


def paired_since(pool: Snapshot, host: HostId) -> Ms:
    """When the reading began that first completed a pair of OFF readings; a last look must not be older."""
    return max((_pair_start(pool, device) for device in deciding(pool, host)), default=pool.now)


def _pair_start(pool: Snapshot, device: FenceDevice) -> Ms:
    run = list(counting(pool, device.name))
    while any(reading.power is not Power.OFF for reading in run):
        run.pop(0)
    for later in run:
        apart = later.started_at - run[0].ended_at >= pool.policy.reading_gap
        if apart and independent(pool, device, run[0], later):
            return later.started_at
    return pool.now


def verify_human(pool: Snapshot, host: HostId, boot_id: str, confirmed: dict[str, Any] | None) -> Proof | NoProof:
    """The human proof for this host, or why there is none."""
    if confirmed is None:
        return NoProof("NO_CONFIRMATION", f"nobody has confirmed that {pool.name(host)} is safe")
    if pool.live.fenced.word_used is None:
        # safety: a confirmation from before this collector's start has an unknown age; a person must say it again.
        return NoProof(
            "CONFIRM_AGAIN", f"the confirmation for {pool.name(host)} is from before the collector's restart"
        )
    age = pool.now - pool.live.fenced.word_used
    if age > pool.policy.human_proof_fresh:
        return NoProof("CONFIRM_AGAIN", f"the confirmation for {pool.name(host)} is {age // 60_000} min old")
    power = view(pool, host)
    if power.power is Power.ON and not confirmed.get("despite_power_on"):
        # safety: the machine's own power contradicts the word that it is off.
        return NoProof("POWER_ON", f"{power.why}, after it was confirmed safe")
    if (
        pool.live.contrary is not None
        and pool.live.contrary[2] == host
        and pool.live.contrary[0] > pool.live.fenced.word_used
    ):
        return NoProof("LIFE_SEEN", f"{pool.live.contrary[1]}, after it was confirmed safe")
    return Proof(
        _TOKEN,
        ProofKind.HUMAN,
        host,
        boot_id,
        {key: confirmed[key] for key in ("by", "how", "typed") if key in confirmed},
    )


_OF_A_REBOOT = ("OTHER_MACHINE", "GATE_OPEN", "NOT_STOPPED")


def find_proof(pool: Snapshot, failover: Failover) -> Proof | NoProof:
    """The proof that this failover can have now: of its own path, then by power, then by a reboot, then a person's."""
    if failover.path is Path.ROLES:
        return verify_roles(pool, failover)
    tried = []
    if failover.path is Path.TOOLSTACK:
        tried.append(verify_toolstack(pool, failover))
    tried.append(verify_power(pool, failover.old_master, failover.old_boot))
    if failover.step is Step.PROMOTING:
        tried.append(verify_rebooted(pool, failover))
    if failover.human is not None:
        tried.append(verify_human(pool, failover.old_master, failover.old_boot, failover.human))
    proof = next((found for found in tried if isinstance(found, Proof)), None)
    if proof is not None:
        return proof
    # Of several refusals the one is told that says what is still missing on the way that is being gone.
    rebooted = next((found for found in tried if isinstance(found, NoProof) and found.code in _OF_A_REBOOT), None)
    spoken = failover.human is not None and failover.path is not Path.TOOLSTACK
    told = rebooted or (tried[-1] if spoken else tried[0])
    assert isinstance(told, NoProof)
    return told


def verify_toolstack(pool: Snapshot, failover: Failover) -> Proof | NoProof:
    """The toolstack proof for the open failover, or why there is none."""
    host = failover.old_master
    name, agent, look = pool.name(host), pool.heard(host), pool.live.look.round
    if agent is None:
        return NoProof("AGENT_LOST", f"the agent of {name} is not heard: whether its toolstack is held is not known")
    if agent.hello.boot_id != failover.old_boot:
        return NoProof("BOOTED", f"{name} has booted anew")
    hold, seen_at = agent.facts.hold, agent.facts.observed.host
    if hold is None or hold.term != failover.term:
        return NoProof("NOT_HELD", f"the toolstack of {name} is not held at term {failover.term}")
    if seen_at is None or pool.now - seen_at > pool.policy.reading_fresh:
        return NoProof("STALE", f"what {name}'s agent says of its toolstack is old")
    if not hold.stopped or not hold.ports_closed or agent.facts.xapi.liveness is Liveness.ANSWERS:
        return NoProof("NOT_STOPPED", f"the toolstack of {name} is held and not stopped: {hold.text or 'xapi answers'}")
    if look is None or pool.now - look.at > pool.policy.reading_fresh:
        return NoProof("NO_PROBE", f"no fresh probe of {name}'s closed port has been made")
    if look.alive:
        return NoProof("LIFE_SEEN", look.alive)
    # safety: refused, not silent; and by someone who has been answered there under this master: it is no other host.
    probers = [pool.name(other) for other in look.refused if other in pool.record.standing and other != host]
    if _own_refused(pool, host):
        probers.append("the collector")
    if not probers:
        return NoProof("NO_PROBER", f"nobody who has reached {name}'s xapi before gets a refused connection there now")
    facts = {"term": hold.term, "refused_to": probers, "probed_ms": look.at, "seen_ms": seen_at}
    return Proof(_TOKEN, ProofKind.TOOLSTACK, host, failover.old_boot, facts)


def _own_refused(pool: Snapshot, host: HostId) -> bool:
    own = pool.live.own_probe.newest
    if own is None or own.host != host or own.answered_at is None or not pool.policy.collector_probe:
        return False
    return own.outcome is ProbeOutcome.REFUSED and pool.now - own.at <= pool.policy.reading_fresh


def verify_rebooted(pool: Snapshot, failover: Failover) -> Proof | NoProof:
    """The rebooted proof: this very machine, in another boot, behind a gate that is shut at this failover's term."""
    host = failover.old_master
    name, agent = pool.name(host), pool.heard(host)
    if agent is None or agent.hello.boot_id == failover.old_boot:
        return NoProof("NOT_REBOOTED", f"{name} has not been seen in another boot")
    machine = agent.hello.machine.system_uuid
    # safety: a UUID that vendors leave in place is that of many machines, and a clone's as well.
    if names_no_machine(machine) or machine != failover.old_machine:
        return NoProof("OTHER_MACHINE", f"what calls itself {name} is not known to be the same machine")
    gate, seen_at = agent.facts.boot_gate, agent.facts.observed.host
    if gate is None or gate.state is not GateState.SHUT or gate.term < failover.term:
        return NoProof("GATE_OPEN", f"{name} has booted anew, and its boot gate is not shut at term {failover.term}")
    if seen_at is None or pool.now - seen_at > pool.policy.reading_fresh:
        return NoProof("STALE", f"what {name}'s agent says of its boot gate is old")
    if agent.facts.xapi.process:
        return NoProof("NOT_STOPPED", f"{name} has booted anew, and its xapi runs")
    facts = {"boot_id": agent.hello.boot_id, "machine": machine, "gate_term": gate.term}
    return Proof(_TOKEN, ProofKind.REBOOTED, host, failover.old_boot, facts)


def verify_roles(pool: Snapshot, failover: Failover) -> Proof | NoProof:
    """The roles proof: nobody in the whole pool is master, by the word of every single host at this term."""
    heard: dict[str, str] = {}
    off: dict[HostId, str] = {}
    for host in sorted(pool.record.hosts, key=pool.name):
        agent = pool.heard(host)
        if agent is None:
            off[host] = why_off(pool, host)
            if not off[host]:
                return NoProof("HOST_SILENT", f"{pool.name(host)} is not heard: it may be the master")
            continue
        if host not in pool.live.claims.answers:
            return NoProof("NO_CLAIM", f"{pool.name(host)} has not answered the claim at term {failover.term}")
        role, at = agent.facts.role, agent.facts.observed.host
        if at is None or pool.now - at > pool.policy.reading_fresh:
            return NoProof("STALE", f"what {pool.name(host)}'s agent says of its role is old")
        running_master = role.running is Role.MASTER or role.serves_as_master
        unknown = role.running is Role.UNKNOWN and bool(agent.facts.xapi.process)
        if role.pool_conf is not Role.MEMBER or running_master or unknown:
            said = "may run" if unknown else "is set to run"
            return NoProof("MAY_BE_MASTER", f"{pool.name(host)} {said} as master (pool.conf: {role.pool_conf.value})")
        heard[host] = role.master_address
    known = {pool.record.address_of(host) for host in heard}
    # safety: who is followed is the likeliest master; an old word is enough for a silent member, not for it.
    known |= {pool.record.address_of(host) for host in off if _proven_off(pool, host) or spoken(pool, host) is not None}
    for host, address in heard.items():
        if address not in known:
            return NoProof(
                "NAMES_STRANGER", f"{pool.name(host)} follows {address}, which is no host that is heard or off"
            )
    facts: dict[str, Any] = {"followed": {pool.name(host): address for host, address in heard.items()}}
    facts |= {"off": {pool.name(host): why for host, why in off.items()}} if off else {}
    return Proof(_TOKEN, ProofKind.ROLES, failover.old_master, failover.old_boot, facts)


def why_off(pool: Snapshot, host: HostId) -> str:
    """Why this silent host cannot be the master, in one sentence; empty: it may be."""
    if _proven_off(pool, host):
        return f"the power of {pool.name(host)} reads OFF"
    word = confirmed(pool, host)
    return f"{word.by} confirmed that {pool.name(host)} is off: {word.how}" if word is not None else ""


def _proven_off(pool: Snapshot, host: HostId) -> bool:
    return isinstance(verify_power(pool, host, pool.record.hosts[host].boot_id), Proof)


def _two_off(pool: Snapshot, device: FenceDevice) -> tuple[PowerReading, PowerReading] | NoProof:
    """The newest OFF reading and the newest one at least ``reading_gap`` before it, with nothing but OFF between."""
    run: list[PowerReading] = []
    name, lived = device.name, lived_until(pool, device.host)
    for reading in reversed(counting(pool, name)):
        # safety: a run that began before the last sign of life may have read, and told, something from before it.
        if reading.power is not Power.OFF or reading.started_at <= lived:
            break
        run.append(reading)
    if not run:
        return NoProof("POWER_UNKNOWN", f"fence device {name} does not read OFF")
    newest = run[0]
    if pool.now - newest.true_at > pool.policy.reading_fresh:
        return NoProof("STALE", f"the last OFF reading of {name} is {(pool.now - newest.true_at) / 1000:.0f} s old")
    for earlier in run[1:]:
        # safety: from the end of the earlier run to the start of the later one, so that they cannot be one answer.
        if newest.started_at - earlier.ended_at >= pool.policy.reading_gap and independent(
            pool, device, earlier, newest
        ):
            return earlier, newest
    return NoProof("ONE_READING", f"fence device {name} has read OFF once; a second reading is due{_of(pool, newest)}")


def lived_until(pool: Snapshot, host: HostId) -> Ms:
    """When this host last gave a sign of life that is known: its agent's word, or an answer of its xapi; -1: never.

    A probe that is answered now is judged elsewhere (intake.py): it may be somebody else's xapi that answers it.
    """
    seen = [-1]
    if (own := pool.live.own_probe.newest) is not None and own.host == host and own.answered_at is not None:
        seen.append(own.answered_at)
    for other, agent in pool.live.agents.items():
        probe = agent.facts.probe_of(host)
        if other == host and agent.reported:
            seen.append(agent.last_heard)
        elif probe is not None and probe.answered_at is not None and probe.outcome is not ProbeOutcome.ANSWERED:
            seen.append(probe.answered_at)
    return max(seen)


def _of(pool: Snapshot, reading: PowerReading) -> str:
    """Where a member has read it: by another one, if there is one."""
    return f" (the first was run by {pool.name(reading.through)})" if reading.through else ""


def _show(pool: Snapshot, reading: PowerReading) -> dict[str, Any]:
    through = {"through": reading.through} if reading.through else {}
    return {"power": reading.power.value, "ended_ms": reading.ended_at, "text": reading.text, **through}
