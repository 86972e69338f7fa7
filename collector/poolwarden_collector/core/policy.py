"""The policy of a pool: every number with its reason, every inequality checked when it is loaded.

The theory in one paragraph: silence only ever starts the gathering of evidence. A stream with keepalive 2 s / 1 s
sees a cut in about 1.6 s; two missed reports make a host suspect; twice that, corroborated, has its power read. Only
what the power reading (or a human) proves goes further.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from poolwarden_collector.core.facts import Ms

MODES = ("observe", "ask", "auto")


class PolicyError(ValueError):
    """A policy that contradicts itself; the text names the setting, the rule and the reason."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of one pool; all durations in milliseconds."""

    mode: str = "auto"
    auto_fence_running: bool = False
    collector_probe: bool = True
    report_interval: Ms = 2_000
    probe_interval: Ms = 2_000
    probe_timeout: Ms = 1_500
    suspect_after: Ms = 4_000
    vanished_after: Ms = 8_000
    patience: Ms = 100_000
    patience_per_vm: Ms = 200
    patience_vm_limit: Ms = 30_000
    reading_gap: Ms = 3_000
    reading_fresh: Ms = 10_000
    reading_retry: Ms = 5_000
    unknown_readings: int = 2
    xapi_hung_after: Ms = 120_000
    xapi_down_after: Ms = 60_000
    xapi_starting_limit: Ms = 600_000
    xapi_restarts: int = 2
    xapi_restart_budget: Ms = 120_000
    quiet_time: Ms = 60_000
    boot_grace: Ms = 600_000
    min_survivors: int = 1
    claim_wait: Ms = 4_000
    look_wait: Ms = 3_000
    promote_budget: Ms = 120_000
    repoint_parallel: int = 3
    member_restart_after: Ms = 90_000
    member_budget: Ms = 600_000
    human_proof_fresh: Ms = 900_000
    cooldown: Ms = 3_600_000
    prefer: tuple[str, ...] = ()  # hosts (name or UUID), the first preferred among equally new databases
    never_promote: tuple[str, ...] = ()  # hosts (name or UUID)
    site: str = ""  # pools of one site share the storm brake
    storm_pools: int = 3
    storm_percent: int = 20
    relocate_split: bool = False
    planned_window: Ms = 900_000
    planned_shutdown_failover: bool = False
    transition_hold: Ms = 600_000
    quiet_time_restored: Ms = 300_000
    question_expiry: Ms = 3_600_000
    approval_valid: Ms = 900_000
    toolstack_budget: Ms = 120_000
    handover_max_bytes: int = 256 * 1024 * 1024
    oldest_database: Ms = 0  # 0: (hosts - 1) x 5 min + 10 min
    sync_interval: Ms = 3_600_000
    declare_dead: bool = True
    wake_fenced: bool = False
    min_root_free_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        problems = check(self)
        if problems:
            raise PolicyError(problems[0])


@dataclass(frozen=True, slots=True)
class Inequality:
    """A relation between two settings, and why it must hold."""

    text: str
    holds: bool
    because: str


def inequalities(policy: Policy) -> tuple[Inequality, ...]:
    """Every timing relation that the engine relies on."""
    p = policy
    return (
        Inequality(
            "suspect_after >= 2 x report_interval",
            p.suspect_after >= 2 * p.report_interval,
            "one lost report must not make a host suspect",
        ),
        Inequality(
            "vanished_after >= suspect_after + report_interval",
            p.vanished_after >= p.suspect_after + p.report_interval,
            "a suspect needs one more report's time to clear itself before its power is read",
        ),
        Inequality(
            "probe_timeout < probe_interval",
            p.probe_timeout < p.probe_interval,
            "probes of one target must not overlap",
        ),
        Inequality(
            "vanished_after >= 2 x (probe_interval + probe_timeout)",
            p.vanished_after >= 2 * (p.probe_interval + p.probe_timeout),
            "a witness needs two unanswered probes within the silence that it corroborates",
        ),
        Inequality(
            "reading_gap >= 3 s",
            p.reading_gap >= 3_000,
            "two power readings closer together may show the same cached sensor value",
        ),
        Inequality(
            "reading_fresh >= reading_gap + look_wait",
            p.reading_fresh >= p.reading_gap + p.look_wait,
            "the proof must still be fresh when the last look has been taken",
        ),
        Inequality(
            "claim_wait >= probe_timeout + 1 s",
            p.claim_wait >= p.probe_timeout + 1_000,
            "a claim contains a last look at the old master",
        ),
        Inequality(
            "look_wait >= probe_timeout + 1 s",
            p.look_wait >= p.probe_timeout + 1_000,
            "a last look is a probe and two messages",
        ),
        Inequality(
            "xapi_hung_after > xapi's own stalls",
            p.xapi_hung_after >= 4 * p.report_interval,
            "a hang must outlast several observations",
        ),
        Inequality(
            "promote_budget >= 15 s",
            p.promote_budget >= 15_000,
            "xapi restarts itself 10 s after it accepted the promotion (xapi_fuse.ml)",
        ),
        Inequality(
            "member_budget >= member_restart_after + 30 s",
            p.member_budget >= p.member_restart_after + 30_000,
            "a member that was restarted needs time to come back before it is owed",
        ),
    )


def check(policy: Policy) -> list[str]:
    """Problems of a policy, each a sentence with its reason; empty if it is sound."""
    problems = [f"policy: {rule.text} does not hold: {rule.because}" for rule in inequalities(policy) if not rule.holds]
    if policy.mode not in MODES:
        problems.append(f"policy: mode {policy.mode!r} is none of {', '.join(MODES)}")
    for item in fields(policy):
        value = getattr(policy, item.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 0:
            problems.append(f"policy: {item.name} is negative")
    return problems


def differences(policy: Policy) -> list[str]:
    """Settings that differ from the defaults, e.g. ``patience 12 s (default 100 s)``."""
    default = Policy()
    return [
        f"{item.name} {_show(item.name, getattr(policy, item.name))}"
        f" (default {_show(item.name, getattr(default, item.name))})"
        for item in fields(policy)
        if getattr(policy, item.name) != getattr(default, item.name)
    ]


_COUNTS = {
    "unknown_readings",
    "xapi_restarts",
    "min_survivors",
    "repoint_parallel",
    "storm_pools",
    "storm_percent",
}


def _show(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or name in _COUNTS:
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(value) or "nobody"
    if name in ("min_root_free_bytes", "handover_max_bytes"):
        return f"{int(str(value)) // (1024 * 1024)} MiB"
    return f"{int(str(value)) / 1000:g} s"
