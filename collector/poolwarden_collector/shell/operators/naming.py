"""What a command is about, found in this collector's own pools: asked before any collector is told to act.

Several collectors know each its own pools' names. So a name is looked up at all of them first: one that two of them
have is no name, and is refused as one collector refuses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.operators import access, alert_marks, requests
from poolwarden_collector.shell.operators.names import Ambiguous, Names, Unknown

if TYPE_CHECKING:
    from poolwarden_collector.shell.operators.second_person import SecondPerson
    from poolwarden_collector.shell.store.journal import Journal

LISTED = 20


class Naming:
    """Answers for one collector; ``names`` are the caller's."""

    def __init__(self, names: Callable[[], Names], journal: Journal, seconds: SecondPerson) -> None:
        self._names = names
        self._journal = journal
        self._seconds = seconds

    async def where(self, command: pb.CommandRequest) -> pb.WhereReply:
        """The places of its own that the command may mean. Raises Denied."""
        names = self._names()
        try:
            return pb.WhereReply(found=await self._found(names, command))
        except Unknown as error:
            return pb.WhereReply(why_not=str(error), known=known(names, command))
        except Ambiguous as error:
            return pb.WhereReply(found=self._all(names, command), why_not=str(error))

    async def _found(self, names: Names, command: pb.CommandRequest) -> list[pb.Place]:
        verb = str(command.WhichOneof("command"))
        part: Any = getattr(command, verb)
        if verb in alert_marks.VERBS:
            return [await self._alert(names, part.topic)]
        if verb in ("approve", "deny"):
            pool, wanted = requests.asked_in(names, part.id)
            return [_place(names, pool, sure=bool(wanted) or part.id == pool, typed=wanted or pool)]
        if verb == "second":
            return [_place(names, self._seconds.pool_of(names, part.id), sure=True, typed=part.id)]
        fields = part.DESCRIPTOR.fields_by_name
        if "pool" in fields:
            pool = names.pool(part.pool)
            return [_place(names, pool, sure=part.pool == pool, typed=pool)]
        if "host" in fields:
            return [_host(names, *names.host(part.host), part.host)]
        raise Unknown("the command names nothing")

    def _all(self, names: Names, command: pb.CommandRequest) -> list[pb.Place]:
        """Every one that has an ambiguous name."""
        part: Any = getattr(command, str(command.WhichOneof("command")))
        fields = part.DESCRIPTOR.fields_by_name
        if "pool" in fields:
            return [_place(names, pool, sure=False, typed=pool) for pool in names.pools_called(part.pool)]
        if "host" in fields:
            return [_host(names, pool, host, part.host) for pool, host in names.hosts_called(part.host)]
        return []

    async def _alert(self, names: Names, topic: str) -> pb.Place:
        seen = access.current().rights.seen()
        found = await asyncio.to_thread(self._journal.alerts, "", True, 100_000, seen)
        # What its archive has open of another one's pool is that one's to say.
        alert = alert_marks.named(topic, [each for each in found if each["pool"] in ("", *names.pools)])
        return pb.Place(pool_uuid=alert["pool"], sure=alert["key"] == topic.strip(), typed=alert["key"])


def _place(names: Names, pool: PoolId, *, sure: bool, typed: str) -> pb.Place:
    return pb.Place(pool_uuid=pool, pool_name=names.pools[pool].record.name, sure=sure, typed=typed)


def _host(names: Names, pool: PoolId, host: str, text: str) -> pb.Place:
    record = names.pools[pool].record
    place = _place(names, pool, sure=text == host and bool(record.hosts[host].boot_id), typed=host)
    place.host_uuid, place.host_name = host, record.name_of(host)
    return place


def known(names: Names, command: pb.CommandRequest) -> list[str]:
    """What there is of the kind that the command names; at most ``LISTED``."""
    part: Any = getattr(command, str(command.WhichOneof("command")))
    fields = part.DESCRIPTOR.fields_by_name
    found = names.known_pools() if "pool" in fields else names.known_hosts() if "host" in fields else []
    return sorted(found)[:LISTED]
