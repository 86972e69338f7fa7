"""The commands on a whole pool: `poolwarden pool add`, `remove`, `upgrade`."""

import click

from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.settings import Settings, common_options

MODES = ("observe", "ask", "auto")
_SSH = click.argument("ssh_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- SSH-OPTIONS]")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")
_USER = click.option("--user", default="root", show_default=True, help="Who logs in on the hosts.")


@click.group(cls=Commands, short_help="Agents of a whole pool: add, upgrade, remove.")
@common_options
def pool() -> None:
    """Put agents on a whole pool, upgrade them, take them away.

    By your own OpenSSH: its configuration, its keys, its known hosts. Options for it go behind --, for example
    `poolwarden pool add root@192.0.2.11 -- -i KEY`.
    """


@pool.command(short_help="Guard the pool of MASTER: agents and certificates.")
@click.argument("master")
@_SSH
@click.option("--mode", type=click.Choice(MODES), help="Only if the collector's policy for this pool has it.")
@_YES
@common_options
@click.pass_obj
def add(settings: Settings, master: str, ssh_options: tuple[str, ...], mode: str | None, yes: bool) -> None:
    """Guard the pool of MASTER (USER@HOST): on each host the agent is installed, enrolled and started.

    The plan is shown first. A host at a time, the master last; it stops at the first failure and can be run again.
    """
    from poolwarden_collector.cli.pools.add import add as begin

    begin(settings, master, mode or "", yes, ssh_options)


@pool.command(short_help="Take POOL's agents away; deny its certificates.")
@click.argument("pool_name", metavar="POOL")
@_SSH
@_USER
@click.option("--reason", default="", help="Kept in the journal.")
@_YES
@common_options
@click.pass_obj
def remove(settings: Settings, pool_name: str, ssh_options: tuple[str, ...], user: str, reason: str, yes: bool) -> None:
    """Take POOL's agents away and deny its hosts' certificates. The pool is paused; its history stays."""
    from poolwarden_collector.cli.pools.remove import remove as begin

    begin(settings, pool_name, user, reason, yes, ssh_options)


@pool.command(short_help="Upgrade POOL's agents, one by one.")
@click.argument("pool_name", metavar="POOL")
@_SSH
@_USER
@click.option("--despite-verdict", is_flag=True, help="Although the pool is not Healthy; never during a failover.")
@_YES
@common_options
@click.pass_obj
def upgrade(
    settings: Settings, pool_name: str, ssh_options: tuple[str, ...], user: str, despite_verdict: bool, yes: bool
) -> None:
    """Upgrade POOL's agents to the package that the collector serves: a host at a time, the master last.

    Before each host, and after the last, the pool has to be Healthy and no failover open.
    """
    from poolwarden_collector.cli.pools.upgrade import upgrade as begin

    begin(settings, pool_name, user, despite_verdict, yes, ssh_options)
