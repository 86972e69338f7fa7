"""The policy of a pool: every number with its reason, every inequality checked when it is loaded.

The theory in one paragraph: silence only ever starts the gathering of evidence. A stream with keepalive 2 s / 1 s
sees a cut in about 1.6 s; two missed reports make a host suspect; twice that, corroborated, has its power read. Only
what the power reading (or a human) proves goes further.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from poolwarden_collector.core.model.values import Ms

MODES = ("observe", "ask", "auto")
START_LOST = ("never", "tagged")


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
    # A member's copy is taken from the master's memory, whose file lags by 5 min at most (xapi: db_cache_impl.ml); a
    # pool writes some ten times a second. A copy that is so many changes ahead of that file is asked about.
    generation_leap: int = 100_000
    sync_interval: Ms = 3_600_000
    declare_dead: bool = True
    wake_fenced: bool = False
    start_lost: str = "never"  # "tagged": VMs that died with the master start by themselves where their owner wishes it
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
    return (*_seeing(policy), *_acting(policy), *_waiting(policy))


def _seeing(p: Policy) -> tuple[Inequality, ...]:
    """When silence and readings count."""
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
    )


def _acting(p: Policy) -> tuple[Inequality, ...]:
    """How long the acts and looks of a failover may take."""
    return (
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
        Inequality(
            "toolstack_budget >= 100 s",
            p.toolstack_budget >= 100_000,
            "systemd gives xapi 90 s to stop before it kills it (TimeoutStopSec), and the closed port must be seen",
        ),
        Inequality(
            "xapi_starting_limit >= xapi_down_after",
            p.xapi_starting_limit >= p.xapi_down_after,
            "a xapi that starts is better off than one that is down",
        ),
    )


def _waiting(p: Policy) -> tuple[Inequality, ...]:
    """How long is waited, for machines and for people."""
    return (
        Inequality(
            "patience >= vanished_after",
            p.patience >= p.vanished_after,
            "patience with a machine that reads ON begins with the silence that had its power read",
        ),
        Inequality(
            "quiet_time >= 3 s",
            p.quiet_time >= 3_000,
            "an agent that lost its collector tries again within a second (link/client.py) and then reports",
        ),
        Inequality(
            "quiet_time_restored >= quiet_time",
            p.quiet_time_restored >= p.quiet_time,
            "a collector that knows less than its agents must not be the quicker one",
        ),
        Inequality(
            "planned_window >= boot_grace",
            p.planned_window >= p.boot_grace,
            "a host that reboots by order needs at least the time that any booting host is given",
        ),
        Inequality(
            "transition_hold >= promote_budget",
            p.transition_hold >= p.promote_budget,
            "a designate restarts xapi on every host; the new master must have come up before it is judged",
        ),
        Inequality(
            "approval_valid <= question_expiry",
            p.approval_valid <= p.question_expiry,
            "an approval must not outlive the question, whose stakes it was given for",
        ),
        Inequality(
            "human_proof_fresh >= 2 x (claim_wait + look_wait)",
            p.human_proof_fresh >= 2 * (p.claim_wait + p.look_wait),
            "a person's word must last for the claims and looks that follow it",
        ),
    )


def cautions(policy: Policy) -> list[str]:
    """What is safe and unwise, as sentences with the reason: told when it is loaded, not refused."""
    p = policy
    rules = (
        Inequality(
            "quiet_time >= 15 s",
            p.quiet_time >= 15_000,
            "an agent that has failed for long waits up to 8 s between its attempts, and an attempt takes up to 5 s",
        ),
        Inequality(
            "cooldown >= promote_budget + member_budget",
            p.cooldown >= p.promote_budget + p.member_budget,
            "the members of a new master should have had their whole time before it can be succeeded itself",
        ),
        Inequality(
            "boot_grace >= 5 min",
            p.boot_grace >= 300_000,
            "servers take minutes to boot, and a master that is still booting is not to be succeeded",
        ),
    )
    return [f"policy: {rule.text} does not hold: {rule.because}" for rule in rules if not rule.holds]


def check(policy: Policy) -> list[str]:
    """Problems of a policy, each a sentence with its reason; empty if it is sound."""
    broken = [f"policy: {rule.text} does not hold: {rule.because}" for rule in inequalities(policy) if not rule.holds]
    return [*_ranges(policy), *broken]


def _ranges(policy: Policy) -> list[str]:
    problems = []
    if policy.mode not in MODES:
        problems.append(f"policy: mode {policy.mode!r} is none of {', '.join(MODES)}")
    if policy.start_lost not in START_LOST:
        problems.append(f"policy: start_lost {policy.start_lost!r} is none of {', '.join(START_LOST)}")
    if policy.start_lost != "never" and not policy.declare_dead:
        problems.append(
            "policy: start_lost needs declare_dead: before xapi knows that a host is dead, none of its VMs starts"
        )
    for item in fields(policy):
        value = getattr(policy, item.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 0:
            problems.append(f"policy: {item.name} is negative")
    if policy.storm_percent > 100:
        problems.append("policy: storm_percent is more than 100")
    for name in ("unknown_readings", "repoint_parallel", "generation_leap"):
        if getattr(policy, name) < 1:
            problems.append(f"policy: {name} is less than 1")
    both = sorted(set(policy.prefer) & set(policy.never_promote))
    if both:
        problems.append(f"policy: {', '.join(both)} is in prefer and in never_promote")
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


def changes(before: Policy, after: Policy) -> list[str]:
    """Settings that differ between two policies, e.g. ``patience 100 s -> 12 s``."""
    return [
        f"{item.name} {_show(item.name, getattr(before, item.name))} -> {_show(item.name, getattr(after, item.name))}"
        for item in fields(Policy)
        if getattr(before, item.name) != getattr(after, item.name)
    ]


_COUNTS = {
    "unknown_readings",
    "xapi_restarts",
    "min_survivors",
    "repoint_parallel",
    "generation_leap",
    "storm_pools",
    "storm_percent",
}


def _show(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or name in _COUNTS:
        return str(value) or "none"
    if isinstance(value, tuple):
        return ", ".join(value) or "nobody"
    if name in ("min_root_free_bytes", "handover_max_bytes"):
        return f"{int(str(value)) // (1024 * 1024)} MiB"
    return f"{int(str(value)) / 1000:g} s"
