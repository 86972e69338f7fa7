"""What is wrong with the hooks as they lie there: for ``check-config`` and ``doctor``, before an occasion comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.shell.config.toml_table import ConfigError
from poolwarden_collector.shell.hooks import dns_name, trust
from poolwarden_collector.shell.hooks.trust import Hook


@dataclass(frozen=True, slots=True)
class Condition:
    """``good``: the names of what is run; ``bad``: what is not, or fails, with the reason; ``left_out``: no hooks."""

    good: tuple[str, ...]
    bad: tuple[str, ...]
    left_out: tuple[str, ...]


def of_hooks(directory: Path) -> Condition:
    """How the hooks of this directory are."""
    found = trust.look(directory)
    bad = {hook.name: f"hook {hook.name} is not run: {hook.refusal}" for hook in found.refused}
    bad |= {hook.name: why for hook in found.hooks if not hook.refusal and (why := _of_its_file(hook))}
    return Condition(
        tuple(hook.name for hook in found.hooks if hook.name not in bad), tuple(bad.values()), found.left_out
    )


def _of_its_file(hook: Hook, file: Path = dns_name.DEFAULT_FILE) -> str:
    """The shipped hook has a file of its own."""
    if hook.path.resolve().name != dns_name.PROGRAM:
        return ""
    try:
        dns_name.load(file)
    except (ConfigError, OSError) as error:
        return f"hook {hook.name} fails: {error}"
    return ""
