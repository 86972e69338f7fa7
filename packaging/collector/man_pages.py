"""Manual pages, one for each command of a program, made from the commands themselves; nothing is written by hand.

`pages` gives name and text (roff, man(7)) of all of them; the archive's builder puts them beside the installer. They
are never committed, so none can be out of date.
"""

import re
import time
from collections.abc import Iterator

import click

SECTION = "1"
LEFT_OUT = ("lab",)  # of the source tree only


def pages(group: click.Group, version: str, epoch: int, program: str = "poolwarden") -> dict[str, str]:
    """File name to text: the program's own page, and one for each command and each command of a group."""
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    found = {}
    for context in _contexts(click.Context(group, info_name=program)):
        name = context.command_path.replace(" ", "-")
        found[f"{name}.{SECTION}"] = "\n".join(_page(context, name, version, day)) + "\n"
    return found


def _contexts(context: click.Context, group: click.Command | None = None) -> Iterator[click.Context]:
    """A command's context and those of the commands below it; ``group``: which has them, where it gives way to it."""
    yield context
    command = group or context.command
    if isinstance(command, click.Group):
        if command is not context.command:
            context = click.Context(command, info_name=context.info_name, parent=context.parent)
        for name in command.list_commands(context):
            if name not in LEFT_OUT:
                yield from _contexts(_real(command.commands[name], name, context), command.commands[name])


def _real(command: click.Command, name: str, parent: click.Context) -> click.Context:
    """The context of the command itself, also of one that is loaded when it is used."""
    context = command.make_context(name, [], parent, resilient_parsing=True)
    return click.Context(context.command, info_name=name, parent=parent)


def _page(context: click.Context, name: str, version: str, day: str) -> list[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_roff(name.upper())}" "{SECTION}" "{day}" "poolwarden {_roff(version)}" "Poolwarden"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(command.get_short_help_str(limit=200))}",
        ".SH SYNOPSIS",
        f".B {_roff(context.command_path)}",
        _roff(usage),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        ".SH OPTIONS",
    ]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f"\\fB{_roff(record[0])}\\fR", _text(record[1])]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for each in command.list_commands(context):
            lines += [".TP", f"\\fB{_roff(each)}\\fR", _text(command.commands[each].get_short_help_str(limit=200))]
    if command.epilog:
        lines += [".SH NOTES", *_paragraphs(command.epilog)]
    others = [] if context.parent is None else [f"\\fB{_roff(context.parent.command_path.replace(' ', '-'))}\\fR(1)"]
    return [*lines, ".SH SEE ALSO", ", ".join([*others, "docs/commands.md and docs/operating.md of the archive"])]


def _paragraphs(text: str) -> list[str]:
    """Paragraphs of a help text; one that begins with a backspace is printed as it stands."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", text):
        kept = paragraph.strip("\n")
        if kept.startswith("\b"):
            lines += [".PP", ".nf", *(_text(line) for line in kept.splitlines()[1:]), ".fi"]
        elif kept.strip():
            lines += [".PP", _text(" ".join(kept.split()))]
    return lines


def _text(line: str) -> str:
    """A line of text: one that begins with a dot or a quote would be a request."""
    safe = _roff(line)
    return f"\\&{safe}" if safe.lstrip().startswith((".", "'")) else safe


def _roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
