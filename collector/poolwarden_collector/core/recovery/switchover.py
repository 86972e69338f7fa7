"""A planned switchover: hand the role to a healthy member by xapi's own pool.designate_new_master.

Theory: this is how a role moves while its master is well: xapi flushes and pushes the database itself, asks every host
in two phases and restarts xapi everywhere; nobody is fenced and no VM is touched (xapi: ocaml/xapi/xapi_pool.ml). The
emergency path is for a master that is gone and is never taken for a healthy one.

Rules
-----
* Only where nothing stands against it: Healthy, one verified master, every host live and enabled (xapi aborts in its
  first phase otherwise), HA off, no upgrade, no failover, no running task that a restart of xapi would cancel, and a
  target that could also be promoted.
* Every host's xapi restarts, and terminates the running VMs that the master's database does not place there: where one
  would, or that is not known, the role stays where it is.
* The database is pushed first. What stood against it is asked again right before the order.
* One order, never a second one: an answer that does not come is not guessed but waited for in the facts, at most
  ``transition_hold``. Success is the target serving and every heard host following it; the change of master raises the
  term (mastership.py).
* A collector that is restarted before the order gives the plan up; after it, it watches on.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision.candidate_ranking import limitation
from poolwarden_collector.core.decision.database_contents import SPARE_THEM, at_stake
from poolwarden_collector.core.decision.permission import command_refusal
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import follows, master_view
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import DesignateMaster, Preconditions
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role, Tri
from poolwarden_collector.core.recovery import database_sync, restart_in_place
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.followup_record import Designation
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, answer_of
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

READ_WITHIN_MS: Ms = 8_000  # the master's file is being read

# ------------------------------------------------------------------------------------------------ asked for


def command_designate(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``designate HOST``: begin the switchover, or say what it would do, or why not."""
    host, name = said.host, d.name(said.host)
    no = _refusal(d, host, verdict)
    if no is not None:
        return no
    stake = _stake(d)
    if stake is None:
        d.change(pending=(*d.live.pending, (said, d.now + READ_WITHIN_MS)))
        return ""
    if stake.why:
        return Refused("unsafe", f"every host's xapi restarts in a switchover, and {stake.why}", stake.next_step)
    before = verified(d)
    steps = (
        f"push the database of {d.name(before)} to every member, have {d.name(before)} hand the role to {name} "
        f"(pool.designate_new_master), and see {name} serve and every host follow it"
    )
    if said.arg("dry_run"):
        return f"nothing stands against it. It would {steps}. xapi restarts on every host; VMs run on"
    text = f"{said.actor} hands the role of {d.name(before)} to {name}"
    d.note(Kind.DESIGNATE_INTENT, text, said.actor, host=host, before=before, by=said.actor)
    d.change(designating=d.now)
    database_sync.begin(d, f"before {name} takes over", said.actor)
    return f"begun: {steps}. poolwarden history POOL --follow tells how far it is"


