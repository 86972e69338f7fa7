"""What a collector is put together from; main.py does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from poolwarden_collector.shell.agents.capsules import CapsuleIntake
from poolwarden_collector.shell.agents.gateway import Gateway
from poolwarden_collector.shell.agents.pool_messages import PoolMessages
from poolwarden_collector.shell.alerts.diskless import Diskless
from poolwarden_collector.shell.alerts.heartbeat import Heartbeat
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.enrolment.assembly import Enrolments
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.hooks.hooks import Hooks
from poolwarden_collector.shell.loop.journal_upkeep import JournalUpkeep
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.loop.service import Service
from poolwarden_collector.shell.operators.api import OperatorApi
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.reload import Reloader
from poolwarden_collector.shell.several import Several
from poolwarden_collector.shell.store.journal import Journal
from poolwarden_collector.shell.store.telemetry import Telemetry

if TYPE_CHECKING:
    from poolwarden_collector.shell.metrics.exporter import Exporter
    from poolwarden_collector.shell.page.server import PageServer


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole collector, put together and not begun."""

    service: Service
    inbox: Inbox
    journal: Journal
    gateway: Gateway
    fencer: Fencer
    prober: Prober
    outbox: Outbox
    diskless: Diskless
    heartbeat: Heartbeat
    hooks: Hooks
    telemetry: Telemetry
    upkeep: JournalUpkeep
    operators: OperatorApi
    messages: PoolMessages
    enrolments: Enrolments
    reloader: Reloader
    capsules: CapsuleIntake
    metrics: Exporter | None = None  # None: they are off
    page: PageServer | None = None  # None: it is off
    several: Several | None = None  # None: this collector is alone
