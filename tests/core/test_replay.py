"""Every decision is stored with its whole input, and comes out the same when it is made again."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from tests.core.pool import Guarded, played_once

from poolwarden_collector.core.engine import DECISIONS
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import Event, Tick
from poolwarden_collector.core.model.installation import Adapters, Installation
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.replay import replay
from poolwarden_collector.core.state.decision_input import _FORMER_NAMES, _KNOWN, LEFT_OUT, BadInput, pack, unpack
from poolwarden_collector.core.state.live import Pool, Site

# Decisions as earlier versions stored them: an input, and the sentences of its step's entries.
OLDER = {n: json.loads(Path(__file__).with_name(f"decisions_version_{n}.json").read_text()) for n in (2, 3)}


@played_once
def story() -> Guarded:
    g = Guarded()
    g.run(10_000)
    g.cut_power()
    g.run(60_000)
    return g


def stored(g: Guarded) -> list[Entry]:
    return [entry for entry in g.journal if "input" in entry.data]


def test_every_decision_of_a_failover_is_made_again_to_the_last_word() -> None:
    g = story()
    decisions = stored(g)
    assert {entry.kind for entry in decisions} >= {Kind.DECIDED, Kind.CANDIDATE, Kind.PROMOTE_INTENT}
    for entry in decisions:
        made = replay(entry.data["input"], tuple(entry.data["step"]))
        assert made.differs == ()
        assert f"{entry.kind.value}: {entry.text}" in made.entries
    decided = replay(decisions[0].data["input"], ())
    assert decided.verdict == "MasterVanished" and decided.plan and decided.evidence
    assert decided.differs  # nothing was recorded, and something is made


def test_each_step_that_decides_stores_its_input_once() -> None:
    g = story()
    for entry in stored(g):
        assert entry.kind in DECISIONS and entry.data["step"]


def test_the_pool_is_read_back_as_it_was() -> None:
    g = story()
    assert unpack(pack(g.pool, Tick(), g.now, g.site)) == (g.pool, Tick(), g.now, g.site)


def test_what_people_alone_are_told_is_in_no_stored_input() -> None:
    g = story()
    agents = {
        host: replace(agent, facts=replace(agent.facts, installation=Installation(Adapters(iscsi_targets=("iqn.x",)))))
        for host, agent in g.pool.live.agents.items()
    }
    pool = replace(g.pool, live=replace(g.pool.live, agents=agents))
    assert pool != g.pool and pack(pool, Tick(), g.now, g.site) == pack(g.pool, Tick(), g.now, g.site)


def test_every_class_that_an_input_can_hold_is_known_to_the_reader() -> None:
    """A class that is missing here would only be missed on the day on which somebody wants to know."""
    seen: set[type] = set()

    def walk(hint: object) -> None:
        for part in get_args(hint):
            walk(part)
        if not isinstance(hint, type) or hint in seen or not (is_dataclass(hint) or issubclass(hint, Enum)):
            return
        seen.add(hint)
        if is_dataclass(hint):
            for each in get_type_hints(hint).values():
                walk(each)

    for root in (Pool, Site, *get_args(Event)):
        walk(root)
    assert len(seen) > 40 and {kind.__name__ for kind in seen} <= set(_KNOWN)
    assert all(_KNOWN[kind.__name__] is kind for kind in seen)
    assert not set(_FORMER_NAMES) & {kind.__name__ for kind in seen}


@pytest.mark.parametrize("text", ["", "not base85 \x00", "c-n=F"])
def test_what_cannot_be_read_is_said_and_not_guessed(text: str) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        unpack(text)


def test_fields_that_are_gone_since_an_input_was_stored_are_left_out() -> None:
    g = story()
    stored_text = pack(g.pool, Tick(), g.now, g.site)
    older = json.loads(zlib.decompress(base64.b85decode(stored_text)))
    named: set[str] = set()

    def age(plain: object) -> None:
        if isinstance(plain, list):
            if plain[:1] == ["C"] and plain[1] in LEFT_OUT:
                plain[2].update(dict.fromkeys(LEFT_OUT[plain[1]], 7))
                named.add(plain[1])
            for item in plain:
                age(item)
        elif isinstance(plain, dict):
            for item in plain.values():
                age(item)

    age(older)
    assert named == set(LEFT_OUT)
    again = base64.b85encode(zlib.compress(json.dumps(older).encode())).decode()
    assert unpack(again) == (g.pool, Tick(), g.now, g.site)


@pytest.mark.parametrize(
    ("version", "number"), [(version, n) for version, all in OLDER.items() for n in range(len(all))]
)
def test_a_decision_stored_by_an_earlier_version_is_made_again(version: int, number: int) -> None:
    stored = OLDER[version][number]
    assert replay(stored["input"], tuple(stored["step"])).differs == ()


def test_older_inputs_name_proofs_by_their_words_and_others_are_refused() -> None:
    pool, *_ = unpack(OLDER[2][-1]["input"])
    assert pool.record.failover is not None and pool.record.failover.proof is not None
    assert pool.record.failover.proof.kind is ProofKind.POWER
    of_another = base64.b85encode(zlib.compress(json.dumps({"version": 1}).encode())).decode()
    with pytest.raises(BadInput, match="stored in version 1"):
        unpack(of_another)
