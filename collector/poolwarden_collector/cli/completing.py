"""Shell completion: names of hosts and pools, asked of the running collector; and the scripts that shells read.

Rule: whoever presses Tab waits for a second at most and never sees an error: what cannot be had is not offered.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from poolwarden_collector.cli.commands import ListingOrCommand
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

LIMIT_S = 1.0
FEW = 100  # pools whose hosts are offered; of more those of the pool that was typed: POOL/
VARIABLE = "_POOLWARDEN_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
POOLS = ("pool",)  # parameters of commands that are a pool
HOSTS = ("host_name", "target")  # and a host
CHANNELS = ("channel",)


class PoolName(click.types.StringParamType):
    """Text that is a pool's name, or one of the commands that may stand there."""

    def __init__(self, commands: Iterable[str] = ()) -> None:
        self.commands = tuple(commands)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        status = _status(ctx)
        lines = status.overview.lines if status is not None else ()
        return _starting(incomplete, [*self.commands, *(line.name or line.pool_uuid for line in lines)])


class ChannelName(click.types.StringParamType):
    """Text that is the name of a channel of alerts."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        status = _status(ctx)
        return _starting(incomplete, list(status.channels) if status is not None else [])


class HostName(click.types.StringParamType):
    """Text that is a host's name; `pool/host` where several have it, or where a slash was typed."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        status = _status(ctx, incomplete.rpartition("/")[0])
        pools = status.pools if status is not None else ()
        everywhere = [
            (pool.name or pool.pool_uuid, host.name or host.host_uuid) for pool in pools for host in pool.hosts
        ]
        names = [name for _, name in everywhere]
        whole = "/" in incomplete
        found = [f"{pool}/{name}" if whole or names.count(name) > 1 else name for pool, name in everywhere]
        return _starting(incomplete, found)


def complete_names(group: click.Group) -> None:
    """Let every command below know which of its parameters are pools and hosts."""
    for command in group.commands.values():
        _complete(command)
        if isinstance(command, ListingOrCommand):
            _complete(command.listing, command.commands)
        if isinstance(command, click.Group):
            complete_names(command)


def _complete(command: click.Command, commands: Iterable[str] = ()) -> None:
    for parameter in command.params:
        if not isinstance(parameter.type, click.types.StringParamType):
            continue
        if parameter.name in POOLS:
            parameter.type = PoolName(commands)
        elif parameter.name in HOSTS:
            parameter.type = HostName()
        elif parameter.name in CHANNELS:
            parameter.type = ChannelName()


def _starting(incomplete: str, names: list[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(incomplete)]


def _status(ctx: click.Context, pool: str = "") -> "api.StatusReply | None":
    """A line of each pool, and the pools themselves where they are few; or this one pool."""
    try:
        from poolwarden_collector.cli.collector import Collector

        with Collector(ctx.find_object(Settings) or Settings()) as collector:
            return collector.status(pool, LIMIT_S) if pool else collector.overview(few=FEW, limit_s=LIMIT_S)
    except Exception:  # no name is worth an error in the middle of somebody's typing
        return None


@click.command(short_help="Print the completion script of bash, zsh or fish.")
@click.argument("shell", type=click.Choice(SHELLS))
@common_options
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, options, hosts and pools.

    The collector's installation puts it in place. Elsewhere: source <(poolwarden completion bash)
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(ctx.find_root().command, {}, "poolwarden", VARIABLE).source())
