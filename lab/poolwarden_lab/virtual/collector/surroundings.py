"""What a simulated collector process finds around it: the world, its configuration, the counters of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.config.config import Config, PoolSettings, Tls
from poolwarden_lab.virtual.collector.ledger import Commit
from poolwarden_lab.virtual.world.bmc import SimBmc

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.collector import SimCollector


class Surroundings(Protocol):
    """What a collector process finds around it."""

    @property
    def now(self) -> int: ...
    def at(self, ms: int, act: Callable[[], None]) -> None: ...
    def lot(self) -> int: ...
    def bmc(self, device: str) -> SimBmc: ...
    def reaches(self, shell: SimCollector, node: str) -> bool: ...
    def probe(self, shell: SimCollector, pool: PoolId, address: str, timeout_ms: int) -> ProbeOutcome: ...
    def performed(self, shell: SimCollector, pool: PoolId, effect: effects.Effect) -> None: ...
    def committed(self, shell: SimCollector, commit: Commit) -> None: ...
    def switch_begun(self, shell: SimCollector, pool: PoolId, run: str) -> None: ...
    def power_goes(self, pool: PoolId, epoch: int) -> None: ...
    def heard(self, shell: SimCollector, host: HostId, sent_at: int) -> None: ...
    def collector_killed(self, shell: SimCollector) -> None: ...
    def step_broke(self, shell: SimCollector, pool: PoolId, error: Exception) -> None: ...


@dataclass
class Counters:
    """Points reached by all collectors of one run."""

    commits: int = 0
    effects: int = 0
    awaits: int = 0  # of several collectors: between any two callbacks of their event loops


@dataclass
class Settings:
    """What a configuration file would say. ``policy`` is for pools without one of their own."""

    policy: Policy
    devices: dict[HostId, tuple[FenceDevice, ...]] = field(default_factory=dict)
    name: str = "collector"
    pools: dict[PoolId, Policy] = field(default_factory=dict)
    fence_slots: int = 0  # fence agents that run at once, in production's own order; 0: as many as are asked for

    def config(self) -> Config:
        """The same as production reads it from a file."""
        nowhere = Path("/nonexistent")
        pools = {uuid: PoolSettings(uuid, policy) for uuid, policy in self.pools.items()}
        tls = Tls(nowhere, nowhere, nowhere)
        return Config(nowhere, self.name, "", nowhere, nowhere, tls, policy=self.policy, pools=pools)
