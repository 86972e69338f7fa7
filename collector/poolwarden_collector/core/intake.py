"""What an event changes in what is known, before anything is judged.

Rules
-----
* A sign of life of a host whose power was read OFF voids every reading so far; if it comes from the same boot, the
  device that said OFF is quarantined, durably, because it lied or belongs to another machine.
* An answered probe tells no boot: it is the same one only where it came so soon after the reading began that nobody can
  have switched the machine on, and its xapi have started, in between.
* Bytes that were on their way before a reading are not life after it: a report on an old stream only starts a
  challenge, whose answer is. A new stream is life by itself, its TLS handshake was made after the reading.
* A device is bound by an ON reading while the agent of that boot is heard, if it is this machine's (device_binding.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from poolwarden_collector.core.decision.database_contents import of_this_pool
from poolwarden_collector.core.devices import device_binding, device_health, device_runner
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.devices.power_view import block_of, counting
from poolwarden_collector.core.evidence import (
    announcements,
    fenced_hosts,
    identity_conflict,
    journal_gap,
    unlisted_hosts,
)
from poolwarden_collector.core.evidence.signs import answered, answered_by, foreign, own_certificate_fits, suspected
from poolwarden_collector.core.failover import unheard_check
from poolwarden_collector.core.failover.claims import claim_base
from poolwarden_collector.core.failover.last_look import roles_told
from poolwarden_collector.core.failover.power_off import landed
from poolwarden_collector.core.failover.toolstack_fence import transferred
from poolwarden_collector.core.followups import power_switch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.effects import SendChallenge
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Liveness, Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import ClaimOutcome, Outcome
from poolwarden_collector.core.model.power import Power, PowerReading
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.recovery import restart_in_place, unheard_at_boot
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.live import AgentState, CollectorProbe, PowerState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

_READINGS_KEPT = 16
LEAST_BOOT_MS: Ms = 20_000  # firmware, kernel and xapi's own start take longer on any machine
LEFT_AFTER_MS: Ms = 60_000


def take_in(d: Transaction, event: ev.Event) -> None:
    """Take one event in; ``OperatorSaid`` and ``Tick`` change no evidence."""
    handler = _HANDLERS.get(type(event))
    if handler is not None:
        handler(d, event)


def _connected(d: Transaction, event: ev.AgentConnected) -> None:
    if unlisted_hosts.is_stranger(d, event.hello.host):
        # safety: whoever only says himself that he is of this pool has no voice in it.
        unlisted_hosts.connected(d, event)
    else:
        _take_in(d, event)


def _take_in(d: Transaction, event: ev.AgentConnected) -> None:
    hello, before = event.hello, d.agent(event.hello.host)
    identity_conflict.watch_boots(d, hello)
    known = d.record.hosts.get(hello.host)
    if known is not None and not known.boot_id:
        forget(d, hello.host)  # it was off before anybody had heard of it: no device has lied
    facts = before.facts if before is not None and before.hello.boot_id == hello.boot_id else None
    state = AgentState(hello, event.stream, True, d.asof, connected_at=d.now)
    if facts is not None and before is not None:
        state = replace(state, facts=facts, connected_at=before.connected_at)
    d.change(agents={**d.live.agents, hello.host: state}, mute=d.live.mute - {hello.host})
    fenced_hosts.alive(d, hello.host, d.now, "its agent has opened a stream")
    _remember_host(d, event)
    announcements.welcome_back(d, hello.host)
    journal_gap.compare(d, hello)
    if _off_readings(d, hello.host):
        _life(d, hello.host, hello.boot_id, f"{d.name(hello.host)}'s agent opened a new stream")


def _remember_host(d: Transaction, event: ev.AgentConnected) -> None:
    hello = event.hello
    known = d.record.hosts.get(hello.host)
    address = hello.address or (known.address if known else "")
    data: dict[str, Any] = {
        "host": hello.host,
        "name": hello.name or hello.host,
        "address": address,
        "boot_id": hello.boot_id,
        "system_uuid": hello.machine.system_uuid,
    }
    if known is None:
        d.note(Kind.HOST_SEEN, f"{data['name']} ({address}) is a host of this pool", **data)
    elif known.boot_id != hello.boot_id and known.boot_id:
        d.note(Kind.HOST_BOOTED, f"{data['name']} has booted anew", **data)
    elif (known.name, known.address, known.boot_id) != (data["name"], address, hello.boot_id):
        d.note(Kind.HOST_SEEN, f"{data['name']} is now at {address}", **data)


def _reported(d: Transaction, event: ev.AgentReported) -> None:
    agent = d.agent(event.host)
    if agent is None or agent.stream != event.stream:
        unlisted_hosts.reported(d, event)
        _let_in(d)
        return
    hello = agent.hello
    if (told := event.facts.machine) is not None:
        # What a machine is stands in its Hello; only what its BMC tells it comes later.
        machine = replace(hello.machine, bmc_address=told.bmc_address, bmc_guid=told.bmc_guid)
        hello = hello if machine == hello.machine else replace(hello, machine=machine)
    heard = replace(agent, hello=hello, facts=event.facts, reported=True, last_heard=_arrived(d, event), connected=True)
    d.change(agents={**d.live.agents, event.host: heard})
    fenced_hosts.alive(d, event.host, d.now, "its agent reports")
    _suspicious_life(d, event.host)
    for probe in event.facts.probes:
        _standing(d, event.host, probe)
        _certificate(d, probe)
        if not foreign(d, event.host, probe):
            _probe_life(d, probe, f"{d.name(event.host)}'s probe")
    _ha(d, event)
    announcements.note_upgrade(d, event.host)
    journal_gap.forgotten(d, event.host)
    _pool_view(d, event)
    _let_in(d)
    address = event.facts.address
    known = d.record.hosts.get(event.host)
    if known is not None and address and address != known.address:
        data = {"host": event.host, "name": known.name, "address": address, "boot_id": known.boot_id}
        d.note(Kind.HOST_SEEN, f"{known.name} is now at {address}", **data, system_uuid=known.system_uuid)


def _arrived(d: Snapshot, event: ev.AgentReported) -> Ms:
    """When this report arrived: it says nothing of the time since, however late it is read."""
    return d.asof if event.at is None else min(event.at, d.now)


def _let_in(d: Transaction) -> None:
    """Take in who has been a stranger so far, with what it has said meanwhile."""
    if not d.live.strangers:
        return
    for state in unlisted_hosts.let_in(d):
        _take_in(d, ev.AgentConnected(state.stream, state.hello))
        taken = replace(state, connected_at=d.now)
        d.change(agents={**d.live.agents, state.hello.host: taken})


def _standing(d: Transaction, host: HostId, probe: Probe) -> None:
    """Who reaches the master's xapi while the master's own agent is heard may witness it, by that certificate."""
    master = d.heard(d.record.master)
    if master is None or probe.target != d.record.master or host == d.record.master or not answered(probe):
        return
    down = master.facts.xapi.liveness is Liveness.DOWN  # then it is not that xapi which has answered
    if down or probe.probed_at < max(d.live.master_since, d.site.started_at):
        return
    had = d.record.standing.get(host)
    if had is None:
        text = f"{d.name(host)} reaches the xapi of {d.name(probe.target)}: it may witness from now on"
    elif probe.certificate and probe.certificate != had:
        text = (
            f"{d.name(host)} sees a new certificate of {d.name(probe.target)}, whose agent is heard: it is the one now"
        )
    else:
        return
    d.note(Kind.STANDING, text, host=host, certificate=probe.certificate)


def _certificate(d: Transaction, probe: Probe) -> None:
    """What a host's xapi shows over TLS while its own agent is heard."""
    shown = probe.certificate
    if not answered(probe) or not shown or d.live.certificates.get(probe.target) == shown:
        return
    if d.heard(probe.target) is not None:
        d.change(certificates={**d.live.certificates, probe.target: shown})


