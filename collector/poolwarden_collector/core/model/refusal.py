"""How an operator's command is answered when the answer is no."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal: a stable word, one sentence, what to do instead."""

    code: str
    why: str
    next_step: str = ""
