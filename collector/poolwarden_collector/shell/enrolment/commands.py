"""``poolwarden-collector enrolment``: makes, renews and replaces the authority that hosts enrol with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from poolwarden_collector.shell.config.certificates import CA_CERT, CA_KEY, CERT, KEY, CaError
from poolwarden_collector.shell.enrolment import authority_files
from poolwarden_collector.shell.enrolment.authority import fingerprint

_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))


class _Group(click.Group):
    """What is wrong with an authority is one line, and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        try:
            return super().invoke(ctx)
        except CaError as error:
            click.echo(f"poolwarden-collector: {' '.join(str(error).split())}", err=True)
            sys.exit(1)


@click.group(cls=_Group, short_help="The authority that hosts enrol with.")
def enrolment() -> None:
    """Make, renew and replace the authority that hosts enrol with (docs/enrolment.md)."""


@enrolment.command()
@_DIRECTORY
@click.argument("addresses", nargs=-1)
@click.option("--name", default="collector", show_default=True, help="The collector's name, as in its configuration.")
def init(directory: Path, addresses: tuple[str, ...], name: str) -> None:
    """Make an authority in DIRECTORY, and the certificate of the collector, valid for these IP ADDRESSES too.

    Prints the lines for the collector's configuration, and the fingerprint that hosts are given. To be run as the
    collector's user, or to be handed over to it (chown).
    """
    authority_files.init(directory, name, addresses)
    there = directory.absolute()
    own = there / authority_files.COLLECTOR
    click.echo(f'[tls]\nca = "{there / CA_CERT}"\ncert = "{own / CERT}"\nkey = "{own / KEY}"')
    click.echo(f'\n[enrolment]\nlisten = "0.0.0.0:7445"\nauthority = "{there}"')
    click.echo(f'address = "{addresses[0] if addresses else "NAME-OR-ADDRESS"}"\n')
    _tell(directory)
    click.echo(f"{there / CA_KEY} is needed by these commands alone: move it to where no network reaches it", err=True)


@enrolment.command("fingerprint")
@_DIRECTORY
def show_fingerprint(directory: Path) -> None:
    """Print the fingerprint of the root in use: SHA-256 of its DER, as hosts are given it."""
    _tell(directory)


@enrolment.command()
@_DIRECTORY
@click.option("--root-key", type=click.Path(path_type=Path), help="The root's key  [default: DIRECTORY/ca-key.pem]")
def renew(directory: Path, root_key: Path | None) -> None:
    """Renew the intermediate certificate, where the root's key is at hand, and the collector's own certificate.

    A running collector uses both from then on. Hosts notice nothing.
    """
    if authority_files.renew(directory, root_key):
        click.echo("the intermediate and the collector's certificate are renewed")
    else:
        click.echo("the collector's certificate is renewed; the intermediate is not: the root's key is not here")


@enrolment.command("new-root")
@_DIRECTORY
def new_root(directory: Path) -> None:
    """First step to another root: make it, and have every host trust it beside the present one.

    Hosts hear of it with their next certificates, within 72 hours. Then: use-new-root.
    """
    authority_files.begin_rotation(directory)
    click.echo("the next root is made and trusted beside the present one; after 72 hours: use-new-root")


@enrolment.command("use-new-root")
@_DIRECTORY
@click.option("--now", is_flag=True, help="However new it is: hosts that have not heard of it enrol anew.")
def use_new_root(directory: Path, now: bool) -> None:
    """Second step: sign with the next root from now on. The former one stays trusted until drop-old-root."""
    authority_files.switch_root(directory, now)
    click.echo("the next root is in use, the former one still trusted; after 72 hours: drop-old-root")
    _tell(directory)


@enrolment.command("drop-old-root")
@_DIRECTORY
def drop_old_root(directory: Path) -> None:
    """Last step: trust the root in use alone."""
    dropped = authority_files.drop_old_roots(directory)
    click.echo(f"{dropped} former root{'s' * (dropped != 1)} dropped")


def _tell(directory: Path) -> None:
    try:
        click.echo(f"fingerprint: {fingerprint((directory / CA_CERT).read_bytes())}")
    except (OSError, ValueError) as error:
        raise CaError(f"{directory}: no usable authority ({error}); make one: enrolment init DIR") from error