def _ha(d: Transaction, event: ev.AgentReported) -> None:
    """HA that was seen armed stays so, over restarts, until that host or the serving master's view says otherwise."""
    armed, said = set(d.record.ha_armed), event.facts.database.ha_armed
    if said is Tri.YES:
        armed.add(event.host)
    elif said is Tri.NO:
        armed.discard(event.host)
    view = event.facts.pool_view
    if view is not None and event.facts.role.serves_as_master and event.facts.observed.pool_view is not None:
        if view.ha_enabled is Tri.YES:
            armed.add(event.host)
        elif view.ha_enabled is Tri.NO and said is Tri.NO:
            armed = set()
    if armed != d.record.ha_armed:
        names = ", ".join(sorted(d.name(host) for host in armed))
        text = f"xapi's HA is armed, as seen on {names}" if armed else "xapi's HA is armed nowhere any more"
        d.note(Kind.HA_SEEN, text, hosts=sorted(armed))


def _end_alerts_of(d: Transaction, host: HostId) -> None:
    """Nothing that is told of a host outlives its membership, but what was lost with it."""
    for topic in d.open_topics:
        if topic.concerns(host) and topic.matter is not Matter.LOST:
            d.resolve_alert(topic, f"{d.name(host)} is no host of this pool any more", final=True)


