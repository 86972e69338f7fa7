"""Where VMs run, in one sentence: what a silent host ran last counts only as far as it runs nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.known import Change, after, both, facts, silent
from tests.core.pool import Guarded

from poolwarden_collector.core.report.running_vms import vm_sentence


@pytest.fixture(scope="module")
def g() -> Guarded:
    pool = Guarded()
    pool.run(30_000)
    return pool


def runs(n: int, *vms: str) -> Change:
    return facts(n, lambda f: replace(f, domains=vms))


def test_a_vm_that_was_started_elsewhere_is_not_told_as_lost_with_its_old_host(g: Guarded) -> None:
    def said(*on_host_3: str) -> str:
        return vm_sentence(after(g, both(runs(1, "a", "b"), runs(2, "c"), runs(3, *on_host_3), silent(1))))

    assert said() == "1 runs on host-2; 2 were on host-1"
    assert said("a") == "2 run on host-2, host-3; 1 was on host-1"
    assert said("a", "b") == "3 run on host-2, host-3"
