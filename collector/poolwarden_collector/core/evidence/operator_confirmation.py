"""A person's word that a silent host is off, as it stands now (fenced_hosts.py: what it is for, and what ends it)."""

from __future__ import annotations

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.pool_record import Confirmed
from poolwarden_collector.core.state.snapshot import Snapshot


def confirmed(pool: Snapshot, host: HostId) -> Confirmed | None:
    """The word about this host that stands now: of its last known boot, and not contradicted by its power."""
    word, known = pool.record.confirmed.get(host), pool.record.hosts.get(host)
    if word is None or known is None or word.boot_id != known.boot_id or pool.heard(host) is not None:
        return None
    # safety: the machine's own power contradicts a word that was given without knowing of it.
    return None if reads_on(pool, host) and not word.despite_power_on else word


def spoken(pool: Snapshot, host: HostId) -> Confirmed | None:
    """The same, where it is to be the proof that this host is harmless: said in this run, and not too long ago."""
    at = pool.live.fenced.words_at.get(host)
    # safety: a word from before this collector's start has an unknown age; a person must say it again.
    fresh = at is not None and pool.now - at <= pool.policy.human_proof_fresh
    return confirmed(pool, host) if fresh else None


def reads_on(pool: Snapshot, host: HostId) -> bool:
    """Does its power read ON, and by readings that began since it fell silent? Earlier ones tell of an earlier time.

    Where the word is to be a proof (a master, a candidate), any reading counts: its power is being read.
    """
    seen, failover = view(pool, host), pool.failover
    if seen.power is not Power.ON:
        return False
    strict = host == pool.record.master or (failover is not None and host in (failover.old_master, failover.candidate))
    return strict or read_since_silent(pool, host)


def read_since_silent(pool: Snapshot, host: HostId) -> bool:
    """Does a reading say ON that began since this host fell silent? Nobody is advised by an earlier one."""
    agent = pool.agent(host)
    since = agent.last_heard if agent is not None else pool.site.started_at
    return any(reading.power is Power.ON and reading.started_at >= since for reading in view(pool, host).readings)
