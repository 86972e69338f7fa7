"""The commands around a change of master: failover, designate, declare-dead, start-lost.

The collector decides and checks; what is asked for here is only the name that a person must have looked at.
"""

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from poolwarden.typed_names import typed
from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option

if TYPE_CHECKING:
    from poolwarden_collector.cli.collector import Collector

WATCHED_S = 900
TOLD = ("sync-intent", "sync-result", "designate-intent", "verdict", "master-observed", "designate-result")


@click.command(short_help="What a failover of POOL would do, or a planned one to HOST.")
@click.argument("pool", required=False)
@click.option("--dry-run", is_flag=True, help="The same as: poolwarden plan POOL.")
@click.option("--to", "target", metavar="HOST", default="", help="Hand the role of a healthy master to HOST.")
@reason_option
@common_options
@click.pass_obj
def failover(settings: Settings, pool: str | None, dry_run: bool, target: str) -> None:
    """What a failover of POOL would do now (--dry-run), or a planned switchover to HOST (--to).

    Once its master is gone, Poolwarden fails a pool over by itself, as soon as it has a proof.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    if not target:
        if not dry_run:
            name = pool or "POOL"
            shown = typed(name)
            waits = f"poolwarden explain {shown} tells what it waits for"
            step = f"poolwarden failover {shown} --dry-run, or --to HOST; {waits}"
            raise BadInput(
                "Poolwarden fails over by itself, once it has a proof; --dry-run or --to HOST is missing", step
            )
        _plan(settings, pool)
    elif dry_run:
        _designate(settings, target if pool is None else f"{pool}/{target}", dry_run=True)
    else:
        with connect(settings) as collector:
            command = operator_pb2.FailoverTo(
                pool=pool_or_only(collector, pool, "failover POOL --to HOST"), host=target
            )
            reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), failover_to=command), settings)
        say(reply, settings)


def _plan(settings: Settings, pool: str | None) -> None:
    """``plan POOL``; its JSON has always been the command's answer."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        name = pool_or_only(collector, pool, "plan POOL")
        if settings.json:
            wanted = operator_pb2.DryRun(pool=name)
            ask(collector, operator_pb2.CommandRequest(actor=actor(), dry_run=wanted), settings)
            return
        reply = collector.plan(name)
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.plan import plan_page

    show(plan_page(reply), settings)


def _designate(settings: Settings, host_name: str, dry_run: bool, *, yes: bool = True, wait: bool = False) -> None:
    """``yes``: nobody is asked; ``wait``: until the switchover has an end."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        pool, host = find_host(collector, host_name)
        asks = not yes and not dry_run and not settings.json and sys.stdin.isatty()
        if asks or (dry_run and not settings.json):
            _check_list(collector, host.host_uuid, settings)
        if asks:
            click.echo("XenCenter, Xen Orchestra and xe reach nobody for 20-30 s then; VMs run on.", err=True)
            typed_name = click.prompt(f"Type {host.name} to hand the master's role to it", err=True)
            if typed_name.strip() != host.name:
                said = f"{typed_name.strip()!r} is not the host's name; nothing was begun"
                raise BadInput(said, f"it is called {host.name!r}")
        before = _newest(collector, pool.pool_uuid) if wait and not dry_run else 0
        command = operator_pb2.Designate(host=host.host_uuid, dry_run=dry_run)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), designate=command), settings)
        say(reply, settings)
        if wait and not dry_run and not settings.json:
            _watch(collector, pool.pool_uuid, before, settings)


def _check_list(collector: "Collector", host_uuid: str, settings: Settings) -> None:
    from poolwarden_collector.cli.errors import CollectorFault
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.advice import advice_page

    try:
        reply = collector.advise("", host_uuid, as_master=True)
    except CollectorFault:
        return  # one of an older version has no list; its answer to the command names the first thing that is missing
    show(advice_page(reply), settings)


def _newest(collector: "Collector", pool_uuid: str) -> int:
    from poolwarden.v1 import operator_pb2

    entries = collector.history(operator_pb2.HistoryRequest(pool=pool_uuid, limit=1)).entries
    return entries[-1].seq if entries else 0


def _watch(collector: "Collector", pool_uuid: str, seen: int, settings: Settings) -> None:
    """Tell what is journaled of the switchover until it has an end. Raises AnswerIsNo where that is not as meant."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.layout import Line, show

    until = time.monotonic() + WATCHED_S
    while time.monotonic() < until:
        request = operator_pb2.HistoryRequest(pool=pool_uuid, after_seq=seen, limit=1000)
        for entry in collector.history(request).entries:
            seen = entry.seq
            if entry.kind in TOLD:
                show([Line(entry.text, label=f"{entry.at[11:19]}  ")], settings)
            if entry.kind == TOLD[-1]:
                if json.loads(entry.data or "{}").get("outcome") != "done":
                    raise AnswerIsNo("the role was not handed over: poolwarden alerts tells what to do")
                return
        time.sleep(1)
    raise AnswerIsNo(f"no end within {WATCHED_S // 60} minutes; it goes on: poolwarden history POOL --follow")


