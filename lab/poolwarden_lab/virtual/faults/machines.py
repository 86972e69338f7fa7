"""Faults of hosts: power and feeds, kernels that stand still, reboots and shutdowns, clones, addresses."""

from __future__ import annotations

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_lab.virtual.world.ground import Ground, HostName, NoSuchThing, Place
from poolwarden_lab.virtual.world.machine import FEEDS

SHUTDOWN_MS = 5_000  # from the last word of the agent until the board switches off


class HostFaults(Ground):
    """What befalls whole hosts."""

    def power_off(self, host: HostName) -> None:
        """The board is switched off, as if somebody held its button: nothing is flushed, nobody is told."""
        place = self.find(host)
        place.pool.machine(place.name).board = False
        place.pool.settle_power(place.name)

    def power_on(self, host: HostName) -> None:
        """Switched on, with its PSUs and outlets in order."""
        place = self.find(host)
        machine = place.pool.machine(place.name)
        machine.board = machine.autostart = True
        for feed in FEEDS:
            machine.psus[feed] = machine.outlets[feed] = True
        place.pool.settle_outlets(place.name)

    def lose_psu(self, host: HostName, feed: str = "a") -> None:
        """One of two PSUs dies; its PDU's outlet still reads ON. With both gone the BMC is gone too."""
        place = self.find(host)
        place.pool.machine(place.name).psus[_feed(feed)] = False
        self.happened("power", f"{place.name} loses PSU {feed}")
        place.pool.settle_power(place.name)

    def restore_psu(self, host: HostName, feed: str = "a") -> None:
        place = self.find(host)
        place.pool.machine(place.name).psus[_feed(feed)] = True
        self.happened("power", f"PSU {feed} of {place.name} is whole again")
        place.pool.settle_power(place.name)

    def lose_feed(self, host: HostName, feed: str = "a") -> None:
        """A PDU's outlet is switched off, by somebody in the rack."""
        place = self.find(host)
        place.pool.machine(place.name).outlets[_feed(feed)] = False
        self.happened("power", f"outlet {feed} of {place.name} is off")
        place.pool.settle_outlets(place.name)

    def power_loss_with_bmc(self, host: HostName) -> None:
        """Both PSUs at once (a shared one): the host stops and its BMC with it; outlets go on reading ON."""
        for feed in FEEDS:
            self.lose_psu(host, feed)

    def stall(self, host: HostName, ms: int) -> None:
        """dom0 stands still (a D state) and recovers by itself: its VMs and its power do not notice."""
        self.freeze(host)
        self.later(ms, lambda: self.thaw(host))

    def freeze(self, host: HostName) -> None:
        """SIGSTOP of xapi and agent."""
        place = self.find(host)
        place.pool.pool.freeze(place.name)
        self.watch(place.name)

    def thaw(self, host: HostName) -> None:
        """It goes on; no kernel that hangs does."""
        place = self.find(host)
        if place.pool.pool.hosts[place.name].frozen and not place.pool.machine(place.name).hung:
            place.pool.pool.thaw(place.name)
            place.pool.agents[place.name].thawed()

    def kernel_hang(self, host: HostName) -> None:
        """The kernel of dom0 stands still for ever: only a power cycle helps. Its NIC still answers pings."""
        place = self.find(host)
        place.pool.machine(place.name).hung = True
        self.happened("power", f"the kernel of {place.name} hangs")
        self.freeze(host)

    def oom(self, host: HostName) -> None:
        """dom0 has no memory left: its kernel kills xapi and the agent; systemd starts both again."""
        place = self.find(host)
        self.happened("power", f"{place.name} is out of memory")
        place.pool.pool.kill_xapi(place.name)
        place.pool.agents[place.name].crash()

    def reboot(self, host: HostName, clean: bool = True) -> None:
        """The board stays on. Clean: the agent says why it goes, xapi flushes; else a reset.

        Raises NoSuchThing where it has no power: a reset button does nothing then.
        """
        place = self.find(host)
        self._powered(place)
        self.happened("power", f"{place.name} reboots{'' if clean else ' by a reset'}")
        if clean:
            self._leave(host, pb.Goodbye.HOST_REBOOT)
        place.pool.unplugged(place.name)
        place.pool.boot(place.name)

    def shutdown(self, host: HostName) -> None:
        """An orderly shutdown: the agent says so, xapi flushes, then the board switches off."""
        place = self.find(host)
        self._leave(host, pb.Goodbye.HOST_SHUTDOWN)
        boot = place.pool.pool.hosts[place.name].boot

        def off() -> None:
            if place.pool.pool.hosts[place.name].boot == boot:
                self.power_off(host)

        self.later(SHUTDOWN_MS, off)

    def _leave(self, host: HostName, reason: pb.Goodbye.Reason.ValueType) -> None:
        place = self.find(host)
        self._powered(place)
        place.pool.agents[place.name].say_goodbye(reason)
        place.pool.pool.stop_xapi(place.name)

    @staticmethod
    def _powered(place: Place) -> None:
        if not place.pool.pool.hosts[place.name].power:
            raise NoSuchThing(f"{place.name} has no power")

    def slow_boot(self, host: HostName, ms: int) -> None:
        """From now on this host needs so long from its power-on to the start of xapi."""
        place = self.find(host)
        place.pool.machine(place.name).boot_ms = ms

    def clone_uuid(self, host: HostName, of: HostName) -> None:
        """The host was installed from a copy of another one's disk: its agent says that it is that one."""
        place, source = self.find(host), self.find(of)
        agent = place.pool.agents[place.name]
        agent.claims_host = source.uuid
        agent.claims_pool = source.pool.uuid
        self.happened("host", f"{place.name} is a clone of {source.name}")
        agent.crash()

    def no_clone(self, host: HostName) -> None:
        """It was given an identity of its own again."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.claims_host = agent.claims_pool = ""
        agent.crash()

    def change_address(self, host: HostName, address: str) -> None:
        """Its management interface gets another address: its connections end, its xapi starts anew."""
        place = self.find(host)
        place.pool.pool.hosts[place.name].address = address
        self.happened("host", f"{place.name} has the address {address}")
        place.pool.agents[place.name].move()
        if place.pool.pool.hosts[place.name].power:
            place.pool.pool.restart_xapi(place.name)


def _feed(feed: str) -> str:
    if feed not in FEEDS:
        raise NoSuchThing(f"a host has the feeds {' and '.join(FEEDS)}, not {feed}")
    return feed
