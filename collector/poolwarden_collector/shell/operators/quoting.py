"""Names that replies quote in the commands that they suggest (typed_names.py), each pool's in what is of that pool.

Nearly no name needs it. Where thousands of pools have such names, a text is held against its own pool's alone: to hold
each against all would take time by the square of their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolwarden import typed_names
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state import told_words
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.operators.turns import Turns

Names = Mapping[str, str]


class Quoting:
    """Keeps the names of each pool until its record or its devices change."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._of: dict[PoolId, tuple[Pool, Names]] = {}

    async def typed(self, reply: Any, turns: Turns) -> Any:
        """The reply, in place, with names quoted as they have to be typed."""
        own = self._own(reply)
        if own is not None:
            return as_typed(reply, own)
        names, messages = await self._all(turns), list[Any]()
        for field, value in reply.ListFields():
            if field.cpp_type == field.CPPTYPE_MESSAGE and not _is_map(field):
                messages += (value,) if hasattr(value, "ListFields") else value
        for each in messages:
            found = self._own(each)
            as_typed(each, names if found is None else found)
            await turns.rest()
        return _texts_as_typed(reply, names)

    def _own(self, message: Any) -> Names | None:
        """The names of the pool that this message is of; None: it is of no one pool that is known."""
        uuid = getattr(message, "pool_uuid", "")
        return self._of_pool(uuid) if uuid in self._roster.pools else None

    def _of_pool(self, uuid: PoolId) -> Names:
        pool, (before, names) = self._roster.pools[uuid], self._of.get(uuid, (None, {}))
        if before is None or before.record is not pool.record or before.devices is not pool.devices:
            names = told_words.to_quote(pool)
        special = self._roster.config.pools.get(uuid)
        self._of[uuid] = (pool, names)
        return names if special is None else {**names, **typed_names.to_quote(((special.name, uuid),))}

    async def _all(self, turns: Turns) -> Names:
        special = self._roster.config.pools.items()
        found = typed_names.to_quote((each.name, uuid) for uuid, each in special)
        for uuid in list(self._roster.pools):
            found.update(self._of_pool(uuid))
            await turns.rest()
        return found


def as_typed(reply: Any, names: Names) -> Any:
    """The message, in place, with these names quoted in every command that a text of it suggests."""
    if names:
        for field, value in reply.ListFields():
            if field.cpp_type == field.CPPTYPE_MESSAGE and not _is_map(field):
                for each in (value,) if hasattr(value, "ListFields") else value:
                    as_typed(each, names)
        _texts_as_typed(reply, names)
    return reply


def _texts_as_typed(reply: Any, names: Names) -> Any:
    """The same of its own texts alone."""
    for field, value in reply.ListFields() if names else ():
        if field.cpp_type != field.CPPTYPE_STRING or _is_map(field):
            continue
        if not isinstance(value, str):
            value[:] = [typed_names.quoted(each, names) for each in value]
        elif not value.startswith(("{", "[")):  # JSON is for programs
            setattr(reply, field.name, typed_names.quoted(value, names))
    return reply


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
