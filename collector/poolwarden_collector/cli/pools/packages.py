"""The agent's packages as the collector serves them: from whose authority was compared, and by checksum."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from poolwarden.enrolment_client import Door, EnrolmentError
from poolwarden_collector.cli.errors import AnswerIsNo, CommandError, Unreachable

MOST_BYTES = 64 * 1024 * 1024
_NAME = re.compile(r"poolwarden-agent-[A-Za-z0-9][A-Za-z0-9.+~_-]{0,120}\.rpm")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Package(NamedTuple):
    """One package; ``abi`` as "3.6"."""

    name: str
    abi: str
    version: str
    sha256: str
    size: int

    @property
    def installed_as(self) -> str:
        """As ``rpm -q`` names it."""
        return self.name.removesuffix(".rpm")

    @property
    def short(self) -> str:
        """Version, release and distribution."""
        return short(self.installed_as)


def short(installed: str) -> str:
    """``0.1.0-1.xs8`` of ``poolwarden-agent-0.1.0-1.xs8.x86_64``."""
    return installed.removeprefix("poolwarden-agent-").rpartition(".")[0] or installed


def door(address: str, fingerprint: str) -> Door:
    """The collector's enrolment address. Raises CommandError."""
    if not address:
        raise AnswerIsNo("no host can enrol at this collector", "set [enrolment] in collector.toml: docs/enrolment.md")
    try:
        return Door(address, fingerprint)
    except EnrolmentError as error:
        raise Unreachable(error.text, error.next_step) from None


def listed(at: Door) -> list[Package]:
    """What it serves. Raises CommandError."""
    try:
        _, answer = at.json("GET", "/v1/agents")
    except EnrolmentError as error:
        raise CommandError(error.text, error.next_step) from None
    found = [_package(item) for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []
    return [package for package in found if package is not None]


def _package(item: dict[str, object]) -> Package | None:
    name, digest, size = item.get("name"), item.get("sha256"), item.get("size")
    if not isinstance(name, str) or not isinstance(digest, str) or not isinstance(size, int):
        return None
    if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest) or not 0 < size <= MOST_BYTES:
        return None
    return Package(name, str(item.get("abi", "")), str(item.get("version", "")), digest, size)


def newest_for(packages: list[Package], abi: str) -> Package:
    """The newest one for a host's Python. Raises AnswerIsNo."""
    fitting = [package for package in packages if package.abi == abi]
    if not fitting:
        there = ", ".join(sorted(package.name for package in packages)) or "none"
        raise AnswerIsNo(
            f"the collector serves no agent for Python {abi} (it has: {there})",
            f'make rpm ARGS="--abi {abi}", and put the package into the directory of [enrolment] packages',
        )
    return max(fitting, key=lambda package: _order(package.name))


def _order(name: str) -> list[tuple[int, int, str]]:
    """So that 0.10.0 comes after 0.9.1, as rpm has it: digits by value, above letters."""
    parts = re.findall(r"[0-9]+|[a-z]+", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def fetch(at: Door, package: Package, folder: Path) -> Path:
    """The package's file, its checksum compared; fetched once. Raises CommandError."""
    path = folder / package.name
    if path.exists():
        return path
    try:
        status, content = at.ask("GET", f"/v1/agents/{quote(package.name)}", most=package.size)
    except EnrolmentError as error:
        raise CommandError(error.text, error.next_step) from None
    digest = hashlib.sha256(content).hexdigest()
    if status != 200 or digest != package.sha256:
        raise CommandError(f"{package.name} did not come whole (HTTP {status}, SHA-256 {digest})", "try again")
    path.write_bytes(content)
    return path
