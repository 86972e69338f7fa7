"""Kinds of proof, and what follows from each. Which facts each needs stands in evidence/proof.py, which makes them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any


class LookAfter(Enum):
    """From when on the last look before a promotion counts."""

    READINGS = "the pair of OFF readings on which the proof stands"
    WORD = "the operator's word"
    STEP = "the beginning of the failover's present step"


def _power(name: str, facts: dict[str, Any]) -> str:
    gaps = [item["second"]["ended_ms"] - item["first"]["ended_ms"] for item in facts["readings"]]
    return f"power of {name} read OFF twice, {min(gaps) / 1000:.1f} s apart, and nothing has answered since"


def _toolstack(name: str, facts: dict[str, Any]) -> str:
    refused = ", ".join(facts["refused_to"])
    return f"{name} holds its toolstack at term {facts['term']}, and its closed port refused {refused}"


def _rebooted(name: str, facts: dict[str, Any]) -> str:
    return f"{name} has booted anew, and its boot gate is shut at term {facts['gate_term']}"


def _roles(name: str, facts: dict[str, Any]) -> str:
    off = "; ".join(facts.get("off", {}).values())
    whose = "that are heard are members; " + off if off else "of the pool are members, and follow hosts that are heard"
    return f"all {len(facts['followed'])} hosts {whose}"


def _human(name: str, facts: dict[str, Any]) -> str:
    return f"{facts['by']} confirmed that {name} is safe: {facts['how']}"


class ProofKind(Enum):
    """A kind of proof. ``word`` is what it is called in the journal; the other fields are what follows from it.

    ``old_master_may_speak``: its agent may be heard when the promotion is sent: the proof itself rests on its word.
    ``other_boot_is_expected``: it may be in another boot than the one that was master.
    ``look_must_follow``: what the last look before the promotion must be younger than.
    ``permits_declare_dead``: the host is off, by its devices: xapi may be told so, and it may be powered on again.
    ``sentence``: the proof in words, of the host's name and the proof's facts.
    """

    POWER = ("power", False, False, LookAfter.READINGS, True, _power)
    TOOLSTACK = ("toolstack", True, False, LookAfter.STEP, False, _toolstack)
    REBOOTED = ("rebooted", True, True, LookAfter.STEP, False, _rebooted)
    ROLES = ("roles", False, False, LookAfter.STEP, False, _roles)
    HUMAN = ("human", False, False, LookAfter.WORD, False, _human)

    def __init__(
        self,
        word: str,
        old_master_may_speak: bool,
        other_boot_is_expected: bool,
        look_must_follow: LookAfter,
        permits_declare_dead: bool,
        sentence: Callable[[str, dict[str, Any]], str],
    ) -> None:
        self.word = word
        self.old_master_may_speak = old_master_may_speak
        self.other_boot_is_expected = other_boot_is_expected
        self.look_must_follow = look_must_follow
        self.permits_declare_dead = permits_declare_dead
        self.sentence = sentence

    @classmethod
    def of(cls, word: str) -> ProofKind:
        """The kind that the journal calls so. Raises ValueError."""
        for kind in cls:
            if kind.word == word:
                return kind
        raise ValueError(f"{word!r} is no kind of proof")