def _hosts_left(d: Transaction, listed: set[HostId]) -> None:
    """A host that the serving master does not list for a minute was ejected from the pool, or never was of it."""
    missing = frozenset(h for h in d.record.hosts if h not in listed)
    if not missing:
        d.change(left=None)
    elif d.live.left is None or d.live.left[0] != missing:
        d.change(left=(missing, d.now))
    elif d.now - d.live.left[1] >= LEFT_AFTER_MS and d.failover is None:
        for host in sorted(missing, key=d.name):
            d.note(
                Kind.HOST_LEFT,
                f"{d.name(host)} is no longer a host of this pool: the master does not list it",
                host=host,
            )
            _end_alerts_of(d, host)
        d.change(left=None, agents={h: a for h, a in d.live.agents.items() if h not in missing})


def _pool_view(d: Transaction, event: ev.AgentReported) -> None:
    seen = event.facts.pool_view
    if seen is None or not event.facts.role.serves_as_master or seen.master != event.host:
        return
    # safety: of this pool speaks its own master alone; another one's list of these hosts changes nothing.
    if d.record.master not in ("", event.host) or seen.pool not in ("", d.record.pool):
        return
    if event.facts.observed.pool_view is not None and seen.hosts:
        _hosts_left(d, {item.host for item in seen.hosts})
    if seen.name and seen.name != d.record.name:
        d.note(Kind.POOL_NAMED, f"this pool's name is {seen.name}", name=seen.name)
    for host in seen.hosts:
        known = d.record.hosts.get(host.host)
        if known is None or not known.address:
            data = {"host": host.host, "name": host.name, "address": host.address}
            d.note(Kind.HOST_SEEN, f"{host.name} ({host.address}) is a host of this pool", **data)


def _gone(d: Transaction, event: ev.AgentGone) -> None:
    agent = d.agent(event.host)
    if agent is None or agent.stream != event.stream:
        unlisted_hosts.gone(d, event)
        return
    announcements.goodbye(d, event)
    gone = replace(agent, connected=False, goodbye=event.goodbye or agent.goodbye)
    d.change(agents={**d.live.agents, event.host: gone})


