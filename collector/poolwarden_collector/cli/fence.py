"""``poolwarden fence``: a host's power at an operator's hand. The collector runs the fence devices, and it decides."""

import sys
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api


@click.group(short_help="A host's power: status, test, on, off.")
@common_options
def fence() -> None:
    """A host's power by its fence devices, run by the collector."""


@fence.command()
@click.argument("host_name", metavar="HOST")
@common_options
@click.pass_obj
def status(settings: Settings, host_name: str) -> None:
    """What is known of HOST's power; nothing is read for it."""
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
    if settings.json:
        from poolwarden_collector.cli.as_json import print_json

        print_json({"host": host.name, "power": host.power, "fence_device": host.fence_device})
        return
    from poolwarden_collector.cli.layout import Line, show

    device = {"none": "it has no fence device"}.get(host.fence_device, f"its fence device is {host.fence_device}")
    line = Line(f"{host.name}: power {host.power}, {device}")
    hint = Line(f"poolwarden fence test {host.name}", label="next step: ")
    show([line] if host.fence_device in ("bound", "none") else [line, hint], settings)


@fence.command()
@click.argument("host_name", metavar="HOST")
@common_options
@click.pass_obj
def test(settings: Settings, host_name: str) -> None:
    """Read every fence device of HOST now. Switches nothing; exit status 1 if none could be read."""
    _command(settings, host_name, "test")


@fence.command()
@click.argument("host_name", metavar="HOST")
@common_options
@click.pass_obj
def on(settings: Settings, host_name: str) -> None:
    """Power HOST on. It boots into its gate; a superseded master comes back as a member."""
    _command(settings, host_name, "on")


@fence.command()
@click.argument("host_name", metavar="HOST")
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@click.option("--force", is_flag=True, help="Although HOST lives, or its device may be another machine's.")
@common_options
@click.pass_obj
def off(settings: Settings, host_name: str, typed_name: str | None, force: bool) -> None:
    """Power HOST off at once: whatever runs there is killed. Recorded with your name.

    This is no confirmation that HOST may be succeeded; a failover reads the power itself.
    """
    _command(settings, host_name, "off", typed_name, force)


def _command(
    settings: Settings, host_name: str, action: str, typed_name: str | None = None, force: bool = False
) -> None:
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        typed = _typed(host, typed_name) if action == "off" else ""
        command = operator_pb2.FenceCommand(host=host.host_uuid, action=action, typed_name=typed, force=force)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), fence=command), settings)
    say(reply, settings)


def _typed(host: "api.HostStatus", typed: str | None) -> str:
    if typed is None:
        if not sys.stdin.isatty():
            raise BadInput("fence off has to ask, and nobody is at a terminal", "for scripts: --name NAME")
        running = f"{host.running_vms} VMs run there" if host.running_vms_known else "its VMs are not known"
        click.echo(f"{host.name} is powered off at once: power reads {host.power}, {running}.", err=True)
        typed = str(click.prompt("Type the host's name", err=True))
    if typed.strip() != host.name:
        raise BadInput(f"{typed.strip()!r} is not the host's name; nothing was switched", f"it is called {host.name!r}")
    return typed.strip()
