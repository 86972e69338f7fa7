"""The commands that only look: status, hosts, disks, host show, master, explain, history, alerts."""

from typing import TYPE_CHECKING

import click

from poolwarden.typed_names import typed
from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector


def connect(settings: Settings) -> "Collector":
    """The client, imported late: importing grpc takes longer than printing help."""
    from poolwarden_collector.cli.collector import Collector

    return Collector(settings)


SEVERITIES = ("critical", "warning", "info")  # the gravest first
FEW = 30  # pools, each told whole; more are told together
UNWELL_NAMED = 20  # by status --check


@click.command()
@click.argument("pool", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="What is folded else: every pool, warning and alert.")
@click.option(
    "--check",
    is_flag=False,
    flag_value="warning",
    metavar="[SEVERITY]",
    help="Exit with 1 unless every pool shown is healthy and no alert of SEVERITY (warning) or graver is open.",
)
@click.option("--overview", is_flag=True, help="How all pools stand together, also where they are few.")
@click.option("--name", metavar="TEXT", default="", help="Only pools whose name holds TEXT.")
@click.option("--verdict", "verdicts", metavar="WORD", multiple=True, help="Only pools with it. Can be repeated.")
@click.option("--site", metavar="NAME", default="", help="Only pools of this site.")
@click.option(
    "--limit",
    type=click.IntRange(0, 100_000),
    metavar="N",
    help="Lines of an overview (10; 0: every pool), or pools of one page of --json.",
)
@click.option("--page", "after", metavar="NEXT", default="", help="With --json: the page after NEXT of the one before.")
@common_options
@click.pass_obj
def status(
    settings: Settings,
    pool: str,
    everything: bool,
    check: str | None,
    overview: bool,
    name: str,
    verdicts: tuple[str, ...],
    site: str,
    limit: int | None,
    after: str,
) -> None:
    """Pools: what matters first, what runs on, what to do, and the hosts. Of more than 30: how they stand together."""
    from poolwarden.v1 import operator_pb2

    if check is not None and check not in SEVERITIES:
        if pool:
            raise BadInput(f"there is no severity {check!r}", f"--check={' or --check='.join(SEVERITIES)}")
        pool, check = check, "warning"  # `status --check POOL`
    request = operator_pb2.StatusRequest(pool=pool, name=name, verdicts=verdicts, site=site, after=after)
    _refuse_contradictions(settings, request, limit, everything=everything, overview=overview)
    with connect(settings) as collector:
        reply = _asked(collector, request, settings, limit, everything=everything, overview=overview, check=check)
    if settings.json:
        _print_json(reply)
    elif (name or verdicts or site) and not reply.pools and not reply.overview.pools:
        from poolwarden_collector.cli.layout import Line, show

        show([Line("no pool is like that")], settings)
    else:
        from poolwarden_collector.cli.layout import show
        from poolwarden_collector.cli.pages.overview import ROWS
        from poolwarden_collector.cli.pages.pools import status_page

        show(status_page(reply, everything=everything, rows=ROWS if limit is None else limit), settings)
    if check is not None:
        _check(reply, check)


def _refuse_contradictions(
    settings: Settings, request: "api.StatusRequest", limit: int | None, *, everything: bool, overview: bool
) -> None:
    """Raises BadInput for options that mean nothing together."""
    many = request.name or request.verdicts or request.site or request.after or limit is not None or overview
    if request.pool and many:
        raise BadInput(f"{request.pool} is one pool", f"poolwarden status {typed(request.pool)}")
    if overview and everything:
        raise BadInput("--overview and --all exclude each other", "--limit 0 gives each pool a line")
    if request.after and (overview or not settings.json):
        raise BadInput("--page is of --json", "poolwarden status --json --limit 100 --page NEXT")


def _asked(
    collector: "Collector",
    request: "api.StatusRequest",
    settings: Settings,
    limit: int | None,
    *,
    everything: bool,
    overview: bool,
    check: str | None,
) -> "api.StatusReply":
    """One pool; a page; all; or all together, and whole where they are few."""
    from poolwarden_collector.cli.many import narrowed, overviewed
    from poolwarden_collector.cli.pages.overview import ROWS

    if request.pool:
        return collector.status_of(request)
    if settings.json and not overview:
        request.limit = limit or 0
        return narrowed(
            collector.status_of(request) if limit or request.after else collector.all_pages(request), request
        )
    if everything:
        return narrowed(collector.all_pages(request), request)
    request.overview, request.few = True, 0 if overview else FEW
    request.limit = 0 if check is not None else ROWS if limit is None else limit
    return overviewed(collector.status_of(request), request)


