"""Where a lab keeps its things, and what its programs need to find the code.

Rules: sockets have short paths (108 bytes is the kernel's limit) and a host's tree lies in a short directory without
``_`` or ``:``, because stock XenAPI clients write a socket's path with ``_`` for ``/``. What is not readable from
outside the lab's namespaces (the trees) and what is (configuration, logs, journal, sockets) lie in different
directories where the given directory does not suit the trees.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import re
import shutil
import socket
import string
import tempfile
from dataclasses import dataclass
from pathlib import Path

LAB_SOCKET = "lab.sock"
_SHORT = re.compile(r"/[A-Za-z0-9./-]{1,40}")
_SOCKET_LIMIT = 100


class PlaceError(Exception):
    """A directory cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Places:
    """The directories and files of one lab."""

    home: Path  # configuration, logs, journal, sockets
    trees: Path  # hosts' trees; may be `home`
    made_home: bool  # this lab made the directory, so it may remove it

    @property
    def collector_socket(self) -> Path:
        return self.home / "collector.sock"

    @property
    def lab_socket(self) -> Path:
        return self.home / LAB_SOCKET

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def collector_config(self) -> Path:
        return self.home / "collector.toml"

    def tree(self, node: str) -> Path:
        return self.trees / node

    def clean(self, *, keep_home: bool) -> None:
        """Remove everything; with ``keep_home`` configuration, logs and journal stay."""
        for path in (self.lab_socket, self.collector_socket, *self.home.glob("c[0-9].sock")):
            path.unlink(missing_ok=True)
        if self.trees != self.home:
            shutil.rmtree(self.trees, ignore_errors=True)
        if keep_home:
            return
        for entry in list(self.home.iterdir()) if self.home.is_dir() else []:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if self.made_home:
            with contextlib.suppress(OSError):
                self.home.rmdir()


def make_places(home: Path | None) -> Places:
    """Directories for a new lab. Raises PlaceError for one that is in use, not empty or has too long a path."""
    if home is None:
        made = _fresh()
        return Places(made, made, made_home=True)
    home = home.absolute()
    if len(str(home / "collector.sock")) > _SOCKET_LIMIT:
        raise PlaceError(
            f"{home} is too long for a socket's path: give a directory of at most {_SOCKET_LIMIT - 15} letters"
        )
    existed = home.exists()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if answers(home):
            raise PlaceError(f"{home} is in use by a lab: poolwarden lab down --dir {home}")
        if any(entry.name != LAB_SOCKET for entry in home.iterdir()):
            raise PlaceError(f"{home} is not empty: give a new or an empty directory")
        (home / LAB_SOCKET).unlink(missing_ok=True)
    except OSError as error:
        raise PlaceError(f"{home} cannot be used: {error.strerror}") from error
    return Places(home, home if _SHORT.fullmatch(str(home)) else _fresh(), made_home=not existed)


def answers(home: Path) -> bool:
    """Does a lab process listen in this directory?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(2)
        try:
            link.connect(str(home / LAB_SOCKET))
        except OSError:
            return False
    return True


def _fresh() -> Path:
    parent = Path(tempfile.gettempdir())
    if not _SHORT.fullmatch(str(parent)) or len(str(parent)) > 20:
        parent = Path("/tmp")
    while True:
        made = parent / ("pw" + "".join(random.choices(string.ascii_lowercase + string.digits, k=6)))
        try:
            made.mkdir(mode=0o755)
        except FileExistsError:
            continue
        return made


def code_path(*packages: str) -> str:
    """PYTHONPATH for programs that import these packages, wherever this installation has them."""
    found: list[str] = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise PlaceError(f"the package {package} is not installed")
        parent = str(Path(next(iter(spec.submodule_search_locations))).parent)
        if parent not in found:
            found.append(parent)
    return os.pathsep.join(found)


def unprivileged_user(python: str) -> str:
    """Whom an agent's link side can become here: ``nobody`` where this process may make it so, else nobody at all ("").

    It needs real users (a user namespace of one has none), and an interpreter whose libraries that user can read.
    """
    if os.geteuid() != 0:
        return ""
    try:
        other = pwd.getpwnam("nobody").pw_uid
        mapped = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except (KeyError, OSError):
        return ""
    if not any(int(first) <= other < int(first) + int(count) for first, _, count in mapped):
        return ""
    program = Path(shutil.which(python) or python)
    places = [program, program.resolve(), Path(__file__)]
    open_to_all = all(folder.stat().st_mode & 0o001 for place in places for folder in place.absolute().parents)
    return "nobody" if open_to_all else ""


def base_environment(path: str, *, own_python: bool = True) -> dict[str, str]:
    """A small, known environment for every program of the lab; our own PYTHONPATH is nothing for another Python."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    if own_python and os.environ.get("PYTHONPATH"):
        path += os.pathsep + os.environ["PYTHONPATH"]
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