@click.command(short_help="Hand the master's role to HOST, which is healthy.")
@click.argument("host_name", metavar="HOST")
@click.option("--dry-run", is_flag=True, help="Go through the list of what must hold, and say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask for the name at a terminal.")
@click.option("--wait/--no-wait", default=None, help="Stay until it is over. At a terminal that is so.")
@reason_option
@common_options
@click.pass_obj
def designate(settings: Settings, host_name: str, dry_run: bool, yes: bool, wait: bool | None) -> None:
    """Hand the master's role to HOST by xapi's planned switchover. VMs run on; xapi restarts on every host.

    Needs a healthy pool with every host live and enabled, and HA off. The database is pushed to every host first.
    At a terminal the list of what must hold is shown and the name is asked for; XenCenter reaches nobody for 20-30 s.
    """
    _designate(settings, host_name, dry_run, yes=yes, wait=sys.stdout.isatty() if wait is None else wait)


@click.command("declare-dead", short_help="Tell xapi that HOST, which is off, is dead.")
@click.argument("host_name", metavar="HOST")
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@reason_option
@common_options
@click.pass_obj
def declare_dead(settings: Settings, host_name: str, typed_name: str | None) -> None:
    """Tell the master's xapi that HOST is dead: its VMs become halted, its locks on their disks are cleared.

    HOST's power is read twice right before; it is refused unless it reads off. start-lost then starts the VMs.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        if typed_name is None:
            if not sys.stdin.isatty():
                raise BadInput("declare-dead has to ask, and nobody is at a terminal", "for scripts: --name NAME")
            typed_name = click.prompt("Type the host's name", err=True)
        if typed_name.strip() != host.name:
            said = f"{typed_name.strip()!r} is not the host's name; nothing was declared"
            raise BadInput(said, f"it is called {host.name!r}")
        command = operator_pb2.DeclareDead(host=host.host_uuid, typed_name=typed_name.strip())
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), declare_dead=command), settings)
    say(reply, settings)


@click.command("start-lost", short_help="Start the VMs that were lost with a dead host.")
@click.argument("pool", required=False)
@click.option("--dry-run", is_flag=True, help="List them, and where each can start; start nothing.")
@click.option("--forget", is_flag=True, help="Take them off the list instead; start nothing.")
@reason_option
@common_options
@click.pass_obj
def start_lost(settings: Settings, pool: str | None, dry_run: bool, forget: bool) -> None:
    """Start the VMs of POOL that were lost with a dead host, one after another, where xapi says that they can start."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    if dry_run and forget:
        raise BadInput("--dry-run and --forget exclude each other", "--dry-run shows the list, --forget empties it")
    with connect(settings) as collector:
        pool = pool_or_only(collector, pool, "start-lost POOL")
        command = operator_pb2.StartLost(pool=pool, dry_run=dry_run, forget=forget)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), start_lost=command), settings)
        names = {host.host_uuid: host.name for each in collector.status(pool).pools for host in each.hosts}
    if settings.json:
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.lost import lost_page

    show(lost_page(reply, names), settings)


@click.command("enable")
@click.argument("host_name", metavar="HOST")
@reason_option
@common_options
@click.pass_obj
def host_enable(settings: Settings, host_name: str) -> None:
    """Have HOST, which is disabled, take VMs again (xe host-enable). Refused while it is held or not attached."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        command = operator_pb2.HostEnable(host=host.host_uuid)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), host_enable=command), settings)
    say(reply, settings)


@click.command("why")
@click.argument("host_name", metavar="HOST")
@reason_option
@common_options
@click.pass_obj
def host_why(settings: Settings, host_name: str) -> None:
    """Have HOST's agent look now why its xapi does not start: the cause, what helps, the lines of its log."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        command = operator_pb2.HostWhy(host=host.host_uuid)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), host_why=command), settings)
    say(reply, settings)


@click.command("recover-members", short_help="Have POOL's master call members without an agent back.")
@click.argument("pool", required=False)
@click.option("--host", "hosts", metavar="HOST", multiple=True, help="A member that is to be told; each by its name.")
@reason_option
@common_options
@click.pass_obj
def recover_members(settings: Settings, pool: str | None, hosts: tuple[str, ...]) -> None:
    """Have POOL's master tell members without an agent that it is their master (xe pool-recover-slaves).

    Their xapi restarts, and terminates running VMs that the master's database does not place there, which nobody
    outside of them can see: so each is named. Without --host it says which, and what to look at first.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        name = pool_or_only(collector, pool, "recover-members POOL")
        command = operator_pb2.RecoverMembersCommand(pool=name, hosts=hosts)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), recover_members=command), settings)
    say(reply, settings)
