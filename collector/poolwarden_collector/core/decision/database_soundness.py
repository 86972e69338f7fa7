"""Is the database that a host's xapi would load one that no xapi starts with, as its agent has read it?

Rules
-----
* Only an agent that has read the whole file says so (agent: core/soundness.py); what it has not read is not known, and
  nothing is held against that.
* Such a file is handed to nobody, and no master is restarted with it. A member with such a copy is promoted neither by
  itself nor while another copy is sound: its xapi would not come up, and its promotion cannot be taken back.
"""

from __future__ import annotations

from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.state.snapshot import Snapshot


def unsound_reason(pool: Snapshot, host: HostId) -> Reason | None:
    """What is wrong with the database of this heard host, with the file's name; None: nothing that is known."""
    agent = pool.heard(host)
    if agent is None or agent.facts.database.sound is not Tri.NO:
        return None
    said = agent.facts.database
    why = f"/{said.loaded_from} of {pool.name(host)}: {said.unsound_text or 'xapi cannot load it'}"
    return Reason(Cause.UNSOUND, why, (host,))