def _check(reply: "api.StatusReply", severity: str) -> None:
    """Raises AnswerIsNo, naming pools that are not as they should be and what is open there."""
    from poolwarden_collector.cli.pages.collectors import silent

    if not reply.pools and not reply.overview.pools and not silent(reply.asked):
        raise AnswerIsNo("no pool is known", "no agent has reported to this collector yet")
    if reply.pools:
        unwell = [f"{pool.name or pool.pool_uuid}: {why}" for pool in reply.pools if (why := _unwell(pool, severity))]
    else:
        lines = reply.overview.lines
        unwell = [f"{line.name or line.pool_uuid}: {why}" for line in lines if (why := _unwell_line(line, severity))]
    unwell = [*silent(reply.asked), *unwell]
    if unwell:
        more = f"; and {len(unwell) - UNWELL_NAMED} more" if len(unwell) > UNWELL_NAMED else ""
        steps = "poolwarden status POOL shows what to do, poolwarden explain POOL why"
        raise AnswerIsNo("; ".join(unwell[:UNWELL_NAMED]) + more, steps)


def _unwell(pool: "api.PoolStatus", severity: str) -> str:
    grave = SEVERITIES[: SEVERITIES.index(severity) + 1]
    found = [f"alert ({alert.severity}): {alert.title}" for alert in pool.alerts if alert.severity in grave]
    critical = pool.situation.level == "critical"
    if critical or (pool.verdict != "Healthy" and severity != "critical"):
        said = pool.situation.headline
        found.insert(0, f"{said} (verdict {pool.verdict})" if said else f"is {pool.verdict}")
    return ", ".join(found)


def _unwell_line(line: "api.PoolLine", severity: str) -> str:
    """The same of a line, which counts its alerts."""
    grave = SEVERITIES[: SEVERITIES.index(severity) + 1]
    found = [f"{each.count} {each.word} alerts are open" for each in line.alerts if each.word in grave]
    if line.level == "critical" or (line.verdict != "Healthy" and severity != "critical"):
        found.insert(0, f"{line.headline} (verdict {line.verdict})")
    return ", ".join(found)


@click.command(short_help="Would POOL survive losing its master now?")
@click.argument("pool", required=False, default="")
@click.option("--strict", is_flag=True, help="Exit with 1 for what could be better, too.")
@common_options
@click.pass_obj
def readiness(settings: Settings, pool: str, strict: bool) -> None:
    """Would POOL, or each pool, survive losing its master now? Every reason why not, the worst first, with its fix.

    Exit status 0: ready; 1: not.
    """
    with connect(settings) as collector:
        reply = collector.readiness(pool)
    if settings.json:
        _print_json(reply)
    else:
        from poolwarden_collector.cli.layout import show
        from poolwarden_collector.cli.pages.readiness import readiness_page

        show(readiness_page(reply), settings)
    lacking = [one.name or one.pool_uuid for one in reply.pools if not one.ready or (strict and one.reasons)]
    from poolwarden_collector.cli.pages.collectors import silent

    lacking += silent(reply.asked)
    if lacking or not reply.pools:
        raise AnswerIsNo(f"not ready: {', '.join(lacking) or 'no pool is known'}")


@click.command(short_help="What would happen if POOL's master died now.")
@click.argument("pool", required=False)
@common_options
@click.pass_obj
def plan(settings: Settings, pool: str | None) -> None:
    """What would happen if POOL's master died this second: proof, successor, data and VMs that are lost, how long.

    Nothing is done. `poolwarden failover POOL --dry-run` is another spelling.
    """
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        reply = collector.plan(pool_or_only(collector, pool, "plan POOL"))
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.plan import plan_page

    show(plan_page(reply), settings)


@click.command()
@click.argument("pool", required=False, default="")
@common_options
@click.pass_obj
def hosts(settings: Settings, pool: str) -> None:
    """Hosts, one line each."""
    with connect(settings) as collector:
        reply = collector.status(pool)
    found = [host for one in reply.pools for host in one.hosts]
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json({"hosts": [as_object(host) for host in found], "asked": [as_object(each) for each in reply.asked]})
        return
    from poolwarden_collector.cli.layout import Line, show
    from poolwarden_collector.cli.pages.collectors import missing
    from poolwarden_collector.cli.pages.hosts import host_notes, hosts_table

    if not found and not missing(reply.asked):
        show([Line("no host is known yet: no agent has reported to this collector")], settings)
        return
    page = [*missing(reply.asked), hosts_table(found, with_pool=len(reply.pools) > 1), *host_notes(found)]
    show(page, settings)


