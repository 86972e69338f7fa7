"""The group of all commands: suggestions for mistyped names, and a `lab` that is loaded only when it is used.

The lab is another package, which is not there in production. It is looked up by name at run time, never imported here,
and never loaded for the sake of a help text.
"""

import importlib
import importlib.util
from typing import Any

import click

from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.nearest import nearest

LAB = ("poolwarden_lab.cli", "lab")  # module, its click group
# What other tools call it (patronictl, orchestrator-client, pcs, xe) and what it is called here.
ELSEWHERE_CALLED = {
    "clusters": "status",
    "confirm": "confirm-fenced",
    "exercise": "drill",
    "events": "history",
    "list": "status",
    "log": "history",
    "maintenance": "pause",
    "members": "hosts",
    "pools": "status",
    "promote": "designate",
    "restart": "restart-xapi",
    "stonith": "fence",
    "switchover": "designate",
    "topology": "hosts",
    "unpause": "resume",
    "who-is-master": "master",
    "why": "explain",
}


class Commands(click.Group):
    """A group that says which command was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with our own error for an unknown name."""
        if (
            args
            and not ctx.resilient_parsing
            and not args[0].startswith("-")
            and self.get_command(ctx, args[0]) is None
        ):
            near = self._meant(ctx, args[0])
            hint = f"did you mean {' or '.join(near)}?" if near else f"{ctx.command_path} --help lists the commands"
            raise BadInput(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, word: str) -> list[str]:
        """At most two commands that may have been meant, as they are typed after ``poolwarden``."""
        path = " ".join(ctx.command_path.split()[1:])
        lead = f"{path} " if path else ""
        known = {name for name in self.list_commands(ctx) if self.get_command(ctx, name) is not None}
        # A command of one of the groups below: `show` is `host show`.
        deeper = [f"{lead}{name} {word}" for name in sorted(known) if word in _names_of(self.get_command(ctx, name))]
        if (called := ELSEWHERE_CALLED.get(word.lower(), "")) in known:
            return [called]
        begun = [name for name in sorted(known) if len(word) > 2 and name.startswith(word.lower())]
        named = dict.fromkeys([*begun, *nearest(word, known)])
        return [*deeper, *(lead + name for name in named)][:2]


def _names_of(command: click.Command | None) -> tuple[str, ...]:
    return tuple(command.commands) if isinstance(command, click.Group) else ()


class ListingOrCommand(Commands):
    """Gives way to a command that lists, unless the first word is one of its own commands.

    For what listed before it had commands: `alerts`, `alerts POOL` and `alerts --all` stay as they are.
    """

    def __init__(self, name: str, listing: click.Command) -> None:
        super().__init__(name, help=listing.help)
        self.listing = listing

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command that is meant."""
        words = [word for word in args if not word.startswith("-")]
        near = nearest(args[0], self.commands) if len(words) > 1 and args[0] in words else []
        if args and args[0] not in self.commands and near:
            path = f"{info_name} {near[0]}"
            raise BadInput(f"there is no command '{info_name} {args[0]}'", f"did you mean {path}?")
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.listing.make_context(info_name, args, parent, **extra)


class Elsewhere(click.Command):
    """Stands for a command of a package that the operator's commands do not load, until it is called."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the real command."""
        command = getattr(importlib.import_module(self.module), str(self.name))
        assert isinstance(command, click.Command)
        return command.make_context(info_name, args, parent, **extra)


class Lab(click.Command):
    """Stands for the lab's group until it is called, then gives way to it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the real group; raises BadInput where the lab is not installed."""
        return _loaded_lab().make_context(info_name, args, parent, **extra)


def _loaded_lab() -> click.Command:
    module, name = LAB
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise BadInput("the lab is not installed here", "it comes with the source tree: make demo")
    group = getattr(importlib.import_module(module), name)
    assert isinstance(group, click.Command)
    return group
