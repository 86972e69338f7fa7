"""The configured devices are those of all pools: one serves where its host's own agent has spoken, nowhere else."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, Host, address, uuid

from poolwarden_collector.core.model.effects import PowerOff, PowerOn, ReadPower
from poolwarden_collector.core.model.events import GateAsked
from poolwarden_collector.core.model.host_facts import HostFacts, PoolHost
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import Role


class Listing(Guarded):
    """Its master lists host 9 of another customer, whose device is configured."""

    def __init__(self) -> None:
        self.other = Host(9, False)
        super().__init__(2)
        device = FenceDevice("bmc-9", uuid(9), via_members=True, agent="fence_ipmilan")
        self.pool = replace(self.pool, devices={**self.pool.devices, uuid(9): (device,)})

    def facts(self, host: Host) -> HostFacts:
        told = super().facts(host)
        if told.pool_view is None:
            return told
        stolen = PoolHost(uuid(9), "web-1", address(9), enabled=True, live=True)
        return replace(told, pool_view=replace(told.pool_view, hosts=(*told.pool_view.hosts, stolen)))

    def switched(self) -> list[object]:
        kinds = (ReadPower, PowerOff, PowerOn)
        return [each for each in self.effects if isinstance(each, kinds) and each.host == uuid(9)]


def test_no_master_gets_at_the_device_of_a_host_that_it_merely_lists() -> None:
    g = Listing()
    g.connect(g.host(2), fence_agents=frozenset({"fence_ipmilan"}))  # it would be told that device's password
    g.run(10_000)
    assert uuid(9) in g.pool.record.hosts
    for verb in ("fence-off", "fence-on", "fence-test"):
        reply = g.say(verb, 9, typed_name="web-1", force="yes")
        assert reply is not None and (reply.accepted, reply.code) == (False, "no-device"), verb
    g.auto_answer = False
    g.feed(GateAsked(uuid(2), g.host(2).stream, g.host(2).boot, Role.MEMBER, address(1)))
    g.cut_power(1)
    g.run(30_000)
    assert g.switched() == []


def test_its_device_is_read_once_its_own_agent_has_spoken_here() -> None:
    g = Listing()
    g.connect(g.host(2), fence_agents=frozenset({"fence_ipmilan"}))
    g.run(4_000)
    g.hosts.append(g.other)
    g.connect(g.other)
    g.run(10_000)
    assert g.switched()
