"""Policy ``start_lost = "tagged"``: lost VMs start by themselves where their owner wishes it; what stands against it.

Theory: beside a promotion nothing here is as dangerous as a VM that is started by itself: one that runs twice destroys
its disks. A host whose power reads OFF runs nothing; xapi's database and SM's locks on disks prove nothing. So
everything is seen anew right before each start, and what cannot be seen is a person's to judge (``start-lost``).

Rules
-----
* Only of a host that is declared dead and that a failover's own power proof had owed that; never after a toolstack,
  rebooted, roles or human proof, nor of a host that only a person had declared. A host that is heard again ends it.
* Its power reads OFF by two readings that both began after the declaration, the newest at most ``reading_fresh`` old,
  and no host's connection to it is answered or refused.
* Every other host on record is heard, has HA off by its own word, and has told its domains within ``reading_fresh``,
  after the declaration; the master tells its list of hosts, which all are on record. The VM runs on none of them.
* Its own host's agent had it running when it was last heard, and the host gave no sign of life long after that: what a
  database copy alone says may be older than its owner's shutdown.
* Its owner wishes it by the VM's own record, read by the verified master for this very start; it is Halted there, and
  some host takes it. The master's agent reads the wish once more when it obeys.
* Mode ``auto``, verdict Healthy, and nothing that would be asked: no pause, quiet time, announcement, HA, open
  question, drill, gap in the journal, nor an assumption that failed. The cool-down alone does not hold it.
* Lower VM.order first; after each its VM.start_delay, which begins anew in another run of the collector. A start that
  failed or whose end is not known is asked about and never tried again by itself. It holds no other, nor does a VM
  that something of its own stands against.
"""

from __future__ import annotations

from poolwarden.assumptions import FOLLOWUPS, POWER
from poolwarden_collector.core.catalogue.lost_vms import NOT_STARTED
from poolwarden_collector.core.decision.permission import standing_refusal
from poolwarden_collector.core.devices.power_view import counting, deciding
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.announcements import announcement_sentence
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.evidence.signs import fresh_probe
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups import vm_places
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.order_results import StartWish
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.followup_record import DeadHost, LostVm
from poolwarden_collector.core.state.live_slices import PolicyStarts
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

CAPABILITY = "start_wishes"
VALID_MS: Ms = 5_000  # of an order: what it rests on is at most 10 s old
PLACE_FRESH_MS: Ms = 1_000  # an answer is a step of its own, in which the start is ordered
# How often the wishes of VMs that wait are read again: hosts are enabled minutes after a promotion.
OFTEN_MS: Ms = 60_000
SELDOM_MS: Ms = 600_000
OFTEN_FOR_MS: Ms = 900_000
OVER = ("started", "running", "failed")
_OWNERS = (Cause.WISH,)  # its owner has said otherwise: no more to do with it than if it had never been queued
_CONTRARY = (Cause.ALIVE, Cause.BOOTED)  # something contradicts the proof: never again by itself


def wanted(pool: Snapshot) -> bool:
    """Does the pool's policy start lost VMs?"""
    return pool.policy.start_lost == "tagged"


def advance(tx: Transaction, verdict: Verdict) -> None:
    """Queue what its owner wishes to be started, let go of what he does not, and say what stands against the others."""
    _note(tx)
    if not wanted(tx):
        for vm in list(tx.record.after.lost.values()):
            if vm.by_policy and vm.state == "queued":
                _let_go(tx, vm, "the policy start_lost is never now")
        _see(tx, (), frozenset())
        return
    _read_wishes(tx)
    held: list[tuple[str, Reason]] = []
    reading: set[HostId] = set()
    for vm in sorted(tx.record.after.lost.values(), key=lambda each: each.name):
        why = _judge(tx, vm, verdict)
        if why is not None:
            held.append((vm.vm, why))
        elif tx.record.after.lost[vm.vm].by_policy and tx.record.after.lost[vm.vm].state == "queued":
            reading.add(vm.host)
    _see(tx, tuple(held), frozenset(reading))


def nothing_lost(tx: Transaction) -> None:
    """The list is empty, by a person's word too: what was said of its VMs is over, no power is read for them."""
    _see(tx, (), frozenset())


