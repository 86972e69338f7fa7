"""Faults of fence devices. A device goes by its name: ``bmc-h1``, ``pdu-a-h1``, ``bmc-A/h1``."""

from __future__ import annotations

from poolwarden_lab.virtual.world.bmc import BmcMode, SimBmc
from poolwarden_lab.virtual.world.ground import Ground, HostName, NoSuchThing
from poolwarden_lab.virtual.world.spec import BMC


class FenceFaults(Ground):
    """What is wrong with BMCs and PDUs."""

    def bmc(self, device: HostName) -> SimBmc:
        """A device by its name; for a number or a host, that host's BMC. Raises NoSuchThing."""
        name = device if isinstance(device, str) else f"bmc-{self.find(device).name}"
        for pool in self.pools.values():
            for known in (name, f"bmc-{name}"):
                if known in pool.bmcs:
                    return pool.bmcs[known]
        raise NoSuchThing(f"there is no fence device {device}")

    def set_bmc(self, device: HostName, mode: BmcMode | str, ms: int = 0, other: HostName | None = None) -> None:
        """How a device behaves from now on. ms: how slow (slow); other: whose machine it is wired to (wrong-host)."""
        bmc = self.bmc(device)
        bmc.mode = BmcMode(mode)
        bmc.slow_ms = ms
        bmc.other = self.bmc(self._twin(bmc.device, other)) if other is not None else None

    def _twin(self, device: str, host: HostName) -> str:
        """The device of the same kind and feed at another host: an outlet stands for an outlet."""
        kind, name = device.split("-")[0], self.find(host).name
        return f"bmc-{name}" if kind == BMC else f"{kind}-{device.split('-')[1]}-{name}"

    def shots(self) -> list[str]:
        """Devices that were asked to switch off, in the order of the devices."""
        return [device for pool in self.pools.values() for device in pool.shots()]
