"""Every metric as data: its name, what it says, its labels. docs/monitoring.md lists exactly these.

Rules
-----
* Names and units by Prometheus' conventions (prometheus.io/docs/practices/naming): base units in the name, ``_total``
  on counters, ``_info`` on what is 1 and has only labels. Of a state set one series is 1, every other state's is 0.
* A series says what is so now. What a silent host said last is not shown as the present: its series end, and
  ``poolwarden_host_up`` is 0. A host or pool that is on record no more has none.
* No label has more values than there are pools, hosts, devices, file systems (the first 32 of a host), certificates
  (16) and words of a fixed list; a value is cut after 128 characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a metric is counted; the value is the word in the documents."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    STATES = "state set"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` as it is written in a query, but for a histogram's ``_bucket``, ``_sum`` and ``_count``."""

    name: str
    kind: Kind
    says: str
    labels: tuple[str, ...] = ()


METRICS: list[Metric] = []
POOL = ("pool_uuid", "pool")
HOST = (*POOL, "host_uuid", "host")
DEVICE = (*HOST, "device")
DISK = (*HOST, "mountpoint")


def _metric(kind: Kind, name: str, says: str, labels: tuple[str, ...] = ()) -> Metric:
    made = Metric(f"poolwarden_{name}", kind, says, labels)
    METRICS.append(made)
    return made


def _gauge(name: str, says: str, labels: tuple[str, ...] = ()) -> Metric:
    return _metric(Kind.GAUGE, name, says, labels)


def _counter(name: str, says: str, labels: tuple[str, ...] = ()) -> Metric:
    return _metric(Kind.COUNTER, name, says, labels)


def _info(name: str, says: str, labels: tuple[str, ...] = ()) -> Metric:
    return _metric(Kind.INFO, name, says, labels)


def _states(name: str, says: str, labels: tuple[str, ...] = ()) -> Metric:
    return _metric(Kind.STATES, name, says, labels)


def _histogram(name: str, says: str, labels: tuple[str, ...] = ()) -> Metric:
    return _metric(Kind.HISTOGRAM, name, says, labels)


# ------------------------------------------------------------------------------------------------ a pool

VERDICT = _states("pool_verdict", "The pool's verdict.", POOL)
LEVEL = _states("pool_level", "How grave its situation is for a person: good, info, warning, critical.", POOL)
MODE = _states("pool_mode", "What the collector may do there: observe, ask, auto.", POOL)
VERDICT_AGE = _gauge("pool_verdict_age_seconds", "Since when the verdict stands.", POOL)
MASTER_KNOWN = _gauge("pool_master_known", "Is exactly one verified master known?", POOL)
MASTER = _info(
    "pool_master_info",
    "The verified master; one series of each pool that has one.",
    (*POOL, "host_uuid", "host", "address"),
)
TERM = _gauge("pool_term", "Raised by each change of master.", POOL)
HOSTS = _gauge("pool_hosts", "Hosts on record.", POOL)
PAUSED = _gauge("pool_paused", "Has an operator paused it?", POOL)
STOOD_DOWN = _gauge("pool_stood_down", "Is another collector in charge of it, so that this one only reads?", POOL)
READY = _gauge("pool_ready", "Would it survive losing its master now?", POOL)
UNREADY = _gauge("pool_readiness_reasons", "Reasons why it would not, or only weakly.", (*POOL, "severity", "code"))
OWED = _gauge("pool_owed_tasks", "Work that is owed to hosts since a failover.", POOL)
QUESTION = _gauge("pool_question_open", "Does a question wait for an operator?", POOL)
LOST_VMS = _gauge("pool_lost_vms", "VMs of a dead host that do not run again yet.", POOL)
COOL_DOWN = _gauge("pool_cooldown_seconds", "What is left of the cool-down after a failover.", POOL)
ALERTS_OPEN = _gauge("pool_alerts_open", "Open alerts.", (*POOL, "severity"))
FAILOVER_OPEN = _gauge("failover_open", "Is a failover under way?", POOL)
FAILOVER_AGE = _gauge("failover_age_seconds", "Since when; only while one is under way.", POOL)
FAILOVER_BLOCKED = _gauge("failover_blocked", "Is it blocked until a person acts?", POOL)
FAILOVERS = _counter(
    "failovers_total", "Failovers that came to an end: closed, aborted, superseded.", (*POOL, "outcome")
)
FAILOVER_TOOK = _histogram("failover_duration_seconds", "From the decision to the end, of closed failovers.", POOL)
PHASE_TOOK = _histogram(
    "failover_phase_duration_seconds",
    "Phases of closed failovers: silence, claim, proof, promotion, members.",
    (*POOL, "phase"),
)
PROBE_LATENCY = _gauge(
    "xapi_probe_latency_seconds", "How long the master's xapi took to answer the collector's own probe.", HOST
)