def _judge(tx: Transaction, vm: LostVm, verdict: Verdict) -> Reason | None:
    """Queue this VM or let it go; what stands against its start by policy where its owner wishes it, else None."""
    if vm.state == "failed" and vm.by_policy:
        return Reason(Cause.ANSWER, vm.why, (vm.vm,))
    queued = vm.state == "queued" and vm.by_policy
    if not (queued or vm.state == "lost") or vm.host not in tx.live.policy_starts.declared:
        return None
    why = against(tx, vm, verdict)
    if vm.state == "lost":
        if why is None and _wish(tx, vm) is not None:
            text = f"{vm.name} is to be started: its owner wishes it (policy start_lost)"
            tx.note(Kind.START_INTENT, text, vm=vm.vm, state="queued", policy=True)
        return why if _wished(tx, vm) else None
    if why is not None and why.code in _OWNERS:
        _let_go(tx, vm, why.text)
        return None
    if why is not None and why.code in _CONTRARY:
        text = f"{vm.name} was not started: {why}"
        tx.note(Kind.START_RESULT, text, vm=vm.vm, state="failed", why=why.text)
    return why


def _let_go(tx: Transaction, vm: LostVm, why: str) -> None:
    text = f"{vm.name} is not started by itself: {why}"
    tx.note(Kind.START_RESULT, text, vm=vm.vm, state="lost", why=why)


# ------------------------------------------------------------------------------------------------ against it


def against(pool: Snapshot, vm: LostVm, verdict: Verdict) -> Reason | None:
    """Why this VM may not be started by policy now, but for what is read anew right before (``not_yet``); else None."""
    return (
        _pool_refusal(pool)
        or _host_refusal(pool, pool.record.after.dead[vm.host])
        or _unseen_hosts(pool, vm.host)
        or _vm_refusal(pool, vm)
        or _verdict_refusal(verdict)
    )


def its_turn(pool: Snapshot, vm: LostVm, verdict: Verdict) -> bool:
    """Does nothing stand against a VM that was queued by policy, and does no other come before it?"""
    return against(pool, vm, verdict) is None and not _before(pool, vm)


def not_yet(tx: Transaction, vm: LostVm) -> bool:
    """Is anything to be read anew for this very start? What can be asked for is asked for.

    The power proof itself is the caller's (lost_vms.py); here both its readings must begin after the declaration.
    """
    if not _read_off_since(tx, vm.host):
        return True
    told = vm_places.told_place(tx, vm.vm)
    if told is None or tx.now - told.told > PLACE_FRESH_MS:
        vm_places.ask(tx, (vm.vm,))
        return True
    return False


def _verdict_refusal(verdict: Verdict) -> Reason | None:
    if verdict is Verdict.HEALTHY:
        return None
    return Reason(Cause.VERDICT, f"the pool is {verdict.word}: {verdict.meaning}", (verdict.word,))


def _pool_refusal(pool: Snapshot) -> Reason | None:
    standing = standing_refusal(pool)
    if standing is not None and standing.code is not Cause.COOLDOWN:
        return standing
    if held := announcement_sentence(pool):
        return Reason(Cause.ANNOUNCED, f"the pool is held: {held}")
    if pool.record.question is not None:
        return Reason(Cause.QUESTION, "something is asked of a person in this pool first")
    if pool.record.drill is not None:
        return Reason(Cause.DRILL, "a drill is open")
    master = verified(pool)
    agent = pool.heard(master) if master else None
    if agent is None:
        return Reason(Cause.NOT_HEARD, "there is no verified master that could start a VM")
    missing = [name for name in ("start_vm", "locate_vms", CAPABILITY) if name not in agent.hello.capabilities]
    if missing:
        why = f"the agent {agent.hello.agent_version} of {pool.name(master)} cannot do it: {', '.join(missing)}"
        return Reason(Cause.INCAPABLE, why, (master,))
    return assumptions.refusal(pool, master, FOLLOWUPS)


