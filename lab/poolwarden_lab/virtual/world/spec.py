"""What a world is made of: pools with their hosts, VMs, policy and fence devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.machine import FEEDS
from poolwarden_lab.xapi.trees import VmSpec

QUIET_MS = 3_000
BMC, PDU = "bmc", "pdu"
LEVELS = {BMC: 1, PDU: 2}


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool. Its hosts are h1.. (h1 is the master at first), or ``name/h1``.. where there are several pools.

    devices: which kinds each host has: ``bmc`` (level 1) and ``pdu`` (level 2: one outlet per feed). policy: None is
    the default with a short quiet time. absent: hosts (h2 ..) without an agent. products: versions by host.
    """

    name: str = "lab"
    hosts: int = 3
    vms: Sequence[VmSpec] = ()
    policy: Policy | None = None
    site: str = ""
    devices: Sequence[str] = (BMC,)
    ha_armed: bool = False
    absent: Sequence[str] = ()
    gated: bool = True  # its agents have a boot gate
    full_stops: bool = False  # its xapis stop and start as slowly as real ones where they hang or cannot flush
    hard_limit_ms: int = 40_000  # of its fence devices' runs
    https_only: Sequence[str] = ()  # hosts whose firewall drops TCP 80 from other hosts
    guidances: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what updates still need: h2 -> reboot_host
    mute: Sequence[str] = ()  # hosts whose BMC does not tell which machine it switches
    enclosures: Sequence[Sequence[str]] = ()  # hosts that share their PDU outlets
    managers: Sequence[Sequence[str]] = ()  # hosts whose BMC is one and the same chassis manager
    failed: Mapping[str, Sequence[str]] = field(default_factory=dict)  # assumptions that failed: h2 -> ids
    runners: Sequence[str] | None = None  # members that run its fence agents (h1 ..); None: the collector does

    @property
    def rules(self) -> Policy:
        """The pool's policy, its site in it."""
        policy = self.policy or Policy(quiet_time=QUIET_MS)
        return replace(policy, site=self.site) if self.site else policy

    def device_names(self, host: str) -> list[tuple[str, int, str]]:
        """Name, level and feed (empty for a BMC) of each of this host's devices."""
        found = [(f"bmc-{host}", LEVELS[BMC], "")] if BMC in self.devices else []
        if PDU in self.devices:
            found += [(f"pdu-{feed}-{host}", LEVELS[PDU], feed) for feed in FEEDS]
        return found
