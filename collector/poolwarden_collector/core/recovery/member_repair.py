"""Repairing one member while a master serves: repoint it, restart its xapi, or say why neither would help.

Rules
-----
* Only while exactly one verified master serves, no failover is open and nothing is announced; one member at a time.
  The cool-down does not matter: a repair moves no role. In mode ask it is asked first.
* pool.conf that names another address than the master's is repointed. One that names the right address is restarted
  only if the member reaches the master from where it is: where it does not, the network is at fault, and a xapi that
  restarts without its master blocks in its start (xapi: ocaml/xapi/xapi.ml, DB calls before the emergency flag).
* Both restart xapi, which terminates every running VM that the master's database does not place there. So the forecast
  is asked first, and where it is not empty, or is not known, a person decides.
* At most ``xapi_restarts`` restarts and as many repointings; then it is said what was tried. They count until the
  member has been fine for ten minutes.
* A remedy that rests on what has failed on that member is asked about, one that a failover owes it as well.
* What no restart heals is only told, in plain words (``HOPELESS``).
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden.assumptions import FORECAST, REPOINT, RESTART
from poolwarden_collector.core.catalogue.hosts import DETACHED
from poolwarden_collector.core.decision import questions
from poolwarden_collector.core.decision.database_contents import at_stake
from poolwarden_collector.core.decision.kill_forecast import Kill
from poolwarden_collector.core.decision.permission import firm_refusal
from poolwarden_collector.core.decision.repoint_check import rests_on_failed
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.signs import answered, fresh_probe, looping, member_state, settled
from poolwarden_collector.core.evidence.verdict import Member, Verdict
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.orders import OrderKind, Preconditions, Repoint, RestartXapi
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role, Tri
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.live_slices import MemberRepairs
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

FORGOTTEN_MS: Ms = 600_000
SETTLED_MS: Ms = 30_000

HOPELESS = {
    "HOST_UNKNOWN_TO_MASTER": "the master does not know this host: it was ejected or forgotten, join it anew",
    "SESSION_AUTHENTICATION_FAILED": "its pool secret differs from the master's: compare /etc/xensource/ptoken",
    "HOST_XAPI_VERSION_HIGHER_THAN_COORDINATOR": "its xapi is newer than the master's, update that first",
    "HOST_HAS_NO_MANAGEMENT_IP": "it has no management address: xe host-management-reconfigure on it",
    "HA_POOL_IS_ENABLED_BUT_HOST_IS_DISABLED": "HA is on in the pool and off on it: xapi's HA has to be mended first",
    "HA_HOST_CANNOT_ACCESS_STATEFILE": "it does not reach the HA statefile: its storage has to be mended first",
    "HA_HEARTBEAT_DAEMON_STARTUP_FAILED": "xapi's HA daemon does not start on it: see /var/log/xha.log there",
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """What helps a member: ``act`` is repoint, restart, ask (a person must decide) or tell (nothing here helps)."""

    act: str
    why: Reason


def repair(tx: Transaction, verdict: Verdict) -> None:
    """Look at every member; repair the first that can be, say of the others why not."""
    master = verified(tx)
    _note_troubles(tx, master)
    _note_repaired(tx, master)
    if tx.quiet or tx.failover is not None or tx.record.paused is not None:
        return
    if not master:
        _tell_broken(tx)
        return
    if not tx.live.member_repairs.troubles or tx.now - tx.live.mastership.since < SETTLED_MS:
        return
    planned = tx.record.after.designation is not None
    may_act = verdict.entails.permits_repair and not planned and not firm_refusal(tx)
    for host in sorted(tx.live.member_repairs.troubles, key=tx.name):
        if tx.now - tx.live.member_repairs.troubles[host] < tx.policy.member_restart_after:
            continue
        remedy = diagnose(tx, host, master)
        if remedy.act == "tell":
            _say(tx, host, remedy.why)
        elif may_act and not _busy(tx, host):
            _treat(tx, host, master, remedy)


def approve(tx: Transaction, question: Question, verdict: Verdict, kill: int, actor: str) -> str | Refused | None:
    """Repair this member at an operator's word, as far as it reaches; None: the master's file is being read first."""
    host, master, firm = question.host, verified(tx), firm_refusal(tx)
    refusal = firm.text if firm is not None else ""
    if not refusal and (not master or not verdict.entails.permits_repair or tx.failover is not None):
        refusal = f"the pool is {verdict.word} now"
    if not refusal and host not in tx.live.member_repairs.troubles:
        refusal = f"{tx.name(host)} is in no trouble any more"
    if refusal or _busy(tx, host):
        return Refused("held", refusal or "a repair is under way")
    remedy = diagnose(tx, host, master)
    if remedy.act == "tell":
        return Refused("unsafe", f"{tx.name(host)} is not repaired: {remedy.why}")
    kills = at_stake(tx, host)
    if kills is None:
        return None
    if isinstance(kills, Reason):
        return Refused("unsafe", f"{tx.name(host)} is not repaired: {kills}")
    if kills:
        # safety: asked as it stands now; the yes is to the VMs that its question named, and to no others.
        _ask(tx, host, remedy, kills, at_once=True)
        if (anew := questions.asked_no_more(tx, question)) is not None:
            return anew
    if len(kills) > kill:
        names = ", ".join(item.name for item in kills)
        step = questions.approve_command(question.id, Needs(kill=len(kills)))
        return Refused(
            "more-at-stake", f"its xapi would kill {len(kills)} running VMs there: {names}; accepted: {kill}", step
        )
    _order(tx, host, master, remedy)
    return f"{tx.name(host)} is being repaired ({remedy.act}): {remedy.why}"


def _busy(pool: Snapshot, host: HostId) -> bool:
    """Is a repair under way, of this member or of another one that is still in trouble?"""
    if pool.live.member_repairs.repairing is None:
        return False
    other, at = pool.live.member_repairs.repairing
    return (
        other == host or other in pool.live.member_repairs.troubles
    ) and pool.now - at < pool.policy.member_restart_after


# ------------------------------------------------------------------------------------------------ seeing


def _note_troubles(tx: Transaction, master: HostId) -> None:
    """Since when is which heard member not what it should be? Nothing is known while no master serves."""
    found = {
        host: tx.live.member_repairs.troubles.get(host, tx.now)
        for host in tx.record.hosts
        if _in_trouble(tx, host, master)
    }
    if found != tx.live.member_repairs.troubles:
        tx.change(MemberRepairs, troubles=found)


def _in_trouble(pool: Snapshot, host: HostId, master: HostId) -> bool:
    agent = pool.heard(host)
    if agent is None or not master or host == master:
        return False
    f = agent.facts
    if f.hold is not None or f.role.pool_conf in (Role.MASTER, Role.UNKNOWN):
        return False
    # Whoever is still on the way to this master is owed that; once it runs as a member nobody else looks after it.
    owed = [item.what for item in pool.record.owed if item.host == host]
    if owed and not settled(pool, agent, master):
        # What is owed it and not given unasked is asked about as a repair.
        return owed == [OwedWork.REPOINT] and rests_on_failed(pool, agent) is not None
    if f.role.pool_conf is Role.BROKEN:
        return True
    return member_state(pool, host, master) in (Member.ORPHANED, Member.EMERGENCY, Member.XAPI_DOWN)


def _note_repaired(tx: Transaction, master: HostId) -> None:
    """A member that was repaired and is fine: say so once, and forget what was tried after ten minutes of it."""
    fine = {
        host: tx.live.member_repairs.mended.get(host, tx.now)
        for host in tx.record.after.repairs
        if master and tx.heard(host) is not None and host not in tx.live.member_repairs.troubles
    }
    for host, since in fine.items():
        tried = ", ".join(tx.record.after.repairs[host])
        if host not in tx.record.after.repaired and tx.now - since >= tx.policy.suspect_after:
            tx.note(Kind.REPAIRED, f"{tx.name(host)} is attached to its master again; tried: {tried}", host=host)
            tx.resolve_alerts(Matter.REPAIR, host, f"{tx.name(host)} is attached to its master again")
        elif tx.now - since >= FORGOTTEN_MS:
            tx.note(Kind.REPAIRED, f"{tx.name(host)} has been fine for ten minutes", host=host, over=True)
    for host in tx.record.hosts:
        if (
            master
            and tx.heard(host) is not None
            and host not in tx.live.member_repairs.troubles
            and host not in tx.record.after.repairs
        ):
            tx.resolve_alerts(Matter.REPAIR, host, f"{tx.name(host)} is fine again")
    if fine != tx.live.member_repairs.mended:
        tx.change(MemberRepairs, mended=fine)


# ------------------------------------------------------------------------------------------------ judging


def diagnose(pool: Snapshot, host: HostId, master: HostId) -> Remedy:
    """What would help this member, which is in trouble, and why."""
    agent, address = pool.heard(host), pool.record.address_of(master)
    assert agent is not None
    f, code = agent.facts, agent.facts.xapi.emergency_code if agent.facts.xapi.emergency is Tri.YES else ""
    if f.role.pool_conf is Role.BROKEN:
        broken = f"its pool.conf says broken, after a change of master that failed on it; {_broken(address)}"
        return Remedy("ask", Reason(Cause.BROKEN, broken))
    if code in HOPELESS:
        return Remedy("tell", Reason(Cause.HOPELESS, f"{code}: {HOPELESS[code]}", (code,)))
    if f.role.master_address != address:
        if f.xapi.socket_liveness in (Liveness.DOWN, Liveness.SILENT):
            # Repointing is a call to its own xapi: a dead or hung one has to be started first.
            dead = f"its xapi is {f.xapi.socket_liveness.value} and cannot be repointed so"
            return _rung(pool, host, "restart", Reason(Cause.XAPI, dead, (f.xapi.socket_liveness.value,)))
        names = f"its pool.conf names {f.role.master_address or 'nobody'}, not {address}"
        return _rung(pool, host, "repoint", Reason(Cause.ADDRESS, names, (f.role.master_address, address)))
    probe = fresh_probe(pool, host, master)
    if probe is None or not answered(probe):
        why = probe.outcome.value if probe is not None else "no fresh probe"
        unreached = f"it does not reach the master at {address} ({why}): its network has to be mended"
        return Remedy("tell", Reason(Cause.UNREACHED, unreached, (address,)))
    if looping(pool, host):
        again = f"its xapi has begun {f.xapi.unasked_starts} times in ten minutes without being told to: a restart is "
        again += f"no help. See the end of /var/log/xensource.log on {pool.name(host)}"
        return Remedy("tell", Reason(Cause.LOOPS, again))
    return _rung(pool, host, "restart", _complaint(agent, code))


def _complaint(agent: AgentState, code: str) -> Reason:
    x = agent.facts.xapi
    if code:
        return Reason(Cause.XAPI, f"it is in emergency mode ({code}) although it reaches its master", (code,))
    if x.liveness is not Liveness.ANSWERS or x.socket_liveness is Liveness.SILENT:
        silent = f"its xapi does not answer (TCP {x.liveness.value}, local socket {x.socket_liveness.value})"
        return Reason(Cause.XAPI, silent, (x.liveness.value, x.socket_liveness.value))
    return Reason(Cause.XAPI, "its xapi is detached although it reaches its master")


def _broken(address: str) -> str:
    return f"on it: xe pool-emergency-reset-master master-address={address}"


def _rung(pool: Snapshot, host: HostId, act: str, why: Reason) -> Remedy:
    """The remedy, unless it was tried often enough."""
    tried = pool.record.after.repairs.get(host, ())
    if tried.count(act) < pool.policy.xapi_restarts:
        return Remedy(act, why)
    in_vain = f"{why}; tried without lasting help: {', '.join(tried)}"
    return Remedy("tell", Reason(Cause.IN_VAIN, in_vain, (act, why.key)))


# ------------------------------------------------------------------------------------------------ acting


def _treat(tx: Transaction, host: HostId, master: HostId, remedy: Remedy) -> None:
    """Carry the remedy out if it kills nobody and the mode allows it; else ask."""
    # safety: either remedy restarts its xapi, which terminates VMs that the master's database does not place there.
    kills = at_stake(tx, host)
    if kills is None:
        return
    if isinstance(kills, Reason):
        _say(tx, host, kills.within(f"{remedy.why}; {kills}"))
    elif kills or remedy.act == "ask" or tx.policy.mode == "ask" or unsure(tx, host, remedy.act) is not None:
        _ask(tx, host, remedy, kills)
    else:
        _order(tx, host, master, remedy)


def unsure(pool: Snapshot, host: HostId, act: str) -> Reason | None:
    """What failed on this member of what the remedy rests on; None: nothing that is known."""
    return assumptions.refusal(pool, host, RESTART if act == "restart" else REPOINT, FORECAST)


def _order(tx: Transaction, host: HostId, master: HostId, remedy: Remedy) -> None:
    order_id, address = tx.fresh_id("repair"), tx.record.address_of(master)
    restart = remedy.act == "restart"
    intent = Kind.RESTART_INTENT if restart else Kind.REPOINT_INTENT
    word = "restarting the xapi of" if restart else f"repointing to {tx.name(master)} at {address}:"
    tx.note(intent, f"{word} {tx.name(host)}: {remedy.why}", host=host, order=order_id, repair=True)
    kind: OrderKind = RestartXapi() if restart else Repoint(address, master)
    member = (Role.MEMBER,) if restart else (Role.MEMBER, Role.BROKEN)
    tx.change(MemberRepairs, repairing=(host, tx.now))
    tx.send(order_id, host, kind, ORDER_VALID_MS, Preconditions(ha_off=True, pool_conf_in=member))


def _say(tx: Transaction, host: HostId, why: Reason) -> None:
    """An alert per member and reason; a new reason takes the place of the old one."""
    topic, name = AlertTopic(Matter.REPAIR, host, why.key), tx.name(host)
    tx.resolve_alerts(Matter.REPAIR, host, "the reason has changed", but=topic)
    tx.raise_alert(topic, DETACHED, f"{name}: {why}", {"name": name, "why": why.text})


def _ask(tx: Transaction, host: HostId, remedy: Remedy, kills: tuple[Kill, ...], at_once: bool = False) -> None:
    word = "repointing it" if remedy.act in ("repoint", "ask") else "restarting its xapi"
    held = "; the pool's mode is ask" if tx.policy.mode == "ask" else ""
    rests = unsure(tx, host, remedy.act)
    held += f"; that rests on what has failed: {rests}" if rests is not None else ""
    failed = rests.subjects if rests is not None else ()
    lost = tuple(f"VM {kill.name} on {tx.name(kill.host)} would be killed: {kill.why}" for kill in kills)
    cost = f" and would kill {len(kills)} running VMs there: {', '.join(kill.name for kill in kills)}" if kills else ""
    what = f"{tx.name(host)}: {remedy.why}; {word} would help{cost}{held}"
    vms, needs = tuple(kill.vm for kill in kills), Needs(kill=len(kills))
    questions.ask(tx, Ask.REPAIR, host, what, lost, needs, vms, others=(remedy.act,), at_once=at_once, failed=failed)


def _tell_broken(tx: Transaction) -> None:
    """No master serves and a host's pool.conf says broken: what a person has to do, in commands."""
    for host in sorted(tx.record.hosts, key=tx.name):
        agent = tx.heard(host)
        if agent is not None and agent.facts.role.pool_conf is Role.BROKEN:
            why = "its pool.conf says broken, after a change of master that failed, and no host serves as master. "
            why += "On the host that shall be master: xe pool-emergency-transition-to-master; then on every other "
            why += "one: xe pool-emergency-reset-master master-address=ADDRESS"
            _say(tx, host, Reason(Cause.BROKEN, why, ("no-master",)))
