# Tier: long
"""Many pools lose their masters within a minute, the power off already: each is decided on its own evidence.

The fence agents run in production's own order (turns.py) and on as many slots as a small machine has. What many pools
cost on a processor is no matter here; the benchmark ``scale`` measures that.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import PoolSpec, World

POOLS, AT_SLOW, SITES = 48, 24, 6
MINUTE_MS, SLOW_MS, SLOTS = 60_000, 20_000, 16
WITHIN_MS = 10_000
# The brake is set aside by policy: nothing is asked where many pools of a site lose their masters at once.
POLICY = Policy(quiet_time=3_000, storm_pools=POOLS * 2, storm_percent=100)
SPECS = [PoolSpec(f"p{n}", 2, policy=POLICY, site=f"s{n % SITES}") for n in range(POOLS)]
SPECS += [PoolSpec(f"q{n}", 2, policy=POLICY, site="slow") for n in range(AT_SLOW)]


@dataclass(frozen=True)
class Decided:
    """When a pool's master lost its power, when it was read to be off first, and when its failover was decided."""

    site: str
    lost: int
    read: int
    decided: int


def lost_masters() -> list[Decided]:
    """Every pool's master goes within a minute; the devices of the site ``slow`` take 20 s each."""
    world = World(SPECS, seed=17)
    world.settings.fence_slots = SLOTS
    world.begin()
    world.run(10_000)
    for spec in SPECS:
        if spec.site == "slow":
            world.set_bmc(f"{spec.name}/h1", BmcMode.SLOW, SLOW_MS)
    # The slow ones in the first seconds, so that all of them want their turn while the others lose theirs.
    lost = {spec.name: world.now + 100 * n for n, spec in enumerate(SPECS[POOLS:])}
    lost |= {spec.name: world.now + 5_000 + n * MINUTE_MS // POOLS for n, spec in enumerate(SPECS[:POOLS])}
    for name, at in lost.items():
        world.at(at, lambda name=name: world.power_off(f"{name}/h1"))  # type: ignore[misc]
    began, until = world.now, world.now + 2 * MINUTE_MS + 60_000
    read, decided, looked = dict[str, int](), dict[str, int](), 0
    while len(decided) < len(SPECS) and world.now < until:
        world.run(1_000)
        for commit in world.ledger.commits[looked:]:
            for entry in commit.entries if commit.ms > began else ():
                if entry.kind is Kind.POWER_READING and entry.data["power"] == "off":
                    read.setdefault(commit.pool, commit.ms)
                if entry.kind is Kind.DECIDED:
                    decided.setdefault(commit.pool, commit.ms)
        looked = len(world.ledger.commits)
    of = {spec.name: world.of(spec.name).uuid for spec in SPECS}
    assert [name for name, uuid in of.items() if uuid not in decided] == []
    return [Decided(spec.site, lost[spec.name], read[of[spec.name]], decided[of[spec.name]]) for spec in SPECS]


def test_each_pool_is_decided_on_its_own_evidence_and_no_site_waits_for_another() -> None:
    found = lost_masters()
    quick = [each for each in found if each.site != "slow"]
    assert [each for each in quick if each.decided - each.read > WITHIN_MS] == []
    # From the loss on: the silence that is waited out, and a reading that waits for nobody else's devices.
    fastest = min(each.decided - each.lost for each in quick)
    assert [each for each in quick if each.decided - each.lost > fastest + WITHIN_MS] == []
    assert [each for each in found if each.decided - each.read > SLOW_MS + WITHIN_MS] == []
