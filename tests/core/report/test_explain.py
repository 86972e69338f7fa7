"""What ``explain`` says of a pool: the next step is what an operator can do now, the plan what would really be done."""

from __future__ import annotations

from tests.core.pool import Guarded

from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.report.explain import explain


def test_the_next_step_is_the_answer_to_what_is_asked() -> None:
    g = Guarded()
    g.run(4_000)
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(120_000)
    asked = g.pool.record.question
    assert asked is not None
    step = explain(g.pool, g.now, g.site).next_step
    assert step.startswith(f"Yes: poolwarden approve {asked.id} --shoot") and f"poolwarden deny {asked.id}" in step


def test_the_plan_repoints_who_is_heard_and_owes_the_rest() -> None:
    g = Guarded()
    g.run(4_000)
    (repointed,) = [line for line in explain(g.pool, g.now, g.site).plan if line.startswith("repoint")]
    assert "host-3" in repointed
    g.cut_power(3)
    g.run(30_000)
    plan = explain(g.pool, g.now, g.site).plan
    assert not any(line.startswith("repoint") and "host-3" in line for line in plan)
    assert any(line.startswith("owe it to host-3, not heard now") for line in plan)
