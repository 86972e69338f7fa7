"""`poolwarden hook`: programs of the operator's own that the collector runs when a pool's master changes."""

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options


@click.group(cls=Commands, short_help="Hooks: programs that are run when a master changes.")
@common_options
def hook() -> None:
    """Hooks: programs that the collector runs when a pool's master changes."""


@hook.command(short_help="Run HOOK again for the newest event of POOL.")
@click.argument("hook_name", metavar="HOOK")
@click.argument("pool", required=False)
@common_options
@click.pass_obj
def run(settings: Settings, hook_name: str, pool: str | None) -> None:
    """Run HOOK again for the newest event of POOL that hooks were told, whatever came of it before.

    HOOK is its file's name. It runs in its turn and is told the same once more; tries that wait are due at once. Who
    asked is kept in the history.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        command = operator_pb2.RunHook(hook=hook_name, pool=pool_or_only(collector, pool, "hook run HOOK POOL"))
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), run_hook=command), settings)
    say(reply, settings)
