"""The role on disk: ``/etc/xensource/pool.conf``.

Its content is ``master``, ``slave:<address>`` (IPv6 is fine: split at the first colon) or ``broken``; white space
around it is trimmed, and anything unreadable counts as broken (xapi: ocaml/xapi/pool_role.ml:45-78).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from poolwarden_lab.xapi.actions import Disk

POOL_CONF = "etc/xensource/pool.conf"


@dataclass(frozen=True, slots=True)
class Role:
    """A role; `master` is the master's address, for a member only. Its text is pool.conf's content."""

    kind: Literal["master", "member", "broken"]
    master: str = ""

    @property
    def is_master(self) -> bool:
        return self.kind == "master"

    @property
    def is_member(self) -> bool:
        return self.kind == "member"

    def __str__(self) -> str:
        return f"slave:{self.master}" if self.kind == "member" else self.kind


MASTER = Role("master")


def member_of(address: str) -> Role:
    return Role("member", address)


def parse_role(text: str) -> Role:
    word, colon, address = text.strip().partition(":")
    if word == "master" and not colon:
        return MASTER
    if word == "slave" and address:
        return member_of(address)
    return Role("broken")


def read_role(disk: Disk) -> Role:
    try:
        return parse_role(disk.read(POOL_CONF).decode("utf-8", "replace"))
    except OSError:
        return Role("broken")
