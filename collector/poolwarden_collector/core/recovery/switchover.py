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

from poolwarden.assumptions import PROMOTION, SWITCHOVER
from poolwarden_collector.core.catalogue.hosts import NOT_DESIGNATED
from poolwarden_collector.core.decision.candidate_ranking import limitation
from poolwarden_collector.core.decision.database_contents import SPARE_THEM, at_stake
from poolwarden_collector.core.decision.permission import command_refusal
from poolwarden_collector.core.evidence import assumptions
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
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.followup_record import Designation
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, answer_of
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

READ_WITHIN_MS: Ms = 8_000  # the master's file is being read

# ------------------------------------------------------------------------------------------------ asked for


def command_designate(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``designate HOST``: begin the switchover, or say what it would do, or why not."""
    answer = begin(tx, said.host, said.actor, verdict, dry_run=bool(said.arg("dry_run")))
    if not isinstance(answer, Refused) and not answer:
        waiting_commands.wait(tx, said, READ_WITHIN_MS)
    return answer


def begin(tx: Transaction, host: HostId, actor: str, verdict: Verdict, *, dry_run: bool = False) -> str | Refused:
    """Begin the switchover to this host, or say why not; empty: what its restarts would kill is being read."""
    name = tx.name(host)
    no = refusal(tx, host, verdict)
    if no is not None:
        return no
    stake = _stake(tx)
    if stake is None:
        return ""
    if stake.why:
        return Refused("unsafe", f"every host's xapi restarts in a switchover, and {stake.why}", stake.next_step)
    before = verified(tx)
    steps = (
        f"push the database of {tx.name(before)} to every member, have {tx.name(before)} hand the role to {name} "
        f"(pool.designate_new_master), and see {name} serve and every host follow it"
    )
    unsure = assumptions.joined(assumptions.refusal(tx, each, SWITCHOVER, PROMOTION) for each in (before, host))
    despite = f"; it rests on what has failed: {unsure}" if unsure is not None else ""
    if dry_run:
        return f"nothing stands against it{despite}. It would {steps}. xapi restarts on every host; VMs run on"
    text = f"{actor} hands the role of {tx.name(before)} to {name}{despite}"
    tx.note(Kind.DESIGNATE_INTENT, text, actor, host=host, before=before, by=actor)
    tx.change(PoolLive, designating=tx.now)
    database_sync.begin(tx, f"before {name} takes over", actor)
    return f"begun: {steps}{despite}. poolwarden history POOL --follow tells how far it is"


def failover_to(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``failover POOL --to HOST``: the planned way while the master is well; never the emergency path by hand."""
    failover, master = tx.failover, suspected(tx)
    if failover is not None:
        chosen = f"its candidate is {tx.name(failover.candidate)}" if failover.candidate else "it chooses its candidate"
        why = f"failover {failover.id} of {tx.name(master)} is open already, and {chosen} by the newest database"
        return Refused("failover-open", why, "poolwarden explain POOL")
    if not verified(tx):
        name = tx.name(master) if master else "the master"
        why = f"the pool is {verdict.word}: a planned switchover needs a master that serves, and {name} does not"
        if tx.heard(master) is not None:
            # Switched off, it would lose the VMs that run there; and a word about it is refused beside its agent.
            under_way = tx.record.in_place
            doing = (
                f"; its xapi is being restarted in place: {restart_in_place.stands_at(tx, under_way)}"
                if under_way
                else ""
            )
            return Refused(
                "master-gone", f"{why}{doing}", "poolwarden explain POOL tells what is done about it, or asked"
            )
        step = f"make sure that {name} is off, then: poolwarden confirm-fenced {name}; or approve what is asked"
        return Refused("master-gone", why, step)
    return command_designate(tx, said, verdict)


def refusal(pool: Snapshot, host: HostId, verdict: Verdict) -> Refused | None:
    """Why no switchover to this host may begin now."""
    if pool.record.after.designation is not None:
        under_way = pool.record.after.designation
        return Refused(
            "under-way", f"the role is being handed to {pool.name(under_way.host)} already, by {under_way.by}"
        )
    if pool.record.after.sync_order:
        return Refused("sync-under-way", "the database is being pushed to the members", "Try again in a minute.")
    if verdict is not Verdict.HEALTHY:
        why = f"the pool is {verdict.word}: {verdict.meaning}; a planned switchover needs a healthy pool"
        return Refused("not-healthy", why, "poolwarden explain POOL")
    standing = command_refusal(pool)
    if standing is not None and standing.code is Cause.OBSERVE:
        why = "the pool's mode is observe: it is only watched, and its master is not changed"
        step = 'Set mode = "ask" or "auto" for this pool; or by hand: xe pool-designate-new-master host-uuid='
        return Refused("mode-observe", why, step + host)
    if why := _standing(pool, host):
        return Refused("refused", why, "poolwarden explain POOL")
    if why := database_sync.refusal(pool, verdict):
        return Refused("no-sync", f"the database cannot be pushed first: {why}", "poolwarden explain POOL")
    return None


def _standing(pool: Snapshot, host: HostId) -> str:
    """What stands against a switchover to this host, whatever the verdict; asked at the start and before the order."""
    standing, master = command_refusal(pool), verified(pool)
    if standing is not None:
        return standing.text
    if pool.failover is not None:
        return f"failover {pool.failover.id} is open"
    if starting := [vm.name for vm in pool.record.after.lost.values() if vm.state == "starting"]:
        return f"xapi's restart would cut off the start of {', '.join(sorted(starting))}"
    if not master:
        return "there is not exactly one verified master"
    if host == master:
        return f"{pool.name(host)} is the master already"
    if any(item.host == host for item in pool.record.owed):
        return f"{pool.name(host)} still has to be brought back as a member itself"
    unfit = limitation(pool, host, master, pool.heard(host))
    return f"{pool.name(host)}: {unfit}" if unfit else _pool_refusal(pool, master)


def _pool_refusal(pool: Snapshot, master: HostId) -> str:
    agent, view = pool.heard(master), master_view(pool, master)
    if agent is None or view is None:
        return f"{pool.name(master)} has not told its view of the pool"
    if "designate_master" not in agent.hello.capabilities:
        return f"the agent {agent.hello.agent_version} of {pool.name(master)} cannot do it"
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


def _stake(tx: Transaction) -> Stake | None:
    """The stake of every heard host's restart; None: it is being asked."""
    found, waiting, unknown = [], False, False
    for host in sorted(tx.record.hosts, key=tx.name):
        kills = at_stake(tx, host) if tx.heard(host) is not None else ()
        waiting = waiting or kills is None
        if isinstance(kills, Reason):
            unknown = True
            found.append(f"what that of {tx.name(host)} would kill is not known: {kills}")
        elif kills:
            found.append(f"that of {tx.name(host)} would kill {', '.join(kill.name for kill in kills)}")
    return None if waiting else Stake("; ".join(found), "poolwarden explain POOL" if unknown else SPARE_THEM)


# ------------------------------------------------------------------------------------------------ under way


def advance(tx: Transaction) -> None:
    """Do what is due in the switchover that is under way."""
    plan = tx.record.after.designation
    if plan is None:
        return
    if tx.live.designating is None:
        tx.change(PoolLive, designating=tx.now)
        if not plan.order:
            _ended(tx, plan, "abandoned", "the collector was restarted before anything was ordered")
            return
    if not plan.order:
        _order(tx, plan)
    else:
        _watch(tx, plan)


def _order(tx: Transaction, plan: Designation) -> None:
    """The push has ended: ask once more what stands against it, then order it, once."""
    after = tx.record.after
    if after.sync_order:
        return
    why = f"the database was not pushed: {after.sync_failure}" if after.sync_failure else _standing(tx, plan.host)
    if not why and verified(tx) != plan.before:
        why = f"{tx.name(plan.before)} is not the master any more"
    stake = _stake(tx)
    if not why and stake is None and tx.now - (tx.live.designating or tx.now) < tx.policy.transition_hold:
        return
    # safety: the push may have changed what the database places where; the forecast is of the file as it is now.
    why = why or (stake.why if stake is not None else "what the restarts would kill could not be read in time")
    if why:
        _ended(tx, plan, "abandoned", why)
        return
    order_id = tx.fresh_id("designate")
    text = f"{tx.name(plan.before)} is to hand the role to {tx.name(plan.host)} (pool.designate_new_master)"
    data = {"host": plan.host, "before": plan.before, "by": plan.by, "order": order_id}
    tx.note(Kind.DESIGNATE_INTENT, text, plan.by, **data)
    tx.change(PoolLive, designating=tx.now)
    pre = Preconditions(ha_off=True, pool_conf_in=(Role.MASTER,))
    tx.send(order_id, plan.before, DesignateMaster(plan.host), ORDER_VALID_MS, pre)


def _watch(tx: Transaction, plan: Designation) -> None:
    missing = _missing(tx, plan)
    if not missing:
        address = tx.record.address_of(plan.host)
        _ended(tx, plan, "done", f"{tx.name(plan.host)} ({address}) is the master, and every heard host follows it")
        return
    answer = answer_of(tx, plan.before, plan.order)
    if answer is not None and answer.outcome in (Outcome.FAILED, Outcome.REFUSED):
        _ended(tx, plan, "failed", f"{tx.name(plan.before)} says: {answer.text or answer.reason}")
    elif tx.live.designating is not None and tx.now - tx.live.designating >= tx.policy.transition_hold:
        _ended(tx, plan, "failed", f"it has not come to its end in time: {missing}")


def _missing(pool: Snapshot, plan: Designation) -> str:
    """What is not yet as it shall be; empty: the switchover is complete."""
    agent = pool.heard(plan.host)
    if agent is None or not agent.facts.role.serves_as_master or verified(pool) != plan.host:
        return f"{pool.name(plan.host)} does not serve as master"
    for host in sorted(pool.record.hosts, key=pool.name):
        why = follows(pool, host, plan.host) if host != plan.host and pool.heard(host) is not None else ""
        if why:
            return f"{pool.name(host)}: {why}"
    return ""


def _ended(tx: Transaction, plan: Designation, outcome: str, why: str) -> None:
    name, old = tx.name(plan.host), tx.name(plan.before)
    broken = [
        tx.name(h) for h in sorted(tx.record.hosts) if (a := tx.heard(h)) and a.facts.role.pool_conf is Role.BROKEN
    ]
    if outcome != "done" and broken:
        why += f". pool.conf says broken on {', '.join(broken)}: xapi stopped in the second phase there"
    text = f"the switchover from {old} to {name} is {outcome}: {why}"
    tx.note(Kind.DESIGNATE_RESULT, text, host=plan.host, order=plan.order, outcome=outcome, why=why)
    tx.change(PoolLive, designating=None)
    if outcome == "done":
        for topic in tx.open_topics:
            if topic.matter is Matter.DESIGNATE:
                tx.resolve_alert(topic, text)
    else:
        topic = AlertTopic(Matter.DESIGNATE, detail=plan.order or tx.fresh_id("designate"))
        tx.raise_alert(topic, NOT_DESIGNATED, text, {"name": name, "why": text})
