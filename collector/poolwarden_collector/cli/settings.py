"""The options that every command takes, before or after its name: where the collector is and how to print.

An option given to the command wins over the same option given before it; both win over the environment.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_COLLECTOR = "unix:/run/poolwarden/collector.sock"
DEFAULT_TLS = "/etc/poolwarden/operator"
# Of several collectors' addresses, one a line; "#" begins a remark.
DEFAULT_ADDRESSES = Path(DEFAULT_TLS) / "collectors"
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass
class Settings:
    """What the options of one call came to."""

    collector: str = ""
    tls: str = ""
    json: bool = False
    plain: bool = False
    reason: str = ""

    @property
    def address(self) -> str:
        """`unix:PATH` or `HOST:PORT`, or several: option, POOLWARDEN_COLLECTOR, the file, or the local default."""
        given = self.collector or os.environ.get("POOLWARDEN_COLLECTOR", "")
        return given or ",".join(_in_file(DEFAULT_ADDRESSES)) or DEFAULT_COLLECTOR

    @property
    def addresses(self) -> tuple[str, ...]:
        """Each of them, in the order in which they are tried."""
        return tuple(part for text in self.address.split(",") if (part := text.strip())) or (self.address,)

    @property
    def tls_folder(self) -> str:
        """Folder with ca.pem, cert.pem, key.pem for HOST:PORT: option, then POOLWARDEN_TLS, then the default."""
        return self.tls or os.environ.get("POOLWARDEN_TLS", "") or DEFAULT_TLS


def _in_file(file: Path) -> list[str]:
    """The addresses that stand there; none where there is no such file."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError):
        return []
    return [text for line in lines if (text := line.partition("#")[0].strip())]


def _keep(context: click.Context, parameter: click.Parameter, value: str | bool | None) -> None:
    if value and parameter.name:
        setattr(context.ensure_object(Settings), parameter.name, value)


def reason_option(function: _Function) -> _Function:
    """Give a command that changes something --reason; the value goes to the Settings object of the context."""
    return click.option(
        "--reason", metavar="TEXT", callback=_keep, expose_value=False, help="Why; kept in the record of calls."
    )(function)


def common_options(function: _Function) -> _Function:
    """Give a command --collector, --tls, --json and --plain; the values go to the Settings object of the context."""
    kept: dict[str, Any] = {"callback": _keep, "expose_value": False}
    for option in (
        click.option("--plain", is_flag=True, help="No colours, 80 columns (default when not on a terminal).", **kept),
        click.option("--json", is_flag=True, help="Print JSON instead of text.", **kept),
        click.option(
            "--tls", metavar="DIR", help=f"ca.pem, cert.pem and key.pem for HOST:PORT [{DEFAULT_TLS}].", **kept
        ),
        click.option(
            "--collector", metavar="ADDRESS", help="unix:PATH or HOST:PORT; A,B,C: one after the other.", **kept
        ),
    ):
        function = option(function)
    return function
