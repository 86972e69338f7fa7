"""How long things take in xapi, and how long our model of it takes.

Every duration is xapi's own at factor 1; `scaled` divides all of them, and nothing else, by the lab's time factor.
Starts are constants, so that runs can be compared. The inequality to keep: the fuse (10 s) plus a start (10..12 s)
stays well below the 120 s in which a promotion has to be verified.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds. The source in xapi stands beside each."""

    master_start_ms: int = 12_000  # seen in the field: 10..60 s
    member_start_ms: int = 10_000  # seen in the field: 10..40 s
    fuse_ms: int = 10_000  # ocaml/xapi/xapi_globs.ml fuse_time
    hello_retry_ms: int = 5_000  # ocaml/xapi/xapi.ml, after a temporary error
    hello_permanent_retry_ms: int = 60_000  # db_globs.ml permanent_master_failure_retry_interval
    emergency_exit_ms: int = 120_000  # xapi_globs.ml: 60 + rand(0..120) s; the middle of it
    link_reset_ms: int = 130_000  # db_globs.ml master_connection_reset_timeout 120 s, seen by a 10 s tick
    link_backoff_min_ms: int = 2_000  # master_connection.ml
    link_backoff_max_ms: int = 256_000  # master_connection.ml
    heartbeat_ms: int = 30_000  # xapi_globs.ml host_heartbeat_interval
    gc_ms: int = 30_000  # db_gc.ml
    assumed_dead_ms: int = 600_000  # xapi_globs.ml host_assumed_dead_interval
    copy_ms: int = 300_000  # pool_db_backup.ml pool_db_sync_interval, before each host
    flush_ms: int = 300_000  # db_cache_impl.ml coallesce_time, between two flushes of a master's own writes
    flush_tick_ms: int = 2_000  # db_backend.ml db_FLUSH_TIMER, how often the flushing thread looks
    dbsync_patience_ms: int = 10_000  # xapi.ml, Master_connection.connection_timeout while a member's dbsync runs
    old_master_ms: int = 3_000  # xapi_pool_transition.ml, how often a designated host looks for the old master
    forward_fail_ms: int = 300_000  # xmlrpc_client.ml: 10 attempts x (connect failure + 10 s), 130..400 s
    proposal_ms: int = 600_000  # xapi_ha.ml: a proposal for a new master is sticky this long
    bad_login_ms: int = 5_000  # PAM's delay after a wrong password
    vm_start_ms: int = 3_000  # a VM.start of a small VM, after its domain is there
    migrate_ms: int = 5_000  # a VM.pool_migrate of a small VM
    restart_ms: int = 200  # systemd RestartSec default 100 ms, and the exec; used by supervisors
    connect_ms: int = 127_000  # SYN retries of a connect that nothing answers; used by drivers


def scaled(factor: float) -> Times:
    """The same durations `factor` times shorter, at least 1 ms each. Raises ValueError for a factor not above 0."""
    if not factor > 0:
        raise ValueError(f"time factor must be above 0, not {factor}")
    plain = Times()
    return Times(**{item.name: max(1, round(getattr(plain, item.name) / factor)) for item in fields(Times)})
