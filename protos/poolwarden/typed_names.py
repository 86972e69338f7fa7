"""Names in suggested commands: a person copies them into a shell, so there a name stands as it has to be typed.

Hosts, pools, VMs and devices are called whatever somebody liked: xapi allows blanks, ``;`` and ``$(...)``. In a
sentence a name is a name; in a command such a one is an instruction to the shell.

Rules
-----
* A name of letters, digits and ``. _ : @ % + = / -`` that does not begin with ``-`` is typed as it is. Any other is
  quoted for a POSIX shell. One that begins with ``-`` would be taken for an option, quoted or not: its UUID is typed.
* A command begins with the name of a program that our texts suggest; from there to the end of its line every name that
  needs it is quoted where it stands as a word, also as a part of ``pool/host`` and ``host=NAME``. What is quoted
  already stays as it is.

Runs on Python 3.6 and newer, and needs nothing.
"""

import re
import shlex
from typing import Dict, Iterable, Mapping, Tuple

_PLAIN = re.compile(r"[A-Za-z0-9._:@%+=/][A-Za-z0-9._:@%+=/-]*\Z", re.ASCII)
_COMMAND = re.compile(
    r"(?<![\w./-])(?:poolwarden|poolwarden-agent|xe|xe-[a-z-]+|xl|systemctl|ssh|find|yum|dnf|ps|mv|cp|rm) "
)
_BEFORE, _AFTER = r"(?<![^\s=(/:\[`])", r"(?![^\s,;.:)/\]`])"  # a name is no part of a longer word


def typed(name: str, uuid: str = "") -> str:
    """The name as it is typed in a shell; ``uuid`` names the same where the name cannot be typed."""
    if _PLAIN.match(name):
        return name
    return uuid if uuid and name.startswith("-") else shlex.quote(name)


def to_quote(names: Iterable[Tuple[str, str]]) -> Dict[str, str]:
    """Of (name, UUID or nothing) those that are not typed as they are, with how they are."""
    found = ((name, typed(name, uuid)) for name, uuid in names if name)
    return {name: as_typed for name, as_typed in found if name != as_typed}


def quoted(text: str, names: Mapping[str, str]) -> str:
    """The text with these names quoted in its commands; ``names`` as ``to_quote`` gives them."""
    if not names or _COMMAND.search(text) is None or not any(name in text for name in names):
        return text
    longest_first = sorted(names, key=len, reverse=True)
    # What is quoted already is matched first, and stays.
    forms = [names[name] for name in longest_first if name in names[name]] + longest_first
    either = re.compile(_BEFORE + "(?:" + "|".join(map(re.escape, forms)) + ")" + _AFTER)
    return "\n".join(_line(line, either, names) for line in text.split("\n"))


def _line(line: str, either: "re.Pattern[str]", names: Mapping[str, str]) -> str:
    command = _COMMAND.search(line)
    if command is None:
        return line
    rest = either.sub(lambda found: names.get(found.group(), found.group()), line[command.end() :])
    return line[: command.end()] + rest
