"""``poolwarden-collector web-user``: who may sign in at the page by a password."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import click

from poolwarden_collector.shell.config.certificates import CaError
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.operators import WORDS
from poolwarden_collector.shell.page.users import User, UserFile, UsersError, made

_DEFAULT = Path("/etc/poolwarden/collector.toml")
_CONFIG = click.option(
    "--config", "file", default=_DEFAULT, show_default=True, type=click.Path(path_type=Path), help="The collector's."
)


@click.group("web-user", short_help="Who may sign in at the page.")
def web_user() -> None:
    """Make, remove and list users of the page ([page], docs/page.md); a running collector sees it at once."""


@web_user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(list(WORDS)), default="viewer", show_default=True)
@click.option("--pools", metavar="POOLS", help="Only in these, with commas between: UUIDs, or names of [pools.UUID].")
@_CONFIG
def add(name: str, role: str, pools: str | None, file: Path) -> None:
    """Make the user NAME.

    The password is asked for, or is the first line of standard input where that is no terminal.
    """
    config, users = _opened(file)
    known = _all(users)
    if name in known:
        _fail(f"there is a user {name} already; poolwarden-collector web-user remove {name} makes room")
    scope = frozenset(_pool(text.strip(), config) for text in pools.split(",")) if pools is not None else None
    try:
        user = made(name, _password(), WORDS[role], scope)
        users.write({**known, name: user})
    except (UsersError, CaError, OSError) as error:
        _fail(str(error))
    click.echo(f"{name}: {role} in {'all pools' if scope is None else ', '.join(sorted(scope))}")
    if config.page is None:
        click.echo(f"{file} has no [page] yet: nobody can sign in before it has one (docs/page.md)", err=True)


@web_user.command("remove")
@click.argument("name")
@_CONFIG
def remove(name: str, file: Path) -> None:
    """End what NAME may see, from his next request on."""
    _, users = _opened(file)
    known = _all(users)
    if name not in known:
        _fail(f"there is no user {name}; there is: {', '.join(sorted(known)) or 'nobody'}")
    del known[name]
    try:
        users.write(known)
    except (CaError, OSError) as error:
        _fail(str(error))
    click.echo(f"{name}: removed")


@web_user.command("list")
@_CONFIG
def show(file: Path) -> None:
    """Print each user with his role and pools."""
    _, users = _opened(file)
    for user in sorted(_all(users).values(), key=lambda each: each.name):
        click.echo(
            f"{user.name}: {user.role.word} in {'all pools' if user.pools is None else ', '.join(sorted(user.pools))}"
        )


def _opened(file: Path) -> tuple[Config, UserFile]:
    try:
        config = load(file)
    except ConfigError as error:
        sys.exit(_say(str(error), 2))
    return config, UserFile(config.state_dir)


def _all(users: UserFile) -> dict[str, User]:
    try:
        return dict(users.all())
    except UsersError as error:
        _fail(str(error))


def _password() -> str:
    """Never from the command line, which every user of the machine can read."""
    if sys.stdin.isatty():
        return str(click.prompt("password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline(1_024).rstrip("\r\n")


def _pool(text: str, config: Config) -> str:
    named = [uuid for uuid, each in config.pools.items() if each.name and each.name == text]
    if len(named) == 1:
        return named[0]
    # safety: what no master can change stands for a pool here, as in [[operators]].
    try:
        return str(UUID(text))
    except ValueError:
        _fail(f"{text!r} is no UUID of a pool, and no single [pools.UUID] of that name is in the configuration")


def _fail(text: str) -> NoReturn:
    sys.exit(_say(text, 1))


def _say(text: str, status: int) -> int:
    click.echo(f"poolwarden-collector: {' '.join(text.split())}", err=True)
    return status