def _host_refusal(pool: Snapshot, dead: DeadHost) -> Reason | None:
    """What contradicts that this host is off, but for its devices."""
    name, known = pool.name(dead.host), pool.record.hosts.get(dead.host)
    if pool.heard(dead.host) is not None or known is None or known.boot_id != dead.boot_id:
        return Reason(Cause.BOOTED, f"{name} is back: its VMs start at a person's word alone", (dead.host,))
    for other in pool.record.hosts:
        probe = fresh_probe(pool, other, dead.host) if other != dead.host else None
        if probe is not None and probe.outcome in (ProbeOutcome.ANSWERED, ProbeOutcome.REFUSED):
            # safety: a machine without power refuses no connection, whatever its devices read.
            why = f"something lives at the address of {name}: it has {probe.outcome.value} {pool.name(other)}"
            return Reason(Cause.ALIVE, why, (dead.host,))
    return assumptions.refusal(pool, dead.host, POWER)


def _unseen_hosts(pool: Snapshot, dead: HostId) -> Reason | None:
    """A host whose running VMs are not known as of now, or on which xapi's HA may start VMs itself."""
    since = pool.live.policy_starts.declared.get(dead, pool.now)
    for host in sorted(pool.record.hosts, key=pool.name):
        if host == dead:
            continue
        agent, name = pool.heard(host), pool.name(host)
        if agent is None:
            return Reason(Cause.NOT_HEARD, f"{name} is not heard: what runs there is not known", (host,))
        if agent.facts.domains is None:
            return Reason(Cause.DOMAINS, f"which VMs run on {name} cannot be read", (host,))
        if agent.facts.database.ha_armed is not Tri.NO:
            return Reason(Cause.HA, f"xapi's HA is armed on {name}, or its flag cannot be read", (host,))
        seen = agent.facts.observed.host
        if seen is None or pool.now - seen > pool.policy.reading_fresh:
            return Reason(Cause.OLD_FACTS, f"what {name} runs was told too long ago", (host,))
        if seen < since:
            return Reason(Cause.WAITING, f"what {name} runs is about to be told")
    if master_view(pool, verified(pool)) is None:
        return Reason(Cause.NO_LIST, "the master has not told its list of hosts")
    return None


def _vm_refusal(pool: Snapshot, vm: LostVm) -> Reason | None:
    told, wish = vm_places.told_place(pool, vm.vm), _wish(pool, vm)
    if told is None or told.asked < pool.live.policy_starts.declared.get(vm.host, pool.now):
        return Reason(Cause.WAITING, "where it can start is being asked")
    if told.place.text:
        return Reason(Cause.UNREADABLE, told.place.text, (vm.vm,))
    if wish is None or not wish.wished:
        return Reason(Cause.WISH, "its owner does not wish it", (vm.vm,))
    if told.place.power_state == "Running":
        again = (
            f"the master's database has it running; if it runs nowhere: poolwarden declare-dead {pool.name(vm.host)}"
        )
        return Reason(Cause.WISH, again, (vm.vm,))
    if wish.against or told.place.power_state != "Halted":
        return Reason(Cause.WISH, wish.against or "its power state is not known", (vm.vm,))
    if vm.seen is not True:
        last = "its own agent did not have it running when it was last heard"
        why = last if vm.seen is False else "what ran there at the end is not known any more"
        return Reason(Cause.NOT_SEEN, f"{pool.name(vm.host)}: {why}", (vm.vm,))
    if not vm_places.possible(pool, vm.vm):
        return Reason(Cause.NOWHERE, vm_places.why_not(pool, vm.vm), (vm.vm,))
    return None


def _wish(pool: Snapshot, vm: LostVm) -> StartWish | None:
    told = vm_places.told_place(pool, vm.vm)
    return told.place.wish if told is not None else None


def _wished(pool: Snapshot, vm: LostVm) -> bool:
    """Does its owner wish it, as far as anybody has told?"""
    wish = _wish(pool, vm)
    return wish is not None and wish.wished


def _read_off_since(pool: Snapshot, host: HostId) -> bool:
    """Did two OFF readings of each deciding device begin after the host was seen to be declared dead?"""
    since, devices = pool.live.policy_starts.declared[host], deciding(pool, host)
    for device in devices:
        off = [r for r in counting(pool, device.name) if r.power is Power.OFF and r.started_at > since]
        if len(off) < 2 or off[-1].started_at - off[0].ended_at < pool.policy.reading_gap:
            return False
    return bool(devices)