def _order_answered(d: Transaction, event: ev.OrderAnswered) -> None:
    result = of_this_pool(event.result, event.host)
    if event.host in d.live.strangers:
        return
    _heard_now(d, event.host, event.stream)
    journal_gap.refused(d, event.host, result)
    sent = d.sent(result.order_id)
    if sent is not None and sent.host == event.host:
        d.change(sent={**d.live.sent, result.order_id: replace(sent, result=result, answered_at=d.now)})
    unheard_check.note_roles(d, event.host, result.roles)
    unheard_at_boot.note(d, event.host, result.order_id, result.roles)
    if result.claim is not None and sent is not None and result.outcome is Outcome.DONE:
        _claimed(d, event.host, result.order_id, result.claim)
    for probe in result.probes:
        if not foreign(d, event.host, probe):
            _probe_life(d, probe, f"{d.name(event.host)}'s fresh probe")
    fenced_hosts.told_roles(d, event.host, result.roles)
    look, failover = d.live.look, d.failover
    if look is None or result.nonce != look.nonce or event.host in look.answered:
        return
    old = failover.old_master if failover is not None else ""
    # safety: a last look that is answered is a veto, whatever kind of proof is at hand.
    alive = any(answered_by(d, event.host, probe) and probe.target == old for probe in result.probes)
    seen = f"{d.name(event.host)}'s fresh probe of {d.name(old)} was answered" if alive else look.alive
    by_candidate = failover is not None and event.host == failover.candidate
    misses = 0 if by_candidate else d.live.look_misses
    ours = [probe for probe in result.probes if probe.target == old]
    # A port that is filtered tells nothing; one that refuses does, unless somebody answers at the other one.
    outcomes = {probe.outcome for probe in ours}
    closed = ProbeOutcome.REFUSED in outcomes and not outcomes & {ProbeOutcome.ANSWERED, ProbeOutcome.NOT_XAPI}
    refused = (*look.refused, event.host) if closed else look.refused
    answers = (*look.answered, event.host)
    silent = [probe.probed_at for probe in ours if not answered(probe) and not foreign(d, event.host, probe)]
    seen_at = max([look.seen_at, *(min(at, d.now) for at in silent)])
    look = replace(look, answered=answers, alive=seen, refused=refused, seen_at=seen_at)
    d.change(look=roles_told(d, event.host, look, result.roles), look_misses=misses)


def _claimed(d: Transaction, host: HostId, order_id: str, claim: ClaimOutcome) -> None:
    """An answer to a claim counts only in its own round: an old look and old placements prove nothing now."""
    if claim.last_look is not None and not foreign(d, host, claim.last_look):
        _probe_life(d, claim.last_look, f"{d.name(host)}'s last look")
    if not order_ids.is_attempt(order_id, f"{claim_base(d)}.{host}"):
        return
    if claim.last_look is not None and answered_by(d, host, claim.last_look) and not claim.veto:
        claim = replace(claim, veto="the old master's xapi answers it")
    d.change(claims={**d.live.claims, host: claim})


def _heard_now(d: Transaction, host: HostId, stream: int) -> None:
    agent = d.agent(host)
    if agent is not None and agent.stream == stream:
        d.change(agents={**d.live.agents, host: replace(agent, last_heard=max(agent.last_heard, d.asof))})
        fenced_hosts.alive(d, host, d.now, "its agent answers")


def _challenge_answered(d: Transaction, event: ev.ChallengeAnswered) -> None:
    agent = d.agent(event.host)
    if agent is not None:
        _heard_now(d, event.host, agent.stream)
    asked_at = _challenge_time(event.nonce)
    if asked_at is not None and any(reading.ended_at <= asked_at for reading in _off_readings(d, event.host)):
        _life(d, event.host, event.boot_id, f"{d.name(event.host)} answered a challenge made after the reading")


def _challenge_time(nonce: str) -> Ms | None:
    _, _, stamp = nonce.rpartition("@")
    return int(stamp) if len(stamp) <= 18 and stamp.isascii() and stamp.isdigit() else None


def challenge(d: Transaction, host: HostId) -> None:
    """Ask this host for a sign of life that cannot be older than now; the nonce carries the instant of asking."""
    d.do(SendChallenge(host, f"{d.fresh_id('challenge')}@{d.now}"))