# ------------------------------------------------------------------------------------------------ a host

UP = _gauge("host_up", "Is its agent heard now?", HOST)
HEARD_AGE = _gauge("host_last_heard_age_seconds", "Since its agent was heard last.", HOST)
ABOUT = _info("host_info", "Address and versions.", (*HOST, "address", "product", "agent_version"))
ROLE = _states("host_role", "Its role: master, member, superseded, broken, unknown.", HOST)
XAPI = _states("host_xapi_state", "xapi's behaviour as the host itself sees it.", HOST)
XAPI_SLOW = _gauge("host_xapi_slow_answer_seconds", "How long xapi's last late answer took; 0: none was late.", HOST)
ORPHANED = _gauge("host_orphaned", "Does its master not answer it?", HOST)
EMERGENCY = _gauge("host_emergency", "xapi's emergency flag; no series while that is not known.", HOST)
ENABLED = _gauge("host_enabled", "Is it enabled in its pool? No series while that is not known.", HOST)
VMS = _gauge("host_running_vms", "VMs that run there.", HOST)
MEMORY = _gauge("host_memory_size_bytes", "Memory of dom0.", HOST)
MEMORY_FREE = _gauge("host_memory_available_bytes", "What of it is available.", HOST)
CLOCK = _gauge("host_clock_offset_seconds", "How far its clock is ahead of the collector's.", HOST)
CERTIFICATE = _gauge(
    "host_certificate_left_seconds", "Until a certificate there ends, in whole days.", (*HOST, "certificate")
)
GENERATION = _gauge("host_database_generation", "Generation of the database that its xapi would load.", HOST)
COPY_AGE = _gauge(
    "host_database_copy_age_seconds",
    "What a promotion of this member would lose; no series while that is not known.",
    HOST,
)
COPY_BEHIND = _gauge("host_database_copy_behind", "Changes of the master's database that its copy lacks.", HOST)
DISK_SIZE = _gauge("host_filesystem_size_bytes", "Size of a file system of dom0.", DISK)
DISK_FREE = _gauge("host_filesystem_free_bytes", "What is free on it.", DISK)
DISK_INODES = _gauge("host_filesystem_inodes_used_ratio", "Used inodes, 0 to 1.", DISK)
DISK_READ_ONLY = _gauge("host_filesystem_readonly", "Is it mounted read-only?", DISK)
DISK_LEVEL = _states("host_filesystem_level", "How its agent judges it: ok, warning, critical, full.", DISK)
DISK_FULL_IN = _gauge(
    "host_filesystem_full_in_seconds", "Until it is full at its present growth; only while it grows.", DISK
)

# ------------------------------------------------------------------------------------------------ a fence device

DEVICE_STATE = _states("fence_device_state", "Is it bound to its host? bound, unbound, quarantined.", DEVICE)
DEVICE_POWER = _states("fence_device_power", "What it read last: on, off, unknown.", DEVICE)
DEVICE_AGE = _gauge(
    "fence_device_last_good_reading_age_seconds",
    "Since it gave the power last; before its first reading, since the collector's start.",
    DEVICE,
)
DEVICE_TROUBLE = _gauge(
    "fence_device_trouble", "1, with a stable word for what is wrong with it; no series: nothing.", (*DEVICE, "trouble")
)

# ------------------------------------------------------------------------------------------------ the collector itself