def failover_to(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``failover POOL --to HOST``: the planned way while the master is well; never the emergency path by hand."""
    failover, master = d.failover, suspected(d)
    if failover is not None:
        chosen = f"its candidate is {d.name(failover.candidate)}" if failover.candidate else "it chooses its candidate"
        why = f"failover {failover.id} of {d.name(master)} is open already, and {chosen} by the newest database"
        return Refused("failover-open", why, "poolwarden explain POOL")
    if not verified(d):
        name = d.name(master) if master else "the master"
        why = f"the pool is {verdict.word}: a planned switchover needs a master that serves, and {name} does not"
        if d.heard(master) is not None:
            # Switched off, it would lose the VMs that run there; and a word about it is refused beside its agent.
            under_way = d.record.in_place
            doing = (
                f"; its xapi is being restarted in place: {restart_in_place.stands_at(d, under_way)}"
                if under_way
                else ""
            )
            return Refused(
                "master-gone", f"{why}{doing}", "poolwarden explain POOL tells what is done about it, or asked"
            )
        step = f"make sure that {name} is off, then: poolwarden confirm-fenced {name}; or approve what is asked"
        return Refused("master-gone", why, step)
    return command_designate(d, said, verdict)


def _refusal(d: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    """Why no switchover to this host may begin now."""
    if d.record.after.designation is not None:
        under_way = d.record.after.designation
        return Refused("under-way", f"the role is being handed to {d.name(under_way.host)} already, by {under_way.by}")
    if d.record.after.sync_order:
        return Refused("sync-under-way", "the database is being pushed to the members", "Try again in a minute.")
    if verdict is not Verdict.HEALTHY:
        why = f"the pool is {verdict.word}: {verdict.meaning}; a planned switchover needs a healthy pool"
        return Refused("not-healthy", why, "poolwarden explain POOL")
    standing = command_refusal(d)
    if standing is not None and standing.code is Cause.OBSERVE:
        why = "the pool's mode is observe: it is only watched, and its master is not changed"
        step = 'Set mode = "ask" or "auto" for this pool; or by hand: xe pool-designate-new-master host-uuid='
        return Refused("mode-observe", why, step + host)
    if why := _standing(d, host):
        return Refused("refused", why, "poolwarden explain POOL")
    if why := database_sync.refusal(d, verdict):
        return Refused("no-sync", f"the database cannot be pushed first: {why}", "poolwarden explain POOL")
    return None


def _standing(d: Snapshot, host: HostId) -> str:
    """What stands against a switchover to this host, whatever the verdict; asked at the start and before the order."""
    standing, master = command_refusal(d), verified(d)
    if standing is not None:
        return standing.text
    if d.failover is not None:
        return f"failover {d.failover.id} is open"
    if not master:
        return "there is not exactly one verified master"
    if host == master:
        return f"{d.name(host)} is the master already"
    if any(item.host == host for item in d.record.owed):
        return f"{d.name(host)} still has to be brought back as a member itself"
    unfit = limitation(d, host, master, d.heard(host))
    return f"{d.name(host)}: {unfit}" if unfit else _pool_refusal(d, master)


def _pool_refusal(d: Snapshot, master: HostId) -> str:
    agent, view = d.heard(master), master_view(d, master)
    if agent is None or view is None:
        return f"{d.name(master)} has not told its view of the pool"
    if "designate_master" not in agent.hello.capabilities:
        return f"the agent {agent.hello.agent_version} of {d.name(master)} cannot do it"
    if agent.facts.database.ha_armed is not Tri.NO or view.ha_enabled is not Tri.NO:
        return "xapi's HA is armed, or its flag cannot be read"
    if view.rolling_upgrade is not Tri.NO:
        return "a rolling upgrade is under way, or whether one is cannot be read"
    absent = [host.name for host in view.hosts if not (host.live and host.enabled)]
    if absent:
        return f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not live and enabled: xapi would abort"
    if view.busy_tasks:
        return f"xapi's restart would cancel what runs now: {', '.join(view.busy_tasks[:5])}"
    return ""


@dataclass(frozen=True, slots=True)
class Stake:
    """What the restarts of a switchover would kill, or why that is not known, and what helps; empty: nothing."""

    why: str
    next_step: str


def _stake(d: Transaction) -> Stake | None:
    """The stake of every heard host's restart; None: it is being asked."""
    found, waiting, unknown = [], False, False
    for host in sorted(d.record.hosts, key=d.name):
        kills = at_stake(d, host) if d.heard(host) is not None else ()
        waiting = waiting or kills is None
        if isinstance(kills, Reason):
            unknown = True
            found.append(f"what that of {d.name(host)} would kill is not known: {kills}")
        elif kills:
            found.append(f"that of {d.name(host)} would kill {', '.join(kill.name for kill in kills)}")
    return None if waiting else Stake("; ".join(found), "poolwarden explain POOL" if unknown else SPARE_THEM)


# ------------------------------------------------------------------------------------------------ under way


def advance(d: Transaction) -> None:
    """Do what is due in the switchover that is under way."""
    plan = d.record.after.designation
    if plan is None:
        return
    if d.live.designating is None:
        d.change(designating=d.now)
        if not plan.order:
            _ended(d, plan, "abandoned", "the collector was restarted before anything was ordered")
            return
    if not plan.order:
        _order(d, plan)
    else:
        _watch(d, plan)


def _order(d: Transaction, plan: Designation) -> None:
    """The push has ended: ask once more what stands against it, then order it, once."""
    after = d.record.after
    if after.sync_order:
        return
    why = f"the database was not pushed: {after.sync_failure}" if after.sync_failure else _standing(d, plan.host)
    if not why and verified(d) != plan.before:
        why = f"{d.name(plan.before)} is not the master any more"
    stake = _stake(d)
    if not why and stake is None and d.now - (d.live.designating or d.now) < d.policy.transition_hold:
        return
    # safety: the push may have changed what the database places where; the forecast is of the file as it is now.
    why = why or (stake.why if stake is not None else "what the restarts would kill could not be read in time")
    if why:
        _ended(d, plan, "abandoned", why)
        return
    order_id = d.fresh_id("designate")
    text = f"{d.name(plan.before)} is to hand the role to {d.name(plan.host)} (pool.designate_new_master)"
    data = {"host": plan.host, "before": plan.before, "by": plan.by, "order": order_id}
    d.note(Kind.DESIGNATE_INTENT, text, plan.by, **data)
    d.change(designating=d.now)
    pre = Preconditions(ha_off=True, pool_conf_in=(Role.MASTER,))
    d.send(order_id, plan.before, DesignateMaster(plan.host), ORDER_VALID_MS, pre)


def _watch(d: Transaction, plan: Designation) -> None:
    missing = _missing(d, plan)
    if not missing:
        address = d.record.address_of(plan.host)
        _ended(d, plan, "done", f"{d.name(plan.host)} ({address}) is the master, and every heard host follows it")
        return
    answer = answer_of(d, plan.before, plan.order)
    if answer is not None and answer.outcome in (Outcome.FAILED, Outcome.REFUSED):
        _ended(d, plan, "failed", f"{d.name(plan.before)} says: {answer.text or answer.reason}")
    elif d.live.designating is not None and d.now - d.live.designating >= d.policy.transition_hold:
        _ended(d, plan, "failed", f"it has not come to its end in time: {missing}")


def _missing(d: Snapshot, plan: Designation) -> str:
    """What is not yet as it shall be; empty: the switchover is complete."""
    agent = d.heard(plan.host)
    if agent is None or not agent.facts.role.serves_as_master or verified(d) != plan.host:
        return f"{d.name(plan.host)} does not serve as master"
    for host in sorted(d.record.hosts, key=d.name):
        why = follows(d, host, plan.host) if host != plan.host and d.heard(host) is not None else ""
        if why:
            return f"{d.name(host)}: {why}"
    return ""


def _ended(d: Transaction, plan: Designation, outcome: str, why: str) -> None:
    name, old, pool = d.name(plan.host), d.name(plan.before), d.record.name or d.record.pool
    broken = [d.name(h) for h in sorted(d.record.hosts) if (a := d.heard(h)) and a.facts.role.pool_conf is Role.BROKEN]
    if outcome != "done" and broken:
        why += f". pool.conf says broken on {', '.join(broken)}: xapi stopped in the second phase there"
    text = f"the switchover from {old} to {name} is {outcome}: {why}"
    d.note(Kind.DESIGNATE_RESULT, text, host=plan.host, order=plan.order, outcome=outcome, why=why)
    d.change(designating=None)
    if outcome == "done":
        for topic in d.open_topics:
            if topic.matter is Matter.DESIGNATE:
                d.resolve_alert(topic, text)
    else:
        topic = AlertTopic(Matter.DESIGNATE, detail=plan.order or d.fresh_id("designate"))
        d.raise_alert(topic, "warning", f"{pool}: the role was not handed to {name}", text)
