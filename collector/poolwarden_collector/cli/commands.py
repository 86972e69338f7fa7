"""The group of all commands: suggestions for mistyped names, and a `lab` that is loaded only when it is used.

The lab is another package, which is not there in production. It is looked up by name at run time, never imported here,
and never loaded for the sake of a help text.
"""

import difflib
import importlib
import importlib.util
from typing import Any

import click

from poolwarden_collector.cli.errors import BadInput

LAB = ("poolwarden_lab.cli", "lab")  # module, its click group


class Commands(click.Group):
    """A group that says which command was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with our own error for an unknown name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2, cutoff=0.7)
            hint = f"did you mean {' or '.join(near)}?" if near else f"{ctx.command_path} --help lists the commands"
            raise BadInput(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)


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
