"""`poolwarden advise`: a plain yes or no before something is done by hand, and why."""

from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api


@click.group(cls=Commands, short_help="A yes or no, with reasons, before a host is rebuilt.")
@common_options
def advise() -> None:
    """A plain yes or no, with reasons, from what the agents report. What nobody reports is said, with how to see it."""


@advise.command(short_help="May HOST be installed anew, and what to save first.")
@click.argument("host_name", metavar="HOST")
@common_options
@click.pass_obj
def rebuild(settings: Settings, host_name: str) -> None:
    """May HOST be installed anew now: its role, VMs, local disks, HBA and iSCSI, boot from SAN, PIFs, licence.

    It says what to save first, and how the host comes back. Nothing is done.
    """
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        _show(settings, collector.advise("", host.host_uuid))


@advise.command(short_help="Would POOL's VMs have a place without any one host.")
@click.argument("pool", required=False)
@common_options
@click.pass_obj
def vms(settings: Settings, pool: str | None) -> None:
    """Would every VM of POOL have a place after the loss of one host: lost VMs, local and unplugged storage, hosts."""
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        _show(settings, collector.advise(pool_or_only(collector, pool, "advise vms POOL"), ""))


def _show(settings: Settings, reply: "api.AdviseReply") -> None:
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
        return
    from poolwarden_collector.cli.layout import show
    from poolwarden_collector.cli.pages.advice import advice_page

    show(advice_page(reply), settings)
