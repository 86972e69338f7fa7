"""Attacks on the engine's two hands: the gate at a host, and the run of a fence agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from poolwarden_agent.core import gate_state, host_now, kind_rules, order_gate, order_kinds, orders
from poolwarden_collector.core.model.effects import PowerOff
from poolwarden_collector.core.model.events import Event, FenceEnded
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.agent_run import run_agent
from poolwarden_collector.shell.fencing.fencer import Fencer

HOST = "00000001-0000-4000-8000-000000000001"
POOL = "aaaaaaaa-0000-4000-8000-000000000000"
NOW = host_now.HostNow(
    10_000,
    HOST,
    POOL,
    "boot",
    host_now.MASTER,
    "",
    False,
    host_now.Process(7, 70),
    10**9,
    "10.0.0.1",
    able=order_kinds.KNOWN,
)
STONE = gate_state.Tombstone(3, "00000002-0000-4000-8000-000000000002", "10.0.0.2")
ORDER = orders.Order(
    "id", 1, 3, POOL, HOST, "boot", 9_000, 15_000, (), "", True, host_now.NO_PROCESS, 0, False,
    body=orders.RestartXapi(as_master_ok=True),
)  # fmt: skip


def script(folder: Path, body: str) -> Path:
    path = folder / "fence_test"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_tombstoned_host_is_not_restarted_as_master() -> None:
    """I11: pool.conf could not be rewritten (a full disk), so it still says master. A restart would serve again."""
    state = gate_state.EMPTY._replace(term=3, pool=POOL, tombstone=STONE)
    assert isinstance(order_gate.decide(state, ORDER, NOW), kind_rules.Refuse)


def test_an_off_run_that_was_killed_by_a_signal_is_not_certain(tmp_path: Path) -> None:
    """The OOM killer takes the fence agent after it has sent its command: the power-off may still land."""
    told: list[Event] = []
    device = Fence(HOST, script(tmp_path, "cat >/dev/null; kill -9 $$"), "bmc-1", 1, 5_000)

    async def shoot() -> None:
        fencer = Fencer((device,), lambda pool, event: told.append(event), lambda: 0)
        fencer.power_off(POOL, PowerOff(HOST, "bmc-1", "run"))
        while not told:
            await asyncio.sleep(0.01)

    asyncio.run(shoot())
    ended = told[0]
    assert isinstance(ended, FenceEnded) and not ended.claim
    assert not ended.certain


def test_a_fence_agent_never_starts_its_work_without_its_action(tmp_path: Path) -> None:
    """The action line is the last one; what does not fit into the pipe is silently not sent, and an agent without an
    action reboots the machine (I9)."""
    said = tmp_path / "stdin"
    agent = script(tmp_path, f"sleep 0.1; cat >{said}")
    asyncio.run(run_agent(agent, {"ssh_options": "x" * 100_000}, "status", 5.0))
    assert not said.exists() or said.read_text().endswith("action=status\n")


def test_a_promotion_that_is_delivered_again_after_a_crash_is_judged_by_facts() -> None:
    """Withstood: started, and the agent died before the result. pool.conf says master: done, not done again."""
    order = ORDER._replace(body=orders.Promote(hold_gc=False), pool_conf_in=(host_now.MEMBER,))
    before = NOW._replace(pool_conf=host_now.MEMBER)
    state = order_gate.starting(gate_state.EMPTY._replace(pool=POOL), order, before)
    decision = order_gate.decide(state, order, NOW)
    assert isinstance(decision, order_gate.Obey) and decision.already


def test_a_promotion_of_a_lower_term_or_epoch_is_refused_even_as_a_replay() -> None:
    """Withstood: S37, a late duplicate meets a higher term."""
    order = ORDER._replace(body=orders.Promote(hold_gc=False))
    done = gate_state.Result("id", "promote", orders.DONE, "", "")
    for higher in ({"term": 4}, {"epoch": 2}):
        state = gate_state.EMPTY._replace(pool=POOL, results={"promote": done})._replace(**higher)
        assert isinstance(order_gate.decide(state, order, NOW), kind_rules.Refuse)


def test_an_order_that_sat_in_a_buffer_is_dead_on_arrival() -> None:
    """Withstood: the validity counts from the agent's own stamp that the order echoes."""
    order = ORDER._replace(body=orders.Promote(hold_gc=False), pool_conf_in=(host_now.MEMBER,))
    member = NOW._replace(pool_conf=host_now.MEMBER)
    state = gate_state.EMPTY._replace(pool=POOL)
    assert isinstance(order_gate.decide(state, order, member), order_gate.Obey)
    late = order_gate.decide(state, order, member._replace(mono_ms=24_001))
    assert isinstance(late, kind_rules.Refuse) and late.reason == "expired"