def _power_read(d: Transaction, event: ev.PowerRead) -> None:
    reading = event.reading
    state = d.live.power.get(reading.device, PowerState())
    if state.running != event.run_id:
        return
    readings = (*state.readings, reading)[-_READINGS_KEPT:]
    was_off = state.newest is not None and state.newest.power is Power.OFF
    if reading.power is Power.ON and was_off and event.host == suspected(d):
        d.change(grace_until=d.now + d.policy.boot_grace)  # somebody has just switched it on: it may be booting
    state = device_health.after(replace(state, readings=readings, running=""), reading)
    state = device_runner.noted(d, state, reading)
    d.change(power={**d.live.power, reading.device: state}, devices_due=0)
    device_binding.hold_to_its_word(d, event.host, reading)
    agent = d.heard(event.host)
    if agent is None or reading.power is Power.OFF:
        said = f" ({reading.text})" if reading.text and reading.power is Power.UNKNOWN else ""
        run_by = device_runner.phrase(d, reading.through)
        text = f"power of {d.name(event.host)} reads {reading.power.value.upper()} by {reading.device}{run_by}{said}"
        data = {"host": event.host, "device": reading.device, "power": reading.power.value, "run": event.run_id}
        data |= {"through": reading.through} if reading.through else {}
        d.note(Kind.POWER_READING, text, **data, started_ms=reading.started_at, ended_ms=reading.ended_at)
    fenced_hosts.power_read(d, event.host)
    if reading.power is Power.OFF:
        _known_life(d, event.host, reading.ended_at)
    if agent is None:
        return
    known = d.record.hosts.get(event.host)
    boot = known.boot_id if known else ""
    # safety: a run that began before this boot was heard may have read the machine of another time.
    ours = agent.hello.boot_id == boot and reading.started_at >= agent.connected_at
    if reading.power is Power.ON and boot and ours:
        device_binding.bind(d, event.host, boot, reading)
    elif reading.power is Power.OFF and reading.device not in d.record.devices.quarantined:
        challenge(d, event.host)


def _known_life(d: Transaction, host: HostId, ended_at: Ms) -> None:
    """Events may come out of order: life that is already known to be younger than this reading voids it too."""
    own = d.live.own_probe
    answers = [(own.answered_at, "the collector's own probe")] if own is not None and own.host == host else []
    for other, agent in d.live.agents.items():
        probe = agent.facts.probe_of(host)
        if probe is not None and not foreign(d, other, probe):
            answers.append((probe.answered_at, f"{d.name(other)}'s probe"))
    known = d.record.hosts.get(host)
    for at, who in answers:
        if at is not None and at > ended_at:
            boot = known.boot_id if known else ""
            _life(d, host, boot, f"{who} was answered by the xapi of {d.name(host)}")
            return


def _fence_ended(d: Transaction, event: ev.FenceEnded) -> None:
    if power_switch.ended(d, event):
        return
    failover = d.record.failover  # ended or not: an automatic power-off has its result in the journal
    if failover is None or failover.fence_pending is None or failover.fence_pending[1] != event.run_id:
        return
    if not event.certain:
        return  # cut off: the power-off may still land; it stays pending for its limit and 10 s more (power_off.py)
    word = "claims success" if event.claim else "failed" if event.begun else "did not happen"
    text = f"the power-off by {failover.fence_pending[0]} {word}: {event.text}"
    d.change(fenced_at=d.now)
    data = {"device": failover.fence_pending[0], "claim": event.claim, "certain": event.certain, "begun": event.begun}
    d.write(Entry(Kind.FENCE_RESULT, text, data, failover.id, d.record.term))
    if event.claim and not failover.open:
        landed(d, failover)


def _collector_probed(d: Transaction, event: ev.CollectorProbed) -> None:
    before = d.live.own_probe if d.live.own_probe is not None and d.live.own_probe.host == event.host else None
    ok = event.outcome is ProbeOutcome.ANSWERED
    fits = own_certificate_fits(d, event.host, event.certificate)
    answered_at = event.at if ok and fits else (before.answered_at if before else None)
    since = None if ok else (before.unanswered_since if before and before.unanswered_since is not None else event.at)
    d.change(own_probe=CollectorProbe(event.host, event.outcome, event.at, answered_at, since, event.certificate))
    if ok and fits and d.heard(event.host) is not None and event.host == d.record.master:
        d.change(own_standing=(event.host, event.certificate))
    if ok and fits:
        _probe_life(d, Probe(event.host, "", event.outcome, event.at), "the collector's own probe")


def _off_readings(d: Snapshot, host: HostId) -> list[PowerReading]:
    return [reading for device in d.devices(host) for reading in counting(d, device.name) if reading.power is Power.OFF]


