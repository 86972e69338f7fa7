"""The sections of a report: what each is made of, and how it is made.

What a section is made of is compared before it is made: a report each two seconds for years is to cost little. Who was
told what is the matter of each conversation (conversation.py); which shape the contract gives it that of messages/.
"""

import functools
from typing import Any, Callable, List, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.host.assumptions import Assumptions
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host.observer import OWN_MASTER, Observer
from poolwarden_agent.host_port import HostPort
from poolwarden_agent.messages import assumptions, disks, installation, reports, storage, surroundings

Section = Tuple[str, Any, Callable[[], Any]]  # its name in a report, what it is made of, how it is made


class Sections(object):
    """The sections of one host's reports, the same for each collector."""

    def __init__(self, port: HostPort, keeper: Keeper, observer: Observer, boot: BootGate, known: Assumptions) -> None:
        self._port = port
        self._assumptions = known
        self._keeper = keeper
        self._observer = observer
        self._boot = boot

    def all(self) -> List[Section]:
        """Every section that this host has at this instant."""
        host, seen, view = self._observer.host, self._observer.seen, self._observer.view
        identity, state, around = self._port.identity(), self._keeper.state, self._observer.around
        orphaned = self._observer.orphaned()
        watches = tuple(w for target, w in sorted(self._observer.watches.items()) if target != OWN_MASTER)
        guard, memory = self._observer.guard, self._observer.memory()
        running = seen.running, seen.running_master, seen.serves
        sections = [
            ("role", (host.role, host.master, running), lambda: reports.role(host.role, host.master, seen)),
            ("xapi", (seen._replace(at_ms=0), orphaned), lambda: reports.xapi(seen, *orphaned)),
            ("database", host._replace(at_ms=0, memory=(0, 0), disks=[]), lambda: reports.database(host)),
            (
                "disks",
                (host.disks, guard.standings, guard.result),
                lambda: disks.disks(host.disks, guard.standings, guard.result),
            ),
            ("memory", (host.memory, around, *memory), lambda: reports.memory(host.memory, around, *memory)),
            ("domains", host.domains, lambda: reports.domains(host.domains)),
            ("probes", watches, lambda: pb.ProbeList(probes=[reports.probe(w) for w in watches])),
            ("tombstone", state.tombstone, lambda: reports.tombstone(state.tombstone)),
            ("xapi_trouble", self._observer.trouble.known, lambda: reports.trouble(self._observer.trouble.known)),
            ("software", (identity, around), lambda: reports.software(identity, around)),
            ("machine", identity, lambda: reports.machine(identity)),
        ]  # type: List[Section]
        if around is not None:
            for name, make in surroundings.SECTIONS:
                sections.append((name, (around, host.address), functools.partial(make, around, host.address)))
            known = around.adapters, self._observer.records
            sections.append(("installation", known, functools.partial(installation.installation, *known)))
        if not self._keeper.storage:  # what cannot be read is not "not held"
            sections.append(("hold", (state.hold, state.gc, host.toolstack, identity.boot_id), self.hold))
        if self._boot.there:
            sections.append(("boot_gate", self._boot.told(), self._boot.facts))
        if self._assumptions.results:
            results = self._assumptions.results
            sections.append(("assumptions", results, lambda: assumptions.assumptions(results)))
        hangs = self._observer.storage
        if hangs is not None or view is not None:
            told = view.storage if view is not None else ()
            made_of = told, hangs and (hangs.stalled, hangs.errors)
            sections.append(("storage", made_of, lambda: storage.storage(told, hangs)))
        if view is not None:
            sections.append(("pool_view", view, lambda: reports.pool_view(view)))
        return sections

    def hold(self) -> pb.HoldFacts:
        """The hold as a report and the Hello tell it."""
        facts = reports.hold(self._keeper.state.hold, self._observer.host.toolstack, self._port.identity().boot_id)
        facts.gc_term = self._keeper.state.gc
        return facts

    def tell_freshness(self, freshness: pb.Freshness) -> None:
        """When each kind of fact was last looked at, by this host's monotonic clock."""
        observer = self._observer
        freshness.host_mono_ms = observer.host.at_ms
        freshness.xapi_mono_ms = observer.seen.at_ms
        freshness.probes_mono_ms = observer.probes_at_ms
        freshness.pool_view_mono_ms = observer.view_at_ms if observer.view is not None else 0
