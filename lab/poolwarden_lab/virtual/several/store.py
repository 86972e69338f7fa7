"""Production's store in etcd (shell/cluster/etcd_store.py), with the points at which its process can be killed.

Before a step is sent it is lost with the process. After it is durable nothing of it is done. Between these
etcd has it, and this process does not know that yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.cluster.commits import Deposed, Durable, NotDone, Outcome
from poolwarden_collector.shell.cluster.etcd import Etcd
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.cluster.names import Names

AtCommit = Callable[[str, str], None]  # before or after, and the kinds of its entries


def names_of(entries: Iterable[Entry]) -> str:
    """The kinds of a step, as points name them."""
    return ", ".join(entry.kind.value for entry in entries)


class PointedStore(EtcdStore):
    """See the module's words."""

    def __init__(self, etcd: Etcd, names: Names, now: Callable[[], int], at_commit: AtCommit) -> None:
        super().__init__(etcd, names, now)
        self._at_commit = at_commit

    def begin(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[AlertRaised | AlertResolved],
        occasions: Iterable[Occasion] = (),
    ) -> bool | Deposed | NotDone:
        entries = tuple(entries)
        begun = super().begin(pool, entries, alerts, occasions)
        if begun is True:
            self._at_commit("before", names_of(entries))
        return begun

    async def attempt(self, pool: PoolId) -> Outcome:
        journal = self.journal(pool)
        commit = journal.open if journal is not None else None
        outcome = await super().attempt(pool)
        if isinstance(outcome, Durable) and commit is not None:
            self._at_commit("after", names_of(commit.entries))
        return outcome