@click.command()
@click.argument("pool", required=False, default="")
@click.option("--check", is_flag=True, help="Exit with 1 if a level is crossed anywhere.")
@common_options
@click.pass_obj
def disks(settings: Settings, pool: str, check: bool) -> None:
    """Disks of each host: level, trend, what fills them, what could be given back."""
    with connect(settings) as collector:
        reply = collector.status(pool)
    found = [host for one in reply.pools for host in one.hosts]
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        kept = ("name", "host_uuid", "pool_name", "disks", "fillers", "cleanable", "fillers_partial")
        told = [{name: as_object(host)[name] for name in kept} for host in found]
        print_json({"hosts": told, "asked": [as_object(each) for each in reply.asked]})
    else:
        from poolwarden_collector.cli.layout import show
        from poolwarden_collector.cli.pages.collectors import missing
        from poolwarden_collector.cli.pages.disks import disks_page

        show([*missing(reply.asked), *disks_page(found)], settings)
    crossed = [f"{disk.mount} of {host.name} is {disk.level}" for host in found for disk in host.disks if _bad(disk)]
    if check and crossed:
        raise AnswerIsNo("; ".join(crossed), "poolwarden disks shows what fills them")


def _bad(disk: "api.DiskStatus") -> bool:
    return disk.level in ("warning", "critical", "full")


@click.group(cls=Commands)
@common_options
def host() -> None:
    """One host."""


@host.command("show")
@click.argument("host_name", metavar="HOST")
@common_options
@click.pass_obj
def host_show(settings: Settings, host_name: str) -> None:
    """All that is known of HOST (UUID, pool/host, or a unique name)."""
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, found = find_host(collector, host_name)
    if settings.json:
        _print_json(found)
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.hosts import host_page

    show(host_page(found), settings)