def _before(pool: Snapshot, vm: LostVm) -> bool:
    """Does a VM of a lower order come first, or its delay?"""
    own = _order(pool, vm)
    for other in pool.record.after.lost.values():
        if other.host != vm.host or other.vm == vm.vm:
            continue
        if (other.by_policy or other.state == "lost") and vm_places.told_place(pool, other.vm) is None:
            return True
        wish = _wish(pool, other)
        if not other.by_policy or wish is None or wish.order >= own:
            continue
        if other.state not in OVER:
            own_reason = _vm_refusal(pool, other)
            if own_reason is None or own_reason.code is Cause.WAITING:
                return True
            continue
        ended = pool.live.policy_starts.ended.get(other.vm, pool.now)
        if other.state != "failed" and pool.now - ended < wish.delay:
            return True
    return False


def _order(pool: Snapshot, vm: LostVm) -> int:
    wish = _wish(pool, vm)
    return wish.order if wish is not None else 0


# ------------------------------------------------------------------------------------------------ what is remembered


def _note(tx: Transaction) -> None:
    """Since when this run has seen what: hosts that are declared dead, and starts that are over."""
    seen, lost = tx.live.policy_starts, tx.record.after.lost
    dead = [d.host for d in tx.record.after.dead.values() if d.declared and d.own]
    declared = {host: seen.declared.get(host, tx.now) for host in sorted(dead)}
    over = (vm for vm in lost.values() if vm.by_policy and vm.state in OVER)
    ended = {vm.vm: seen.ended.get(vm.vm, tx.now) for vm in over}
    if (declared, ended) != (seen.declared, seen.ended):
        tx.change(PolicyStarts, declared=declared, ended=ended)


def _read_wishes(tx: Transaction) -> None:
    """Ask what the owners wish: at once, and of each VM that waits now and then."""
    asked = []
    for vm in tx.record.after.lost.values():
        since = tx.live.policy_starts.declared.get(vm.host)
        told = vm_places.told_place(tx, vm.vm)
        waits = vm.state == "lost" or (vm.by_policy and vm.state == "queued")
        if since is None or not (waits or vm.by_policy):
            continue
        again = OFTEN_MS if tx.now - since < OFTEN_FOR_MS else SELDOM_MS
        if told is None or (waits and (told.asked < since or tx.now - told.told >= again)):
            asked.append(vm.vm)
    if asked:
        vm_places.ask(tx, asked)


def _see(tx: Transaction, held: tuple[tuple[str, Reason], ...], reading: frozenset[HostId]) -> None:
    """Keep what stands against whom, and tell it."""
    if (held, reading) != (tx.live.policy_starts.held, tx.live.policy_starts.reading):
        tx.change(PolicyStarts, held=held, reading=reading)
    lost = tx.record.after.lost
    told = {}
    for host in sorted({lost[vm].host for vm, _ in held}, key=tx.name):
        mine = [(lost[vm], why) for vm, why in held if lost[vm].host == host and why.code is not Cause.WAITING]
        if mine:
            detail = "+".join(sorted({why.code.value for _, why in mine}))
            told[AlertTopic(Matter.NOT_STARTED, host, detail)] = mine
    for topic in tx.open_topics:
        if topic.matter is Matter.NOT_STARTED and topic not in told:
            still = any(other.host == topic.host for other in told)
            tx.resolve_alert(topic, "the reason has changed" if still else "nothing of it stands any more")
    for topic, mine in told.items():
        _tell(tx, topic, mine)


def _tell(tx: Transaction, topic: AlertTopic, mine: list[tuple[LostVm, Reason]]) -> None:
    name, names = tx.name(topic.host), ", ".join(vm.name for vm, _ in mine)
    count = f"{len(mine)} VM{'s' if len(mine) > 1 else ''}"
    why = "; ".join(dict.fromkeys(why.text for _, why in mine))
    body = f"Not started by the policy start_lost: {names}. {'; '.join(f'{vm.name}: {why}' for vm, why in mine)}"
    tx.raise_alert(topic, NOT_STARTED, body, {"name": name, "count": count, "names": names, "why": why})


def held_back(pool: Snapshot, vm: str) -> str:
    """What stands against this VM's start by policy, in words; empty: nothing, or its owner does not wish it."""
    return next((why.text for each, why in pool.live.policy_starts.held if each == vm), "")
