"""The agent's packages that a collector hands out: the RPMs of one directory, by their names.

Rules
-----
* Only what is a plain file there with the name of an agent's package, and no link, is handed out.
* A file is read once for its SHA-256, and again when it has changed.
"""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import dataclass
from pathlib import Path

# poolwarden-agent-VERSION-RELEASE.DISTRIBUTION.x86_64.rpm; the ABI is that of the distribution's dom0
NAME = re.compile(r"poolwarden-agent-([0-9][\w.~+]*)-([\w.~+]+?)\.(xs8|xs9|el10)\.x86_64\.rpm", re.ASCII)
ABIS = {"xs8": "3.6", "xs9": "3.11", "el10": "3.12"}


@dataclass(frozen=True, slots=True)
class AgentPackage:
    """One package; ``sha256`` in hex, ``size`` in bytes."""

    name: str
    abi: str
    dist: str
    version: str
    sha256: str
    size: int


class AgentPackages:
    """What lies in ``directory``; its methods read files: call them in a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, tuple[tuple[int, int], AgentPackage]] = {}

    def all(self) -> list[AgentPackage]:
        """By name. Raises OSError where the directory cannot be read."""
        found = [self._read(path) for path in sorted(self.directory.iterdir())]
        return [package for package in found if package is not None]

    def _read(self, path: Path) -> AgentPackage | None:
        said = NAME.fullmatch(path.name)
        if said is None:
            return None
        try:
            status = path.lstat()
            stamp = (status.st_mtime_ns, status.st_size)
            if not stat.S_ISREG(status.st_mode):
                return None
            if self._known.get(path.name, (None,))[0] != stamp:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                package = AgentPackage(path.name, ABIS[said[3]], said[3], said[1], digest, status.st_size)
                self._known[path.name] = (stamp, package)
        except OSError:  # it has just been taken away
            return None
        return self._known[path.name][1]
