"""Ids of orders, of a device's runs and of nonces: their text is made here, and read back here alone.

Forms
-----
* ``BASE.NUMBER``: an attempt. The base is the same over restarts, so that an agent which has done it once answers with
  its stored result.
* ``POOL/WHAT/EPOCH.SERIAL``: a fresh id, of the same form: epochs never repeat, serials never repeat within one.
* ``FAILOVER/...``: whatever a failover orders; a failover's own id is ``POOL-NUMBER.TERM``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from poolwarden_collector.core.model.values import PoolId

_NUMBERED = re.compile(r"(?P<base>.*)\.(?P<number>\d{1,18})")
_FAILOVER_ORDER = re.compile(r"[^/]{1,16}-\d{1,9}\.(?P<term>\d{1,18})/(?:\d{1,20}/)?(?P<what>\w+)")


@dataclass(frozen=True, slots=True)
class OrderId:
    """An id in its parts; ``number``: of the attempt, or the serial; None where it has none."""

    base: str
    number: int | None = None

    @property
    def text(self) -> str:
        return self.base if self.number is None else f"{self.base}.{self.number}"

    def is_of(self, failover: str) -> bool:
        """Was it ordered by this failover?"""
        first, slash, _ = self.text.partition("/")
        return bool(slash) and first == failover

    def made_for(self, what: str, epoch: int) -> bool:
        """Is it a fresh id for this, of this run of the collector?"""
        return self.base.split("/")[-2:] == [what, str(epoch)]

    def made_by(self, epoch: int) -> bool:
        """Is it a fresh id of this run of the collector, whatever for?"""
        return self.base.rpartition("/")[2] == str(epoch)


@dataclass(frozen=True, slots=True)
class FailoverOrder:
    """What an id says of an order of some failover, whoever decided that."""

    term: int
    what: str


def fresh(pool: PoolId, what: str, epoch: int, serial: int) -> OrderId:
    """An id unique over all runs."""
    return OrderId(f"{pool[:8]}/{what}/{epoch}", serial)


def parse(text: str) -> OrderId:
    """The parts of an id; total."""
    found = _NUMBERED.fullmatch(text)
    return OrderId(found["base"], int(found["number"])) if found else OrderId(text)


def is_attempt(text: str, base: str) -> bool:
    """Is this the id of an attempt of that base?"""
    return parse(text).base == base


def failover_order(text: str) -> FailoverOrder | None:
    """The failover's term and what it ordered, if this is an id of a failover's order."""
    found = _FAILOVER_ORDER.match(text)
    return FailoverOrder(int(found["term"]), found["what"]) if found else None
