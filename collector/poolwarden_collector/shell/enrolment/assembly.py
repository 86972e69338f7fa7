"""Enrolment, put together: the ledger, who is certified, what operators decide, and the server if one is configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.enrolment.authority import Authority
from poolwarden_collector.shell.enrolment.authority_files import COLLECTOR
from poolwarden_collector.shell.enrolment.decisions import Decisions
from poolwarden_collector.shell.enrolment.enrolment import Enrolment
from poolwarden_collector.shell.enrolment.registry import Registry, Surroundings
from poolwarden_collector.shell.enrolment.rows import Rows
from poolwarden_collector.shell.store.journal import Journal

if TYPE_CHECKING:
    from poolwarden_collector.shell.enrolment.server import EnrolmentServer


@dataclass(frozen=True, slots=True)
class Enrolments:
    """Everything of enrolment; ``authority`` and ``server``: None where none is configured."""

    registry: Registry
    enrolment: Enrolment
    decisions: Decisions
    authority: Authority | None = None
    server: EnrolmentServer | None = None

    async def begin(self) -> None:
        """Before the first stream. Raises JournalError."""
        await self.enrolment.begin()

    def serve(self) -> None:
        """Let hosts enrol."""
        if self.server is not None:
            self.server.start()

    async def stop(self) -> None:
        """Hear nothing more, and end what has begun."""
        if self.server is not None:
            await self.server.stop()
        await self.enrolment.stop()


def enrolments(
    config: Config,
    journal: Journal,
    around: Surroundings,
    order_keys: tuple[bytes, ...],
    rows: Rows | None = None,
) -> Enrolments:
    """``order_keys``: the public key that orders are signed with, and this collector's next one where there is one.

    ``rows``: where the ledger is, for one of several collectors (shared_rows.py); None: in the journal.
    """
    registry, settings = Registry(journal, around, config.name, rows), config.enrolment
    authority = Authority(settings.authority, config.tls.ca) if settings is not None else None
    enrolment, decisions = Enrolment(registry, authority), Decisions(registry)
    if settings is None or authority is None:
        return Enrolments(registry, enrolment, decisions)
    # What it stands on is imported where hosts enrol.
    from poolwarden_collector.shell.enrolment.server import EnrolmentServer, Served

    own = settings.authority / COLLECTOR
    served = Served(
        settings.listen,
        own / "cert.pem",
        own / "key.pem",
        settings.agents_at(config.listen),
        tuple(dict.fromkeys((*(each.hex() for each in order_keys), *settings.other_order_keys))),
        settings.other_collectors,
        lambda: registry.others,
    )
    server = EnrolmentServer(served, authority, settings.packages, enrolment.enrol, around.warn)
    return Enrolments(registry, enrolment, decisions, authority, server)