@host.command("late")
@click.argument("host_name", metavar="HOST")
@click.option("--samples", is_flag=True, help="The samples between the events too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="The newest ones.")
@common_options
@click.pass_obj
def host_late(settings: Settings, host_name: str, samples: bool, limit: int) -> None:
    """What HOST kept while no collector listened, and told afterwards."""
    with connect(settings) as collector:
        reply = collector.late(host_name, samples, limit)
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import Line, show
    from poolwarden_collector.cli.pages.collectors import missing
    from poolwarden_collector.cli.pages.journal import late_page

    lacks = missing(reply.asked)
    show([*lacks, *late_page(reply.entries)] or [Line("nothing: this host has not been alone for long")], settings)


@click.command(short_help="Only the address of POOL's verified master.")
@click.argument("pool", required=False)
@common_options
@click.pass_obj
def master(settings: Settings, pool: str | None) -> None:
    """Only the address of POOL's master, and only if exactly one verified master is known (else exit 1)."""
    from poolwarden_collector.cli.names import pool_or_only, the_pool

    with connect(settings) as collector:
        pool = pool_or_only(collector, pool, "master POOL")
        found = the_pool(collector.status(pool), pool)
    why_not = _no_master(found)
    if settings.json:
        from poolwarden_collector.cli.as_json import print_json

        known = (
            {} if why_not else {"uuid": found.master_uuid, "name": found.master_name, "address": found.master_address}
        )
        print_json({"pool": found.name, "master": known or None, "reason": why_not})
    elif not why_not:
        print(found.master_address, flush=True)
    if why_not:
        raise AnswerIsNo(why_not, f"poolwarden explain {typed(pool)}")


def _no_master(pool: "api.PoolStatus") -> str:
    """Why there is no address to give; empty if there is one."""
    name = pool.name or pool.pool_uuid
    serving = [host.name for host in pool.hosts if host.role == "master" and host.agent_connected]
    if len(serving) > 1:
        return f"{name} has no single master: {' and '.join(serving)} both say they are"
    if not pool.master_uuid:
        return f"{name} has no verified master now: {pool.verdict}: {pool.sentence}"
    return "" if pool.master_address else f"the address of {name}'s master {pool.master_name} is not known"


@click.command(short_help="Why POOL's verdict is what it is.")
@click.argument("pool", required=False)
@common_options
@click.pass_obj
def explain(settings: Settings, pool: str | None) -> None:
    """POOL's verdict, the evidence for it, what is permitted, what is not and why."""
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        reply = collector.explain(pool_or_only(collector, pool, "explain POOL"))
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.explanation import explain_page

    show(explain_page(reply), settings)


@click.command()
@click.argument("pool", required=False, default="")
@click.option("--failover", metavar="ID", default="", help="Only the entries of this failover.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="The newest entries.")
@click.option("--all", "everything", is_flag=True, help="Bookkeeping too: witnesses, numbers seen, deliveries.")
@click.option("--follow", is_flag=True, help="Go on with entries as they are committed (with --json: one a line).")
@click.option(
    "--since", metavar="TIME", default="", help='From then on: 2h (ago), 20:00, "yesterday 20:00", 2026-01-31.'
)
@click.option("--until", metavar="TIME", default="", help="Up to then. Times are UTC unless they say another zone.")
@click.option("--drills", is_flag=True, help="What the drills of POOL came to, instead.")
@common_options
@click.pass_obj
def history(
    settings: Settings,
    pool: str,
    failover: str,
    limit: int,
    everything: bool,
    follow: bool,
    since: str,
    until: str,
    drills: bool,
) -> None:
    """The journal: what was seen, decided, done, and by whom."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.times import between

    if drills:
        if failover or follow or since or until or everything:
            raise BadInput("--drills takes --limit alone", f"poolwarden history {pool or 'POOL'} --drills")
        _drills(settings, pool, limit)
        return
    if follow and until:
        raise BadInput("--follow has no end", "leave --until away")
    begin, end = between(since, until)
    request = operator_pb2.HistoryRequest(pool=pool, failover=failover, limit=limit, since=begin, until=end)
    with connect(settings) as collector:
        if follow:
            _follow(collector, request, settings)
            return
        reply = collector.history(request)
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import Line, show
    from poolwarden_collector.cli.pages.collectors import missing
    from poolwarden_collector.cli.pages.journal import history_page

    page = [*missing(reply.asked), *history_page(reply.entries, with_pool=not pool, everything=everything)]
    show(page or [Line("the journal has no such entries")], settings)


def _drills(settings: Settings, pool: str, limit: int) -> None:
    """The newest drills of a pool that are over."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        name = pool_or_only(collector, pool or None, "history POOL --drills")
        wanted = operator_pb2.HistoryRequest(pool=name, kinds=["drill-ended"], limit=min(limit, 100))
        reply = collector.history(wanted)
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.drills import drills_page

    show(drills_page(reply.entries), settings)


def _follow(collector: "Collector", request: "api.HistoryRequest", settings: Settings) -> None:
    """Print entries until the stream or the operator ends it; Ctrl-C is how one stops looking, not an error."""
    from poolwarden_collector.cli.as_json import as_object, print_json
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.journal import entry_line

    try:
        for entry in collector.follow(request):
            if settings.json:
                print_json(as_object(entry), one_line=True)
            else:
                show([entry_line(entry, with_pool=not request.pool)], settings)
    except KeyboardInterrupt:
        return


@click.command()
@click.argument("pool", required=False, default="")
@click.option("--since", metavar="TIME", default="", help="Begun then or later, as in history.")
@click.option("--until", metavar="TIME", default="", help="Begun then or earlier.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="The newest ones.")
@common_options
@click.pass_obj
def capsules(settings: Settings, pool: str, since: str, until: str, limit: int) -> None:
    """What hosts kept of their logs at a first suspicion; `poolwarden export` puts it into an archive."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.times import between

    begin, end = between(since, until)
    request = operator_pb2.ListCapsulesRequest(pool=pool, since=begin, until=end, limit=limit)
    with connect(settings) as collector:
        reply = collector.capsules(request)
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import Line, show
    from poolwarden_collector.cli.pages.collectors import missing
    from poolwarden_collector.cli.pages.journal import capsules_page

    page = [*missing(reply.asked), *capsules_page(reply.capsules, with_pool=not pool)]
    show(page or [Line("no host has handed any over: none has suspected anything")], settings)


@click.command()
@click.argument("pool", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest ones.")
@common_options
@click.pass_obj
def alerts(settings: Settings, pool: str, everything: bool, limit: int) -> None:
    """Open alerts and how far they were delivered."""
    from poolwarden.v1 import operator_pb2

    with connect(settings) as collector:
        reply = collector.alerts(operator_pb2.AlertsRequest(pool=pool, open_only=not everything, limit=limit))
    if settings.json:
        _print_json(reply)
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.collectors import missing
    from poolwarden_collector.cli.pages.journal import alerts_page

    show([*missing(reply.asked), *alerts_page(reply.alerts, open_only=not everything)], settings)


def _print_json(
    reply: "api.StatusReply | api.HostStatus | api.LateReply | api.ExplainReply | api.HistoryReply | api.AlertsReply"
    " | api.ReadinessReply | api.PlanReply | api.ListCapsulesReply",
) -> None:
    from poolwarden_collector.cli.as_json import as_object, print_json

    print_json(as_object(reply))
