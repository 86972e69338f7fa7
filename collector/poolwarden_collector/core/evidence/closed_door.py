"""A master whose xapi answers on its own host and refuses everybody else: its listener is lost, not the network.

Theory
------
Where ``host.management_disable`` was called, or the management interface is gone from the inventory, xapi listens on
127.0.0.1 alone (xapi: ocaml/xapi/xapi_mgmt_iface.ml, next_server_mode), and stunnel in front of it may have ended by
itself. A refused connection says that the host's network is well: nothing between them is cut.

Rules
-----
* It is told, with what mends it; nobody is promoted for it, and a toolstack fence is not begun: its ports were refused
  before it, so nobody could see them close (proof.py).
* It is not known, and nothing of this is said, while any fresh probe ended otherwise: filtered is not refused. Hosts
  with ``https_only`` refuse port 80 alone; the probes go to port 443. A host that is held by a toolstack fence has its
  ports closed by that.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.evidence.signs import foreign, fresh_probe, twice_unanswered
from poolwarden_collector.core.model.host_facts import HostEnvironment, Liveness, ProbeOutcome
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.snapshot import Snapshot

STUNNEL = "stunnel@xapi.service"


@dataclass(frozen=True, slots=True)
class ClosedDoor:
    """Why nobody is let in, one clause, and what a person does about it."""

    why: str
    fix: str


def closed_door(pool: Snapshot, master: HostId) -> ClosedDoor | None:
    """What is known of a master that refuses everybody while it answers on its own host; None: that is not so."""
    agent = pool.heard(master) if master else None
    if agent is None or agent.facts.hold is not None or agent.facts.xapi.liveness is not Liveness.ANSWERS:
        return None
    probes = [
        probe
        for host in pool.live.agents
        if host != master and (probe := fresh_probe(pool, host, master)) is not None and not foreign(pool, host, probe)
    ]
    refused = all(probe.outcome is ProbeOutcome.REFUSED and twice_unanswered(probe) for probe in probes)
    return _named(pool.name(master), master, agent.facts.around) if probes and refused else None


def _named(name: str, host: HostId, around: HostEnvironment) -> ClosedDoor:
    xsconsole = (
        f"on the console of {name}: xsconsole, Network and Management Interface; or xe pif-list host-uuid={host}, then "
        "xe host-management-reconfigure with the pif-uuid"
    )
    told = bool(around.services or around.nics)
    if told and not around.management_interface:
        return ClosedDoor("its management interface is disabled: the inventory names none", xsconsole)
    if dict(around.services).get(STUNNEL) == "inactive":
        restart = f"on {name}: systemctl restart stunnel@xapi; xe-toolstack-restart, if it does not stay"
        return ClosedDoor("stunnel, which takes its connections on port 443, does not run", restart)
    return ClosedDoor("its port 443 is closed to others, and its network answers", xsconsole)
