"""Faults of collectors: killed, standing still, suspended, a full disk, a journal from a backup, a second instance."""

from __future__ import annotations

from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Ledger
from poolwarden_lab.virtual.collector.points import Saboteur, nobody
from poolwarden_lab.virtual.collector.shell import SimShell
from poolwarden_lab.virtual.collector.station import Station
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings
from poolwarden_lab.virtual.world.ground import Ground, HostName
from poolwarden_lab.virtual.world.network import COLLECTOR

RETRY_START_MS = 5_000


class CollectorFaults(Ground):
    """What befalls the collectors' processes and disks. The node of the first one is ``collector``."""

    settings: Settings
    counters: Counters
    kills_of_collector: int

    @property
    def station(self) -> Station:
        """The first collector's machine."""
        return next(iter(self.stations.values()))

    @property
    def shell(self) -> SimCollector | None:
        return self.station.shell

    @property
    def ledger(self) -> Ledger:
        return self.station.ledger

    @property
    def saboteur(self) -> Saboteur:
        return self.station.saboteur

    @saboteur.setter
    def saboteur(self, saboteur: Saboteur) -> None:
        self.station.saboteur = saboteur

    @property
    def restart_after_ms(self) -> int | None:
        return self.station.restart_after_ms

    @restart_after_ms.setter
    def restart_after_ms(self, ms: int | None) -> None:
        self.station.restart_after_ms = ms

    def start_collector(self, node: str = COLLECTOR) -> None:
        """A new process on the disk as it is. With a full disk it dies at once, and is started again."""
        station = self.stations[node]
        try:
            shell = self.new_process(station)
        except OSError:
            self.later(RETRY_START_MS, lambda: None if station.runs else self.start_collector(node))
            return
        shell.anchors = station.anchors
        station.shell = shell
        shell.start()

    def new_process(self, station: Station) -> SimCollector:
        """A collector's process on that machine, not started yet. Raises OSError: the disk is full."""
        settings, counters = self.settings, self.counters
        return SimShell(self.surroundings(), station.ledger, settings, counters, station.saboteur, station.node)

    def surroundings(self) -> Surroundings:
        raise NotImplementedError

    def kill_collector(self, restart_after_ms: int | None = None, node: str = COLLECTOR) -> None:
        """SIGKILL now; None: it stays away."""
        station = self.stations[node]
        station.restart_after_ms = restart_after_ms
        if station.shell is not None:
            station.shell.die()

    def freeze_collector(self, node: str = COLLECTOR) -> None:
        """SIGSTOP: it takes nothing, and answers no ping."""
        shell = self.stations[node].shell
        if shell is not None and shell.alive:
            shell.freeze()
            self.watch(node)

    def thaw_collector(self, node: str = COLLECTOR) -> None:
        shell = self.stations[node].shell
        if shell is not None and shell.alive and shell.frozen:
            shell.thaw()

    def reload_collector(self, settings: Settings, node: str = COLLECTOR) -> None:
        """Its file is this one now, for a process that starts later, too; the one that runs is told (SIGHUP)."""
        self.settings = settings
        shell = self.stations[node].shell
        if shell is not None and shell.alive:
            shell.reload(settings)

    def collector_gap(self, ms: int, node: str = COLLECTOR) -> None:
        """Its machine is suspended for so long: nothing runs there, then time has jumped."""
        self.freeze_collector(node)
        self.later(ms, lambda: self.thaw_collector(node))

    def collector_disk_full(self, full: bool = True, node: str = COLLECTOR) -> None:
        """Nothing can be made durable."""
        self.stations[node].ledger.full = full

    def collector_disk_slow(self, ms: int = 0, node: str = COLLECTOR) -> None:
        """Everything takes so long to be durable, from the next transaction on."""
        self.stations[node].ledger.slow_ms = ms

    # ------------------------------------------------------------------------------------------ the journal

    def lose_journal(self, node: str = COLLECTOR) -> None:
        """The collector's disk is replaced by an empty one (kill it first)."""
        ledger = self.stations[node].ledger
        ledger.epoch = 0
        ledger.commits.clear()
        ledger.outbox.clear()
        self._opinions_anew(node)

    def snapshot_journal(self, node: str = COLLECTOR) -> int:
        """A backup is taken; its number."""
        return self.stations[node].ledger.snapshot()

    def restore_journal(self, number: int = -1, node: str = COLLECTOR) -> None:
        """The journal is that of a backup (kill the collector first)."""
        self.stations[node].ledger.restore(number)
        self._opinions_anew(node)

    def lose_last_commit(self, node: str = COLLECTOR) -> None:
        """The last transaction turns out not to have reached the disk (kill the collector first)."""
        self.stations[node].ledger.lose_last()
        self._opinions_anew(node)

    def _opinions_anew(self, node: str) -> None:
        for pool in self.pools.values():
            pool.invariants.journal_changed(node)

    # ------------------------------------------------------------------------------------------ another one

    def second_collector(self, copied: bool = True, hosts: list[HostName] | None = None, start: bool = True) -> str:
        """Another instance, by mistake: with a copy of the first one's journal, or none. Its node's name.

        hosts: whose agents attach to it from now on (all unless said).
        """
        node = f"{COLLECTOR}-{len(self.stations) + 1}"
        ledger = self.ledger.copy() if copied else Ledger()
        self.stations[node] = Station(node, ledger, saboteur=nobody, anchors=self.station.anchors)
        self._opinions_anew(node)
        for host in hosts if hosts is not None else self.hosts():
            self.attach(host, node)
        if start:
            self.start_collector(node)
        return node

    def attach(self, host: HostName, node: str = COLLECTOR) -> None:
        """This host's agent is to dial that collector."""
        place = self.find(host)
        place.pool.collector_of[place.name] = node
        place.pool.agents[place.name].move()
