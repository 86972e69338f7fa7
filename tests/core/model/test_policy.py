"""Every timing inequality is checked when a policy is made, with the sentence that justifies it."""

from dataclasses import asdict
from typing import Any

import pytest

from poolwarden_collector.core.model.policy import Policy, PolicyError, cautions, differences, inequalities

BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({"suspect_after": 3_000}, "suspect_after >= 2 x report_interval", "one lost report"),
    ({"vanished_after": 5_000}, "vanished_after >= suspect_after", "clear itself"),
    ({"probe_timeout": 2_000}, "probe_timeout < probe_interval", "overlap"),
    ({"probe_interval": 3_000}, r"vanished_after >= 2 x \(probe_interval", "two unanswered probes"),
    ({"reading_gap": 1_000}, "reading_gap >= 3 s", "same cached sensor"),
    ({"reading_fresh": 4_000}, "reading_fresh >=", "still be fresh"),
    ({"claim_wait": 2_000}, "claim_wait >=", "last look"),
    ({"look_wait": 2_000}, "look_wait >=", "a probe and two messages"),
    ({"xapi_hung_after": 7_000}, "xapi_hung_after", "outlast several observations"),
    ({"promote_budget": 9_000}, "promote_budget >= 15 s", "10 s after"),
    ({"member_budget": 100_000}, "member_budget >=", "come back before it is owed"),
    ({"patience": 7_000}, "patience >= vanished_after", "begins with the silence"),
    ({"quiet_time": 2_000}, "quiet_time >= 3 s", "tries again within a second"),
    ({"quiet_time_restored": 50_000}, "quiet_time_restored >= quiet_time", "not be the quicker one"),
    ({"planned_window": 500_000}, "planned_window >= boot_grace", "any booting host"),
    ({"transition_hold": 60_000}, "transition_hold >= promote_budget", "restarts xapi on every host"),
    ({"approval_valid": 3_600_001}, "approval_valid <= question_expiry", "not outlive the question"),
    ({"toolstack_budget": 95_000}, "toolstack_budget >= 100 s", "90 s to stop"),
    ({"xapi_down_after": 700_000}, "xapi_starting_limit >= xapi_down_after", "better off"),
    ({"human_proof_fresh": 13_000}, "human_proof_fresh >=", "last for the claims"),
    ({"mode": "yolo"}, "mode", "none of observe, ask, auto"),
    ({"patience": -1}, "patience", "negative"),
    ({"storm_percent": 101}, "storm_percent", "more than 100"),
    ({"repoint_parallel": 0}, "repoint_parallel", "less than 1"),
    ({"unknown_readings": 0}, "unknown_readings", "less than 1"),
    ({"prefer": ("a", "b"), "never_promote": ("b",)}, "b is in prefer", "never_promote"),
]


def test_the_defaults_hold() -> None:
    assert all(rule.holds for rule in inequalities(Policy()))
    assert differences(Policy()) == [] == cautions(Policy())


@pytest.mark.parametrize(("change", "rule", "reason"), BROKEN, ids=[rule for _, rule, _ in BROKEN])
def test_a_policy_that_contradicts_itself_is_refused_with_rule_and_reason(
    change: dict[str, Any], rule: str, reason: str
) -> None:
    with pytest.raises(PolicyError, match=f"{rule}.*{reason}"):
        Policy(**change)


def test_every_inequality_is_broken_by_one_of_these() -> None:
    """A rule that nothing can break says nothing: each is seen to fail, by a change of one setting."""
    broken = set()
    for change, _, _ in BROKEN:
        policy = object.__new__(Policy)
        for name, value in (asdict(Policy()) | change).items():
            object.__setattr__(policy, name, value)
        broken |= {rule.text for rule in inequalities(policy) if not rule.holds}
    assert broken == {rule.text for rule in inequalities(Policy())}


def test_the_designs_defaults() -> None:
    p = Policy()
    assert (p.mode, p.auto_fence_running) == ("auto", False)
    assert (p.suspect_after, p.vanished_after) == (4_000, 8_000)
    assert (p.patience, p.patience_per_vm, p.patience_vm_limit) == (100_000, 200, 30_000)
    assert (p.xapi_hung_after, p.xapi_down_after, p.xapi_starting_limit) == (120_000, 60_000, 600_000)
    assert p.xapi_restarts == 2
    assert (p.quiet_time, p.quiet_time_restored, p.boot_grace) == (60_000, 300_000, 600_000)
    assert (p.storm_pools, p.storm_percent, p.min_survivors) == (3, 20, 1)
    assert (p.sync_interval, p.oldest_database, p.cooldown) == (3_600_000, 0, 3_600_000)
    assert (p.planned_window, p.transition_hold) == (900_000, 600_000)
    assert (p.planned_shutdown_failover, p.relocate_split, p.declare_dead) == (False, False, True)
    assert (p.human_proof_fresh, p.promote_budget, p.member_budget) == (900_000, 120_000, 600_000)
    assert (p.toolstack_budget, p.reading_gap, p.reading_fresh) == (120_000, 3_000, 10_000)


def test_what_is_safe_and_unwise_is_told_and_not_refused() -> None:
    told = cautions(Policy(quiet_time=3_000, cooldown=60_000, boot_grace=20_000))
    assert [text.split()[1] for text in told] == ["quiet_time", "cooldown", "boot_grace"]
    assert all(": " in text for text in told)


def test_differences_are_said_in_the_units_of_people() -> None:
    policy = Policy(patience=12_000, prefer=("h2", "h3"), storm_percent=50, relocate_split=True, site="berlin")
    assert differences(policy) == [
        "patience 12 s (default 100 s)",
        "prefer h2, h3 (default nobody)",
        "site berlin (default none)",
        "storm_percent 50 (default 20)",
        "relocate_split yes (default no)",
    ]
