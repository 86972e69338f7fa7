"""Every timing inequality is checked when a policy is made, with the sentence that justifies it."""

import pytest

from poolwarden_collector.core.policy import Policy, PolicyError, differences, inequalities


def test_the_defaults_hold() -> None:
    assert all(rule.holds for rule in inequalities(Policy()))
    assert differences(Policy()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"suspect_after": 3_000}, "one lost report"),
        ({"vanished_after": 5_000}, "clear itself"),
        ({"probe_timeout": 2_000}, "overlap"),
        ({"reading_gap": 1_000}, "same cached sensor"),
        ({"reading_fresh": 4_000}, "still be fresh"),
        ({"claim_wait": 2_000}, "last look"),
        ({"promote_budget": 9_000}, "10 s after"),
        ({"mode": "yolo"}, "none of observe, ask, auto"),
        ({"patience": -1}, "negative"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused_with_the_reason(change: dict, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        Policy(**change)


def test_differences_are_said_in_seconds() -> None:
    assert differences(Policy(patience=12_000)) == ["patience 12 s (default 100 s)"]
