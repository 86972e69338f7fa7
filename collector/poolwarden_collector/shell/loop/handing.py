"""What a pool's channels and hooks know, between one owner of it and the next: read from etcd, and noted there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.store.handed import Handed, Left, Mark, Occurred, OverAlert
from poolwarden_collector.shell.store.store import Store

EVERY_S = 5.0  # that what was told is noted


def handed_of(tail: PoolTail) -> Handed:
    """What the archive of a new owner takes in."""
    telling = tail.telling
    return Handed(
        tuple(tail.alerts.values()),
        tuple(OverAlert(each.alert, each.text, each.at, each.number) for each in telling.ended),
        tuple(Occurred(each.number, each.at, each.event, each.facts) for each in telling.happened),
        tuple(Mark(each.kind, each.text, each.data, each.actor, each.at) for each in telling.said.values()),
        telling.told.each(),
    )


class ToldMarks:
    """Notes in ``store`` up to where ``journal`` has told all; ``write`` runs a journal call."""

    def __init__(self, store: EtcdStore, journal: Store, write: Callable[..., Awaitable[Any]]) -> None:
        self._store, self._journal, self._write = store, journal, write

    async def note(self, pools: Iterable[PoolId]) -> None:
        """Of each of these pools that has anything new to be noted. Raises JournalError."""
        for pool in pools:
            if self._store.to_tell(pool):
                left: Left = await self._write(self._journal.left_to_tell, pool)
                await self._note(pool, left)

    async def _note(self, pool: PoolId, left: Left) -> None:
        journal = self._store.journal(pool)
        if journal is None:
            return
        before = journal.telling.told
        told = before.later(left.number, left.free, left.channels, hooks=left.hooks)
        if told != before:
            await self._store.mark_told(pool, told)
