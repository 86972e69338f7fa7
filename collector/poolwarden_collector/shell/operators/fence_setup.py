"""The answers to ``FindFence`` and ``TryFence``: which devices are at an address, and whether one is a host's."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.fencing import setup
from poolwarden_collector.shell.operators.wrong import Wrong

if TYPE_CHECKING:
    from poolwarden_collector.shell.agents.roster import Roster


class FenceSetup:
    """Answers for one collector, one question at a time: each runs programs."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._setting_up = asyncio.Lock()

    async def find(self, pool: str, host: str, request: pb.FindFenceRequest) -> pb.FindFenceReply:
        """What answers at a host's BMC. Raises Wrong."""
        agent = self._roster.pools[pool].live.agents.get(host)
        address = request.address or (agent.hello.machine.bmc_address if agent is not None else "")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            text = f"{address!r} is no IP address" if address else "its dom0 does not know its BMC's address"
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, f"{text}: give it by --address") from None
        async with self._setting_up:
            found = await setup.look(address)
        items = [
            pb.FoundFence(
                agent=each.agent,
                answers=each.answers,
                installed=setup.installed(each.agent) is not None,
                text=each.text,
                parameters=each.parameters,
            )
            for each in found
        ]
        return pb.FindFenceReply(address=address, found=items)

    async def attempt(self, pool: str, host: str, request: pb.TryFenceRequest) -> pb.TryFenceReply:
        """Whether a proposed fence device is this host's. Raises Wrong."""
        failover = self._roster.pools[pool].record.failover
        if failover is not None and failover.open and failover.old_master == host:
            text = f"failover {failover.id} decides about this host: its BMC is not disturbed now"
            raise Wrong(grpc.StatusCode.FAILED_PRECONDITION, text)
        async with self._setting_up:
            trial = await setup.attempt(
                self._roster.pools[pool], host, request.agent, dict(request.parameters), request.limit_ms
            )
        steps = [pb.TryStep(name=name, good=good, text=text, next_step=step) for name, good, text, step in trial.steps]
        return pb.TryFenceReply(
            good=trial.good, steps=steps, path=trial.path, tells=trial.tells, parameters=trial.parameters
        )
