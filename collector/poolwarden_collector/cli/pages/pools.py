"""`poolwarden status`: each pool's verdict and what follows from it, its hosts, and how the collector itself is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from poolwarden.typed_names import typed
from poolwarden_collector.cli.layout import Line, Page, Piece, Tone
from poolwarden_collector.cli.many import LEVELS, line_of
from poolwarden_collector.cli.pages.collectors import missing
from poolwarden_collector.cli.pages.hosts import host_notes, hosts_table
from poolwarden_collector.cli.pages.journal import SEVERITY_TONES, alert_marks
from poolwarden_collector.cli.pages.overview import LEVEL_TONES, ROWS, counted, lines_table, overview_page
from poolwarden_collector.cli.words import activation, span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

HEALTHY = "Healthy"
LOST_SHOWN = 8
ONE_BY_ONE = 3  # pools, each with its page; of more each has a line
FOLD_ABOVE, NOTES_SHOWN = 2, 4
INBOX_OLD_MS = 1_000  # is worth a line
STEP_WORDS: dict[str, tuple[str, Tone]] = {"done": ("ok", "good"), "now": ("NOW", "strong"), "next": ("next", "dim")}
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


def status_page(reply: "api.StatusReply", *, everything: bool = False, rows: int = ROWS) -> Page:
    """A page for each pool, the worst first; of several pools one line each, unless everything is asked for; of very
    many the overview with so many ``rows``.
    """
    lacks = missing(reply.asked)
    if reply.overview.pools and not reply.pools:
        return [*lacks, *overview_page(reply.overview, rows), *_collector_lines(reply, everything)]
    pools = sorted(reply.pools, key=lambda pool: (badness(pool), pool.name))
    page: Page = [*lacks]
    if len(pools) > ONE_BY_ONE and not everything:
        page += [*overview(pools), Line()]
    else:
        for pool in pools:
            page += [*pool_page(pool, everything=everything), Line()]
    if not reply.pools and not lacks:
        page += [Line("no pool is known yet: no agent has reported to this collector"), Line()]
    return page + _collector_lines(reply, everything)


def badness(pool: "api.PoolStatus") -> int:
    """0 is the worst."""
    return LEVELS.index(pool.situation.level) if pool.situation.level in LEVELS else 0


def headline(pool: "api.PoolStatus") -> Piece:
    """What matters of this pool, in the tone of how grave it is."""
    if not pool.situation.headline:  # a collector of an older version
        return Piece(pool.verdict, verdict_tone(pool.verdict))
    return Piece(pool.situation.headline, LEVEL_TONES.get(pool.situation.level, "bad"))


def overview(pools: Sequence["api.PoolStatus"]) -> Page:
    """One line for each pool that is not well, the worst first; the others by name."""
    unwell = [pool for pool in pools if pool.situation.level != "good"]
    page: Page = []
    if unwell:
        page += [lines_table([line_of(pool) for pool in unwell]), Line()]
    well = [pool.name or pool.pool_uuid for pool in pools if pool.situation.level == "good"]
    if well:
        page.append(Line(", ".join(well), "good", label=f"{len(well)} healthy: "))
    first = (unwell or pools)[0]
    hint = f"poolwarden status {typed_pool(first)} shows one pool; --all shows all"
    return [*page, Line(hint, "dim")]


def pool_page(pool: "api.PoolStatus", *, everything: bool = False) -> Page:
    """One pool: what matters, what runs on, what to do, its hosts; ``everything``: what is folded else."""
    now, said = pool.situation, headline(pool)
    age = span(now.age_ms if now.headline else pool.verdict_age_ms)
    page: Page = [Line(said.text, said.tone, label=f"{pool.name or pool.pool_uuid}  ", right=age)]
    page += [Line(text, indent=2) for text in (now.lines if now.headline else [pool.sentence])]
    if pool.paused:
        page += paused_lines(pool)
    if pool.HasField("question"):
        page += question_lines(pool.question, answers=not now.todo)
    if now.vms:
        page.append(Line(now.vms, indent=2, label="VMs: "))
    page += todo_lines(now)
    page += seconded_lines(pool.seconded)
    if pool.HasField("failover") and (everything or not pool.failover.blocked):
        page += failover_lines(pool, everything=everything)
    page += _folded("pending: ", pool.owed, "poolwarden status --all", everything)
    page += lost_lines(pool, everything=everything)
    ready = f"poolwarden readiness {typed_pool(pool)}"
    if everything or not pool.HasField("failover"):
        page += _folded("not ready: ", pool.not_ready, ready, everything)
    if everything:
        page += _facts(pool)
    if pool.hosts:
        page += [hosts_table(pool.hosts, indent=2), *_notes(pool, everything)]
    return page + _open_alerts(pool, everything)


def seconded_lines(waiting: Iterable["api.Seconded"]) -> Page:
    """What waits for a second person, and what that one types."""
    page: Page = []
    for each in waiting:
        text = f"{each.what}, asked for by {each.by} {span(each.age_ms)} ago, for {span(each.left_ms)} more"
        page += [Line(text, "warn", indent=2, label="SECOND PERSON: "), Line(each.command, "strong", indent=4)]
    return page


def todo_lines(now: "api.Situation") -> Page:
    """``YOU:`` and what to do, commands on lines of their own; then what follows."""
    page: Page = []
    for number, text in enumerate(now.todo):
        command = text.startswith(("poolwarden ", "xe ", "yes: ", "no: "))
        label = "YOU: " if not number else "     "
        page.append(Line(text, "strong" if command else "", indent=2, label=label))
    return [*page, Line(now.then, indent=2)] if now.then else page


def _folded(
    label: str, texts: Sequence[str], where: str, everything: bool, tone: Tone = "warn", indent: int = 2
) -> Page:
    """The first few lines of a kind, and where the rest is."""
    shown = list(texts) if everything or len(texts) <= FOLD_ABOVE else list(texts[: FOLD_ABOVE - 1])
    page: Page = [Line(text, tone, indent=indent, label=label) for text in shown]
    more = len(texts) - len(shown)
    return [*page, Line(f"{more} more: {where}", "dim", indent=indent, label=label)] if more else page


def _notes(pool: "api.PoolStatus", everything: bool) -> Page:
    alone = not pool.master_uuid and not everything  # then no member is attached, and the first line says why
    notes = host_notes([host for host in pool.hosts if not (alone and host.xapi_health == "orphaned")], indent=2)
    if everything or len(notes) <= NOTES_SHOWN:
        return notes
    more = f"{len(notes) - NOTES_SHOWN} more notes: poolwarden hosts {typed_pool(pool)}"
    return [*notes[:NOTES_SHOWN], Line(more, "dim", indent=2)]


def _open_alerts(pool: "api.PoolStatus", everything: bool) -> Page:
    """How many alerts are open of each severity, and each that is silenced or taken; everything: each."""
    if not pool.alerts:
        return []
    counts = Counter(alert.severity for alert in pool.alerts)  # in their order: the gravest first
    text = ", ".join(counted(count, severity) for severity, count in counts.items())
    where = f"{text} (poolwarden alerts {typed_pool(pool)})"
    page: Page = [Line(where, SEVERITY_TONES.get(pool.alerts[0].severity, ""), indent=2, label="open alerts: ")]
    for alert in pool.alerts:
        marks = alert_marks(alert, indent=6)
        if everything or marks:
            tone = SEVERITY_TONES.get(alert.severity, "")
            page += [Line(alert.title, tone, indent=4, label=f"{alert.severity}: "), *marks]
    return page


def paused_lines(pool: "api.PoolStatus") -> Page:
    """Why nothing is done, and until when."""
    reason = pool.pause_reason or "no reason given"
    if not pool.pause_left_ms:
        return [Line(reason, "warn", indent=2, label="paused: ")]
    until = f"{pool.pause_until[:10]} {pool.pause_until[11:16]} UTC" if pool.pause_until else "its end"
    return [Line(f"{reason}; until {until}, {span(pool.pause_left_ms)} more", "warn", indent=2, label="paused: ")]


def question_lines(question: "api.Question", *, answers: bool) -> Page:
    """What is asked, what is at stake, and the two commands that answer it where they are not said elsewhere."""
    page: Page = [Line(question.text, "bad", indent=2, label="QUESTION: ")]
    page += [Line(text, "warn", indent=4, label="- ") for text in question.stakes]
    if answers:
        page += [Line(question.approve, "strong", 4, label="yes: "), Line(question.deny, indent=4, label="no:  ")]
    if question.expires_ms:
        page.append(Line(f"asked anew in {span(question.expires_ms)}", "dim", indent=4))
    return page


def _facts(pool: "api.PoolStatus") -> Page:
    """Verdict, master, term and mode by their own names."""
    facts = [f"verdict {pool.verdict} for {span(pool.verdict_age_ms)}", f"term {pool.term}", f"mode {pool.mode}"]
    if pool.cooldown_ms:
        facts.append(f"cool-down {span(pool.cooldown_ms)} more")
    where = f"{pool.master_name or pool.master_uuid} at {pool.master_address or 'an unknown address'}"
    return [Line(where if pool.master_uuid else "none is verified", indent=2, label="master: "), _joined(facts)]


def _joined(facts: list[str]) -> Line:
    return Line("; ".join(facts), "dim", indent=2)


def failover_lines(pool: "api.PoolStatus", *, everything: bool = False) -> Page:
    """The open failover step by step, with how long each took or may take."""
    failover, page = pool.failover, [] if not everything else _by_name(pool)
    return page + [step_line(step) for step in failover.steps]


def step_line(step: "api.FailoverStep") -> Line:
    """``ok   8.1 s  text``, ``NOW  3.2 s  text (at most 120 s)``, ``next        text``."""
    word, tone = STEP_WORDS.get(step.state, (step.state, ""))
    took = span(step.took_ms) if step.took_known else "?" if step.state != "next" else ""
    limit = f" (at most {span(step.at_most_ms)})" if step.state == "now" and step.at_most_ms else ""
    return Line(f"{step.text}{limit}", tone, indent=2, label=f"{word:<4} {took:>6}  ")


def _by_name(pool: "api.PoolStatus") -> Page:
    """Its id, step, term and candidate, as the journal has them."""
    failover = pool.failover
    names = {host.host_uuid: host.name for host in pool.hosts}
    text = f"{failover.id} at step {failover.step} for {span(failover.age_ms)}, term {failover.term}"
    if failover.candidate_uuid:
        text += f", candidate {names.get(failover.candidate_uuid) or failover.candidate_uuid}"
    page: Page = [Line(text, "warn", indent=2, label="failover: ")]
    if failover.blocked:
        page.append(Line(f"stands still: {failover.blocker}", "bad", indent=4))
    return page


def lost_lines(pool: "api.PoolStatus", *, everything: bool = False) -> Page:
    """The VMs that were lost with a dead host and are being started, or cannot be; ``everything``: all of them."""
    vms = [vm for vm in pool.lost_vms if everything or vm.state != "lost"]
    if not vms:
        return []
    page: Page = [Line(f"{vm.name}: {lost_state(vm)}", "warn", 2, label="lost: ") for vm in vms[:LOST_SHOWN]]
    more, start = len(vms) - LOST_SHOWN, f"poolwarden start-lost {typed_pool(pool)} --dry-run"
    return [*page, Line(f"{more} more: {start}", indent=8)] if more > 0 else page


def lost_state(vm: "api.LostVm") -> str:
    """How far a lost VM is, and where it can start or why not."""
    where = ", ".join(vm.can_start_on)
    if vm.state in ("started", "running", "starting"):
        return f"{vm.state} on {where}"
    if vm.state == "failed" or not where:
        return f"{vm.state}: {vm.why_not}" if vm.why_not else vm.state
    return f"{vm.state}; can start on {where}"


def _collector_lines(reply: "api.StatusReply", everything: bool) -> Page:
    run = f", epoch {activation(reply.epoch)}" if everything else ""
    text = f"{reply.collector_name} {reply.version}{run}, up {span(reply.up_ms)}"
    page: Page = [Line(text, "dim", label="collector: ")]
    if reply.quiet_ms:
        text = f"{span(reply.quiet_ms)} left; nothing is decided before every agent had time to come back"
        page.append(Line(text, "warn", label="start-up quiet time: "))
    if reply.blind:
        page.append(Line(reply.blind, "bad", label="blind: "))
    if reply.inbox_age_ms >= INBOX_OLD_MS or (everything and reply.inbox_events):
        text = f"{reply.inbox_events} events wait for the engine, the oldest for {span(reply.inbox_age_ms)}"
        page.append(Line(text, "warn" if reply.inbox_age_ms >= INBOX_OLD_MS else "dim", label="inbox: "))
    if reply.outbox_pending:
        page.append(Line(f"{reply.outbox_pending} not delivered yet; poolwarden alerts", "warn", label="alerts: "))
    return page + _folded("warning: ", reply.warnings, "poolwarden status --all", everything, tone="bad", indent=0)


def typed_pool(pool: "api.PoolStatus") -> str:
    """Its name as it is typed in a command."""
    return typed(pool.name or pool.pool_uuid, pool.pool_uuid)
