"""``poolwarden fence``: a host's power at an operator's hand. The collector runs the fence devices, and it decides."""

import sys
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.fence_setup import setup
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

_ENDING_S = 10.0  # of a run after its hard limit, and of the order that asked a member for it


@click.group(cls=Commands, short_help="A host's power: setup, status, test, bind, on, off.")
@common_options
def fence() -> None:
    """A host's power by its fence devices, run by the collector."""


fence.add_command(setup)


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
        from poolwarden.v1 import operator_pb2
        from poolwarden_collector.cli.as_json import print_json

        names = [field.name for field in operator_pb2.FenceDeviceStatus.DESCRIPTOR.fields]
        devices = [{name: getattr(each, name) for name in names} for each in host.fence_devices]
        print_json({"host": host.name, "power": host.power, "fence_device": host.fence_device, "devices": devices})
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.fences import fence_page

    show(fence_page(host), settings)


@fence.command()
@click.argument("host_name", metavar="HOST")
@reason_option
@common_options
@click.pass_obj
def test(settings: Settings, host_name: str) -> None:
    """Read every fence device of HOST now. Switches nothing; exit status 1 if none could be read."""
    _command(settings, host_name, "test")


@fence.command()
@click.argument("host_name", metavar="HOST")
@reason_option
@common_options
@click.pass_obj
def on(settings: Settings, host_name: str) -> None:
    """Power HOST on. It boots into its gate; a superseded master comes back as a member."""
    _command(settings, host_name, "on")


@fence.command()
@click.argument("host_name", metavar="HOST")
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@click.option("--force", is_flag=True, help="Although HOST lives, or its device may be another machine's.")
@reason_option
@common_options
@click.pass_obj
def off(settings: Settings, host_name: str, typed_name: str | None, force: bool) -> None:
    """Power HOST off at once: whatever runs there is killed. Recorded with your name.

    This is no confirmation that HOST may be succeeded; a failover reads the power itself.
    """
    _command(settings, host_name, "off", typed_name, force)


@fence.command()
@click.argument("host_name", metavar="HOST")
@click.option("--device", metavar="NAME", default="", help="Which of HOST's devices, where it has several.")
@click.option("--how", default="", help='How you know it, e.g. "switched outlet 4 off, saw its PSU A go dark".')
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@reason_option
@common_options
@click.pass_obj
def bind(settings: Settings, host_name: str, device: str, how: str, typed_name: str | None) -> None:
    """Attest that a fence device switches HOST, where it cannot tell by itself (a switched outlet).

    Recorded with your name, for this machine and this configuration of the device. It is bound once it reads ON while
    HOST lives. A device that says it is another host's is refused.
    """
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
    said = [f"{each.name} says it is {each.says}'s" for each in host.fence_devices if each.says]
    typed = _named(host, typed_name, f"Whatever {device or 'its fence device'} switches will be taken for {host.name}.")
    if not how and sys.stdin.isatty():
        click.echo("".join(f"{line}\n" for line in said), err=True, nl=False)
        how = str(click.prompt("How do you know that it switches this host", err=True))
    _command(settings, host_name, "bind", typed, device=device, how=how)


def _command(
    settings: Settings,
    host_name: str,
    action: str,
    typed_name: str | None = None,
    force: bool = False,
    device: str = "",
    how: str = "",
) -> None:
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        typed = _typed(host, typed_name) if action == "off" else typed_name or ""
        command = operator_pb2.FenceCommand(host=host.host_uuid, action=action, typed_name=typed, force=force)
        command.device, command.how = device, how
        # A test ends when the slowest device has answered, or was cut off.
        limits = [each.limit_ms / 1000 + _ENDING_S for each in host.fence_devices] if action == "test" else []
        request = operator_pb2.CommandRequest(actor=actor(), fence=command)
        reply = ask(collector, request, settings, max(limits, default=0.0))
    say(reply, settings)


def _typed(host: "api.HostStatus", typed: str | None) -> str:
    running = f"{host.running_vms} VMs run there" if host.running_vms_known else "its VMs are not known"
    return _named(host, typed, f"{host.name} is powered off at once: power reads {host.power}, {running}.")


def _named(host: "api.HostStatus", typed: str | None, warning: str) -> str:
    """The host's name as a person typed it, after having been told what it means."""
    if typed is None:
        if not sys.stdin.isatty():
            raise BadInput("the host's name has to be typed, and nobody is at a terminal", "for scripts: --name NAME")
        click.echo(warning, err=True)
        typed = str(click.prompt("Type the host's name", err=True))
    if typed.strip() != host.name:
        raise BadInput(f"{typed.strip()!r} is not the host's name; nothing was done", f"it is called {host.name!r}")
    return typed.strip()
