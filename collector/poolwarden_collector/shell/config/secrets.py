"""Secrets of a block of the configuration: a credential of the unit, a file of mode 0600, or the environment.

Rules
-----
* ``secret_credential`` names a credential that systemd hands to the unit (systemd.exec(5), LoadCredential= and
  LoadCredentialEncrypted=): encrypted on disk, decrypted into memory that only this service reads.
* ``secret_file`` names a file of ``name=value`` lines that only its owner may read, who is its user or root.
  What is judged is what was opened: a plain file, not whatever stands under that name a moment later.
* ``secret_env`` is a table of name = variable of the environment. The configuration itself, which is copied about,
  holds no secret.
* No value stands in an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from poolwarden_collector.shell.config.toml_table import ConfigError, Table

ENVIRONMENT_FILE = Path("/etc/poolwarden/collector.env")
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd sets it for the unit's processes
UNITS_CREDENTIALS = "/run/credentials/poolwarden-collector.service"  # the same, for root beside the running unit
BIGGEST = 65536  # bytes of a file of secrets
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


def read_secrets(table: Table, environment: Mapping[str, str]) -> dict[str, str]:
    """What the secrets of this block are, by name; a later kind adds to the earlier ones. Raises ConfigError."""
    found: dict[str, str] = {}
    if table.has("secret_credential"):
        found |= _credential(table, environment)
    else:
        table.text("secret_credential", "")  # known, not given
    if table.has("secret_file"):
        found |= _lines(
            table.path("secret_file"), lambda problem, expected: table.wrong("secret_file", problem, expected)
        )
    else:
        table.text("secret_file", "")  # known, not given
    return found | _from_environment(table.table("secret_env"), environment)


def _credential(table: Table, environment: Mapping[str, str]) -> dict[str, str]:
    """The lines of a credential; systemd keeps it for this service alone, so its mode says nothing (it has an ACL)."""
    name = table.text("secret_credential", None, "the name of a credential of the collector's unit")
    if not _CREDENTIAL.fullmatch(name):
        raise table.wrong("secret_credential", f"is {name[:60]!r}", "a name without slashes, as LoadCredential= has it")
    path = Path(environment.get(CREDENTIALS) or UNITS_CREDENTIALS) / name
    if not path.exists():
        where = (
            f"LoadCredential={name}:FILE, or LoadCredentialEncrypted=, in a drop-in of the collector's unit, and the "
            "unit started (systemctl edit poolwarden-collector; it is read at its start)"
        )
        raise table.wrong("secret_credential", f"{path} is not there or not for this user", where)
    return _lines(path, lambda problem, expected: table.wrong("secret_credential", problem, expected), guarded=True)


def read_environment(path: Path) -> dict[str, str]:
    """What systemd would read from this EnvironmentFile= (systemd.exec(5)), quotes taken off; empty if there is none.

    Raises ConfigError if it cannot be read or others may read it.
    """
    with contextlib.suppress(PermissionError):
        if not path.exists():
            return {}
    found = _lines(path, lambda problem, expected: ConfigError(f"{problem}; expected {expected}"))
    return {name: _unquoted(value) for name, value in found.items()}


def _from_environment(table: Table, environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key in table.keys():  # noqa: SIM118  (a Table is no mapping)
        variable = table.text(key, None, "the name of an environment variable")
        if not environment.get(variable):
            where = f"a line {variable}=... in {ENVIRONMENT_FILE} (mode 0600), which the collector's unit reads"
            raise table.wrong(key, f"{variable} is not in the collector's environment", where)
        found[key] = environment[variable]
    return found


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _lines(path: Path, wrong: Callable[[str, str], ConfigError], guarded: bool = False) -> dict[str, str]:
    """The ``name=value`` lines of a file that only its owner may read; ``guarded``: systemd sees to that."""
    try:
        text = _text_of(path, wrong, guarded)
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(f"{path} cannot be read ({_without_value(error)})", "a file of name=value lines") from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(("#", ";")):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise wrong(f"line {number} of {path} has no '='", "name=value")
        found[name.strip()] = value.strip()
    return found


def _text_of(path: Path, wrong: Callable[[str, str], ConfigError], guarded: bool) -> str:
    # A FIFO under this name would hold the collector's start up for ever: it is opened without waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise wrong(f"{path} is no plain file", "a file of name=value lines")
        if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not guarded:
            raise wrong(f"{path} has mode {stat.S_IMODE(about.st_mode):04o}", f"mode 0600: chmod 600 {path}")
        # Root, who checks the configuration of another user's collector, cannot tell whose it has to be.
        if not guarded and os.geteuid() and about.st_uid not in (0, os.geteuid()):
            raise wrong(f"{path} belongs to user {about.st_uid}", f"the collector's own user: chown poolwarden {path}")
        if about.st_size > BIGGEST:
            raise wrong(f"{path} has {about.st_size} bytes", f"at most {BIGGEST}")
        return file.read(BIGGEST).decode("utf-8")


def _without_value(error: OSError | UnicodeDecodeError) -> str:
    """What was wrong; an error of decoding holds the bytes themselves."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is no UTF-8"
