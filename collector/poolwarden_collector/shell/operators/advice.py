"""What is answered to a request for advice: about a host, or about a pool's VMs."""

from __future__ import annotations

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.report.advise import advise_vms
from poolwarden_collector.core.report.rebuild_advice import advise_rebuild
from poolwarden_collector.core.report.role_advice import advise_role
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.operators import replies
from poolwarden_collector.shell.operators.names import Names
from poolwarden_collector.shell.operators.pool_views import PoolViews


def advised(request: pb.AdviseRequest, names: Names, roster: Roster, views: PoolViews) -> pb.AdviseReply:
    """Raises Unknown or Ambiguous for a name that is no host's or pool's, and what its granting raises."""
    uuid, host = names.host(request.host) if request.host else (names.pool(request.pool), "")
    at: Ms = roster.shown_at()
    snapshot = Snapshot(roster.pools[uuid], at, views.site(uuid))
    if not host:
        found = advise_vms(snapshot)
    else:
        found = advise_role(snapshot, host) if request.as_master else advise_rebuild(snapshot, host)
    return replies.advice(roster.pools[uuid], host, found)
