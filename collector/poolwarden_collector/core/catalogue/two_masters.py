"""Which alerts say that two hosts may be master at once, or that two collectors may order the same hosts.

They are told whatever was asked for: nobody can silence one of them, for each minute of it may cost a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolwarden_collector.core.catalogue import failovers, hosts
from poolwarden_collector.core.catalogue.verdicts import BY_WORD

_VERDICTS = frozenset({"TwoMasters", "IdentityConflict", "EvidenceConflict", "FenceDisputed"})
MESSAGES = frozenset(
    {
        *(BY_WORD[verdict].id for verdict in _VERDICTS),
        hosts.GATE_DARK.id,
        hosts.OLD_MASTER_RUNS.id,
        hosts.STALE_EPOCH.id,
        hosts.FENCE_DEVICE_QUARANTINED.id,
        failovers.GAVE_UP_THE_ROLE.id,
    }
)


def about_two_masters(data: Mapping[str, Any]) -> bool:
    """Is an alert with these facts one of them? Alerts of earlier releases name their verdict only."""
    return data.get("message") in MESSAGES or data.get("verdict") in _VERDICTS
