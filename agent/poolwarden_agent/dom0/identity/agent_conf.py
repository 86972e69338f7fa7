"""Sets single keys of agent.conf and leaves every other line as it is, comments among them.

A key that is set is replaced where it stands; one that is only there as a comment (``#collector = ...``) is written
below that comment's line, in its place; else it goes below ``[agent]``. The file is replaced whole, with its mode and
owner.
"""

import os
import re
from typing import Dict

NEW = """# The Poolwarden agent of this host. After a change: systemctl restart poolwarden-agent
[agent]
user = poolwarden
"""
MODE = 0o640


def with_values(text: str, values: Dict[str, str]) -> str:
    """The file's text with these values."""
    for key, value in values.items():
        line = "%s = %s" % (key, value)
        name = re.escape(key)
        set_, comment, section = (
            r"^[ \t]*%s[ \t]*[=:].*$" % name,
            r"^[ \t]*#[ \t]*%s[ \t]*=.*$" % name,
            r"^\[agent\][ \t]*$",
        )
        for pattern in (set_, comment, section):
            found = re.search(pattern, text, re.MULTILINE)
            if found:
                kept = "" if pattern == set_ else found.group(0) + "\n"
                text = text[: found.start()] + kept + line + text[found.end() :]
                break
        else:
            text = "[agent]\n%s\n%s" % (line, text)
    return text


def write(path: str, values: Dict[str, str]) -> None:
    """Set them in the file; one that is not there is made. :raises OSError: it cannot be; what was there stands."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        status = os.stat(path)
        mode, owner = status.st_mode & 0o777, (status.st_uid, status.st_gid)
    except FileNotFoundError:
        text, mode, owner = NEW, MODE, (-1, -1)
    changed = with_values(text, values)
    if changed == text and owner != (-1, -1):
        return
    temporary = path + ".new"
    try:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(changed)
            file.flush()
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
