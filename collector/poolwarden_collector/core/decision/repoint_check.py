"""May a host whose VMs were in no forecast be pointed at the master now? Else a person is asked, once per reason."""

from __future__ import annotations

from poolwarden_collector.core.decision.database_contents import WAITING, at_stake, killing
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.transaction import Draft


def repoint_refusal(d: Draft, host: HostId) -> Reason | None:
    """Why this host, whose VMs were in no forecast, must not be pointed at the master now; None if it may."""
    kills = at_stake(d, host)
    if kills is None or isinstance(kills, Reason):
        return WAITING if kills is None else kills
    names = ", ".join(f"{kill.name} ({kill.why})" for kill in kills)
    return killing(kills, f"its xapi would kill {len(kills)} running VMs there: {names}") if kills else None


def may_be_pointed(d: Draft, host: HostId) -> bool:
    """A host whose VMs were in no forecast: is any of them at stake? Then a person is asked, once per reason."""
    why = repoint_refusal(d, host)
    prefix = f"{d.record.pool}/repoint-{host}/"
    key = f"repoint-{host}/{why.key if why else ''}"
    for old in d.open_alerts:
        if old.startswith(prefix) and (not why or old != f"{d.record.pool}/{key}"):
            d.resolve_alert(old, "the reason is gone" if not why else "the reason has changed")
    if why is not None and why != WAITING:
        pool, name = d.record.name or d.record.pool, d.name(host)
        d.raise_alert(key, "critical", f"{pool}: {name} is not repointed to the new master", f"{name}: {why}")
    return why is None
