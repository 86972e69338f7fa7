"""`poolwarden status`: each pool's verdict and what follows from it, its hosts, and how the collector itself is."""

from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Tone
from poolwarden_collector.cli.pages.hosts import host_notes, hosts_table
from poolwarden_collector.cli.words import activation, span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

HEALTHY = "Healthy"
LOST_SHOWN = 8
UNEASY = (
    "Suspect",
    "Learning",
    "AgentLost",
    "MemberOrphaned",
    "MemberEmergency",
    "MemberVanished",
    "MemberXapiDown",
    "HaManaged",
)


def verdict_tone(verdict: str) -> Tone:
    """Green, yellow where a pool still has its master, red otherwise."""
    if verdict == HEALTHY:
        return "good"
    return "warn" if verdict in UNEASY else "bad"


def status_page(reply: "api.StatusReply") -> Page:
    """Everything of a status reply that an operator acts on."""
    page: Page = []
    for pool in reply.pools:
        page += [*pool_page(pool), Line()]
    if not reply.pools:
        page += [Line("no pool is known yet: no agent has reported to this collector"), Line()]
    return page + _collector_lines(reply)


def pool_page(pool: "api.PoolStatus") -> Page:
    """One pool: headline, what is open, hosts."""
    headline = f"{pool.verdict} for {span(pool.verdict_age_ms)}"
    page: Page = [Line(headline, verdict_tone(pool.verdict), label=f"{pool.name or pool.pool_uuid}  ")]
    if pool.sentence:
        page.append(Line(pool.sentence, indent=2))
    page += _master_line(pool)
    if pool.paused:
        page.append(Line(pool.pause_reason or "no reason given", "warn", indent=2, label="paused: "))
    if pool.HasField("question"):
        page += question_lines(pool.question)
    if pool.HasField("failover"):
        page += _failover_lines(pool)
    page += [Line(text, "warn", indent=2, label="owed: ") for text in pool.owed]
    page += lost_lines(pool)
    page += [Line(text, "warn", indent=2, label="not ready: ") for text in pool.not_ready]
    if pool.hosts:
        page += [hosts_table(pool.hosts, indent=2), *host_notes(pool.hosts, indent=2)]
    return page


def question_lines(question: "api.Question") -> Page:
    """What is asked, what is at stake, and the two commands that answer it."""
    page: Page = [Line(question.text, "bad", indent=2, label="QUESTION: ")]
    page += [Line(text, "warn", indent=4, label="- ") for text in question.stakes]
    page += [Line(question.approve, "strong", indent=4, label="yes: "), Line(question.deny, indent=4, label="no:  ")]
    if question.expires_ms:
        page.append(Line(f"asked anew in {span(question.expires_ms)}", "dim", indent=4))
    return page


def _master_line(pool: "api.PoolStatus") -> Page:
    facts = [f"term {pool.term}", f"mode {pool.mode}"]
    if pool.cooldown_ms:
        facts.append(f"cool-down {span(pool.cooldown_ms)} more")
    if not pool.master_uuid:
        return [Line(f"none verified; {', '.join(facts)}", "warn", indent=2, label="master: ")]
    name = pool.master_name or pool.master_uuid
    return [
        Line(f"{name} at {pool.master_address or 'an unknown address'}; {', '.join(facts)}", indent=2, label="master: ")
    ]


def _failover_lines(pool: "api.PoolStatus") -> Page:
    failover = pool.failover
    names = {host.host_uuid: host.name for host in pool.hosts}
    text = f"{failover.id} at step {failover.step} for {span(failover.age_ms)}, term {failover.term}"
    if failover.candidate_uuid:
        text += f", candidate {names.get(failover.candidate_uuid) or failover.candidate_uuid}"
    page: Page = [Line(text, "warn", indent=2, label="failover: ")]
    if failover.blocked:
        page.append(Line(f"{failover.blocked}: {failover.blocker}", "bad", indent=4))
    return page


def lost_lines(pool: "api.PoolStatus") -> Page:
    """The VMs that were lost with a dead host, in short; the whole list is start-lost --dry-run."""
    if not pool.lost_vms:
        return []
    page: Page = [Line(f"{vm.name}: {lost_state(vm)}", "warn", 2, label="lost: ") for vm in pool.lost_vms[:LOST_SHOWN]]
    more = len(pool.lost_vms) - LOST_SHOWN
    start = f"poolwarden start-lost {pool.name or pool.pool_uuid} --dry-run"
    return [*page, Line(f"{more} more: {start}" if more > 0 else start, indent=8)]


def lost_state(vm: "api.LostVm") -> str:
    """How far a lost VM is, and where it can start or why not."""
    where = ", ".join(vm.can_start_on)
    if vm.state in ("started", "running", "starting"):
        return f"{vm.state} on {where}"
    if vm.state == "failed" or not where:
        return f"{vm.state}: {vm.why_not}" if vm.why_not else vm.state
    return f"{vm.state}; can start on {where}"


def _collector_lines(reply: "api.StatusReply") -> Page:
    text = f"{reply.collector_name} {reply.version}, epoch {activation(reply.epoch)}, up {span(reply.up_ms)}"
    page: Page = [Line(text, "dim", label="collector: ")]
    if reply.quiet_ms:
        text = f"{span(reply.quiet_ms)} left; nothing is decided before every agent had time to come back"
        page.append(Line(text, "warn", label="start-up quiet time: "))
    if reply.blind:
        page.append(Line(reply.blind, "bad", label="blind: "))
    if reply.outbox_pending:
        page.append(Line(f"{reply.outbox_pending} not delivered yet; poolwarden alerts", "warn", label="alerts: "))
    return page + [Line(text, "bad", label="warning: ") for text in reply.warnings]