BUILD = _info("build_info", "The collector and its version.", ("collector", "version"))
STARTED = _gauge("collector_start_time_seconds", "When it started, seconds since 1970.")
DECIDES = _gauge("collector_decides", "Can it decide and act now? 0 in its quiet time, blind, or without a journal.")
QUIET = _gauge("collector_quiet_seconds", "What is left of the quiet time after its start.")
BLIND = _gauge("collector_blind", "Does it take its own network for broken?")
STALLED = _gauge("collector_journal_stalled", "Can nothing be recorded, and so nothing be decided?")
SHOWN_AGE = _gauge("collector_shown_age_seconds", "How old what is shown of pools is; 0 unless the journal is stalled.")
WARNINGS = _gauge("collector_warnings", "Warnings that status shows of the collector itself.")
LAG = _gauge("engine_lag_seconds", "How long ago arrived what the engine took in last.")
INBOX_AGE = _gauge("engine_inbox_age_seconds", "How long the oldest event has waited for the engine; 0: none waits.")
INBOX_EVENTS = _gauge("engine_inbox_events", "Events that wait for the engine.")
AT_ENTRANCE = _gauge("agents_waiting", "Agents that wait to be let in, because this collector does not keep up.")
LOOP_LAG = _gauge("collector_loop_lag_seconds", "How long this question waited for the collector's loop.")
FENCE_WAITING = _gauge("fence_runs_waiting", "Runs of fence agents that wait for their turn.", ("urgency",))
FENCE_WAIT = _gauge("fence_wait_seconds", "How long the one has waited that waits longest.", ("urgency",))
COMMITS = _histogram("journal_commit_duration_seconds", "How long the engine waited for each commit of this run.")
JOURNAL_SIZE = _gauge("journal_size_bytes", "The journal's file and its log.")
STATE_FREE = _gauge("collector_state_free_bytes", "Room on the disk of its state directory.")
OWN_CERTIFICATE = _gauge(
    "collector_certificate_expiry_timestamp_seconds",
    "When its certificate and the authority's end, seconds since 1970.",
    ("certificate",),
)
OWNS = _gauge("collector_owns", "Pools that are this collector's; over all collectors of one etcd their sum is all.")
MEMBERS = _gauge("collector_members", "Collectors on its etcd, as last seen; no series: it is alone.")
OWNERLESS = _gauge(
    "pools_without_owner", "Pools that no collector has owned for a while, as the one sees it that gives advice."
)
RIGHT = _gauge("etcd_right_seconds", "For how long it may act unless its lease is renewed; 0: it may not act.")
LEASE = _gauge("etcd_lease", "Has it a place among the collectors?")
ETCD_ASKED = _histogram("etcd_request_duration_seconds", "How long etcd took to answer each request of this run.")
ETCD_FAILED = _counter("etcd_requests_failed_total", "Requests that etcd did not answer, or refused, in this run.")
RAISED = _counter("alerts_raised_total", "Alerts that were raised.", ("severity",))
DELIVERED = _counter("alert_deliveries_total", "Alerts, and ends of alerts, that a channel has taken.", ("channel",))
PENDING = _gauge("alert_deliveries_pending", "Those that the channel has not taken yet.", ("channel",))
PENDING_AGE = _gauge(
    "alert_delivery_pending_age_seconds", "Since the oldest of them waits; 0: none does.", ("channel",)
)
PENDING_TRIES = _gauge(
    "alert_delivery_failed_attempts", "Attempts in vain at the one that was tried most.", ("channel",)
)
OVER_BUDGET = _counter(
    "agent_over_budget_total", "Streams of agents that ended because a budget of their host was spent.", ("budget",)
)
CUT = _counter("agent_cut_total", "Texts and lists of agents that were longer than their bounds.")
MUTE = _counter(
    "agent_mute_connections_total", "Connections to the agents' port that were closed, because they said nothing."
)
FOLDED = _counter("journal_folded_total", "Entries that only inform and were counted instead of written.")
TELEMETRY_FOLDED = _counter("telemetry_folded_total", "Lines of telemetry that were left out.")
LOOK_TOOK = _gauge("metrics_collect_seconds", "How long it took to gather all this.")
