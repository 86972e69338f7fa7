"""The check as a report: `python -m tests.protocol [--long] [--story RULE]`, from the repository's root.

It prints each configuration with its states, and each removed rule with the length of its shortest counterexample;
`--story RULE` prints one counterexample, step by step. The exit status is 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from .configurations import LONG, REMOVALS, SHORT, Removal
from .model import run
from .world import Setting


def bounds(s: Setting) -> str:
    """The configuration's bounds in words."""
    words = [f"{count} {name.replace('_', ' ')}" for name, count in s.left._asdict().items() if count > 0]
    return ", ".join([f"{s.failovers} failover{'s'[: s.failovers > 1]}", *words])


def exhausted(settings: tuple[Setting, ...]) -> bool:
    """Explore each to its end and say so; False if one is not clean."""
    clean = True
    print(f"{'configuration':44} {'states':>9} {'steps':>9} {'depth':>5} {'s':>6}")
    for s in settings:
        found = run(s, live=True, like=True)
        print(f"{s.name:44} {found.states:9,} {found.transitions:9,} {found.depth:5} {found.seconds:6.1f}", flush=True)
        print(f"    bounds: {bounds(s)}; exempt: {dict(found.excused)}")
        if found.broken or found.trapped or not found.exhausted:
            clean = False
            print(f"    NOT CLEAN: {found.broken or 'a failover that cannot end'}")
            print(found.story() or "\n".join(found.trapped))
    return clean


def removed(removals: tuple[Removal, ...]) -> bool:
    """Take each rule away and say how soon that is found; False if one is not found."""
    every = True
    print(f"\n{'without':64} {'breaks':>6} {'steps':>5} {'states':>8}")
    for removal in removals:
        found = run(removal.setting(), only=removal.only)
        every &= found.broken == removal.breaks
        print(f"{removal.name:64} {found.broken or 'NOTHING':>6} {len(found.trace):5} {found.states:8,}", flush=True)
        if removal.two_masters_in is not None:
            harm = run(replace(removal.two_masters_in, without=frozenset(removal.rules)), only="I1")
            every &= harm.broken == "I1"
            print(f"{'':64} {harm.broken or 'NOTHING':>6} {len(harm.trace):5} {harm.states:8,}", flush=True)
    return every


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description="explore the succession's protocol")
    parser.add_argument("--long", action="store_true", help="also the configurations that take minutes")
    parser.add_argument("--story", metavar="RULE", help="print the counterexample without this rule")
    asked = parser.parse_args()
    if asked.story:
        chosen = [removal for removal in REMOVALS if asked.story in removal.name.split(" + ")]
        for removal in chosen:
            print(f"without {removal.name} ({removal.where.name}: {bounds(removal.where)})")
            print(run(removal.setting(), only=removal.only).story())
        return 0 if chosen else 2
    clean = exhausted(SHORT + (LONG if asked.long else ()))
    return 0 if removed(REMOVALS) and clean else 1


if __name__ == "__main__":
    sys.exit(main())