def _suspicious_life(d: Transaction, host: HostId) -> None:
    """A report after an OFF reading: perhaps old bytes. Ask; a device's word is not thrown away for less."""
    if _off_readings(d, host):
        challenge(d, host)


def _probe_life(d: Transaction, probe: Probe, who: str) -> None:
    # A newer probe may have failed: what counts is when the xapi last answered.
    at = max(probe.probed_at if answered(probe) else -1, probe.answered_at if probe.answered_at is not None else -1)
    fenced_hosts.alive(d, probe.target, at, f"{who} was answered by its xapi")
    off = [reading for reading in _off_readings(d, probe.target) if reading.ended_at < at]
    if off:
        known = d.record.hosts.get(probe.target)
        # safety: a probe tells no boot. Only where nobody can have switched it on since is it the boot that read OFF,
        # and its device a liar; the readings are void either way.
        same = any(at - reading.started_at < LEAST_BOOT_MS for reading in off)
        boot = known.boot_id if known is not None and same else ""
        _life(d, probe.target, boot, f"{who} was answered by the xapi of {d.name(probe.target)}")


def _life(d: Transaction, host: HostId, boot_id: str, how: str) -> None:
    """Life of a host that was read OFF: the readings are void; from the same boot, the device is not to be believed."""
    devices = sorted({reading.device for reading in _off_readings(d, host)})
    known = d.record.hosts.get(host)
    d.note(Kind.CONTRARY, f"{how} after power was read OFF", host=host, boot_id=boot_id, devices=devices)
    # safety: voids every reading that began before this instant; a proof needs two new ones after it.
    power = {name: replace(state, readings=()) for name, state in d.live.power.items() if name in devices}
    d.change(power={**d.live.power, **power})
    if known is None or boot_id != known.boot_id or _booted_in(d, host):
        return
    d.change(contrary=(d.now, f"{how} after power was read OFF", host), devices_due=0)
    for device in devices:
        if device not in d.record.devices.quarantined:
            why = f"it read OFF, and then {how}"
            text = f"fence device {device} is quarantined: {why}"
            d.note(Kind.DEVICE_QUARANTINED, text, device=device, host=host, why=why, block=block_of(d, device, host))


def _booted_in(d: Transaction, host: HostId) -> bool:
    """Did this very step record a new boot of the host? Then it was really off and came back; nobody lied."""
    return any(entry.kind is Kind.HOST_BOOTED and entry.data.get("host") == host for entry in d.entries)


def _gate_asked(d: Transaction, event: ev.GateAsked) -> None:
    """Answered at the end of the step, when everything that follows from this host's return has been judged."""
    agent = d.agent(event.host)
    if agent is not None and agent.stream == event.stream and agent.hello.boot_id == event.boot_id:
        _heard_now(d, event.host, event.stream)
        asked = {**d.live.asked_gates, event.host: (event.boot_id, event.pool_conf)}
        d.change(asked_gates=asked)


def _refused(d: Transaction, event: ev.HostRefused) -> None:
    identity_conflict.refused(d, event)
    if _off_readings(d, event.host):
        # safety: whoever makes a TLS handshake with that host's certificate lives; which boot it is was not taken.
        _life(d, event.host, "", f"{d.name(event.host)}'s agent opened a stream, whose message was refused")


def _transferred(d: Transaction, event: ev.DatabaseTransferred) -> None:
    if not restart_in_place.transferred(d, event.transfer_id, event.placed, event.generation, event.size, event.text):
        transferred(d, event.transfer_id, event.target, event.placed, event.generation, event.size, event.text)


_HANDLERS: dict[type, Callable[[Transaction, Any], None]] = {
    ev.AgentConnected: _connected,
    ev.AgentReported: _reported,
    ev.AgentGone: _gone,
    ev.OrderAnswered: _order_answered,
    ev.ChallengeAnswered: _challenge_answered,
    ev.PowerRead: _power_read,
    ev.FenceEnded: _fence_ended,
    ev.CollectorProbed: _collector_probed,
    ev.DatabaseTransferred: _transferred,
    ev.HostElsewhere: identity_conflict.elsewhere,
    ev.HostRefused: _refused,
    ev.GateAsked: _gate_asked,
}
