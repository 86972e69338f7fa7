"""`poolwarden audit`: who called what, from where, in which role, and what came of it."""

import click

from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options


@click.command(short_help="Who ordered what, from where, and what came of it.")
@click.argument("pool", required=False, default="")
@click.option("--pool", "also", metavar="POOL", default="", help="The same as POOL.")
@click.option(
    "--since", metavar="TIME", default="", help='From then on: 2h (ago), 20:00, "yesterday 20:00", 2026-01-31.'
)
@click.option("--until", metavar="TIME", default="", help="Up to then. Times are UTC unless they say another zone.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="The newest calls.")
@common_options
@click.pass_obj
def audit(settings: Settings, pool: str, also: str, since: str, until: str, limit: int) -> None:
    """Calls that change something, of all pools or of POOL; refused ones too. For admins.

    Each is kept for 400 days at least.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.times import between

    if pool and also and pool != also:
        raise BadInput("two pools were given", "one of them, or none for all")
    begin, end = between(since, until)
    request = operator_pb2.AuditRequest(pool=pool or also, since=begin, until=end, limit=limit)
    with connect(settings) as collector:
        reply = collector.audit(request)
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
        return
    from poolwarden_collector.cli.layout import Line, show
    from poolwarden_collector.cli.pages.audit import audit_page
    from poolwarden_collector.cli.pages.collectors import missing

    show([*missing(reply.asked), *audit_page(reply.entries)] or [Line("no call is recorded")], settings)
