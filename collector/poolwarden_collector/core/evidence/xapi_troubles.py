"""Why the xapi of a host does not start, as its agent read it in the logs: for alerts, status and explain.

Rules
-----
* For people alone. An agent's word on a cause ends no doubt and begins nothing: what is done about a xapi that is down
  follows from its liveness, as ever.
* The command that helps is told with this host's and this pool's name in it.
"""

from __future__ import annotations

import re

from poolwarden.typed_names import typed
from poolwarden.xapi_causes import UNKNOWN
from poolwarden_collector.core.evidence.storage_stalls import cause_of
from poolwarden_collector.core.model.host_facts import Liveness, XapiTrouble
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.snapshot import Snapshot

_PLACE = re.compile(r"\b(?:HOST|POOL)\b")


def trouble_of(pool: Snapshot, host: HostId) -> XapiTrouble | None:
    """Why this host's xapi is not up, as far as its agent says so now; None: it is up, held, silent, or not known."""
    agent = pool.live.agents.get(host)
    if agent is None or agent.facts.trouble is None:
        return None  # nearly always
    heard = pool.heard(host)
    kept_back = host in pool.live.gates.waiting or (heard is not None and heard.facts.hold is not None)
    if heard is None or kept_back or heard.facts.xapi.liveness is Liveness.ANSWERS:
        return None
    return heard.facts.trouble


def help_of(pool: Snapshot, host: HostId, trouble: XapiTrouble) -> str:
    """The command that helps, as it is typed."""
    return with_names(pool, host, trouble.help)


def with_names(pool: Snapshot, host: HostId, text: str) -> str:
    """A text of the agents' tables with this host's and its pool's names, as they are typed."""
    as_typed = {"HOST": typed(pool.name(host), host), "POOL": typed(pool.record.display_name, pool.record.pool)}
    return _PLACE.sub(lambda found: as_typed[found.group()], text)


def known_cause(pool: Snapshot, host: HostId) -> str:
    """The cause for which this host's xapi does not start, to be put behind a sentence; empty: none is known."""
    trouble = trouble_of(pool, host) if host else None
    return f"; xapi does not start: {trouble.sentence}" if trouble is not None and trouble.cause != UNKNOWN else ""


def why(pool: Snapshot, host: HostId) -> str:
    """The same, or the storage for which it hangs, with how long that lasts."""
    stalled = cause_of(pool, host) if host else ""
    return known_cause(pool, host) or (f"; {stalled}" if stalled else "")


def explained(pool: Snapshot) -> tuple[str, ...]:
    """A sentence for each host whose xapi is not up and whose agent has read why, the master first."""
    hosts = sorted(pool.record.hosts, key=lambda host: (host != pool.record.master, pool.name(host)))
    found = [(host, trouble) for host in hosts if (trouble := trouble_of(pool, host)) is not None]
    return tuple(
        f"xapi of {pool.name(host)} does not start: {trouble.sentence}; helps: {help_of(pool, host, trouble)}"
        for host, trouble in found
    )
