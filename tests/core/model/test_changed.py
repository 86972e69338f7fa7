"""A frozen value with some fields changed: as ``dataclasses.replace`` has it, for whatever the core keeps."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest

from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.host_facts import Disk, Freshness, HostFacts, Probe, ProbeOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.live import Pool, PoolLive
from poolwarden_collector.core.state.pool_record import PoolRecord


@dataclass(frozen=True, slots=True)
class One:
    only: int = 0


@dataclass(frozen=True)
class Open:
    """Without slots."""

    a: int = 0
    b: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checked:
    a: int = 0
    b: int = 0

    def __post_init__(self) -> None:
        if self.a > self.b:
            raise ValueError("a is above b")


VALUES = [
    HostFacts(),
    Freshness(1, 2, 3, 4),
    Probe("h", "10.0.0.1", ProbeOutcome.ANSWERED, 5),
    Disk("/", 1, 2, 3, 4, True),
    PoolLive(),
    Pool(PoolRecord("p"), Policy()),
    PoolRecord("p"),
    One(3),
    Open(1, [2]),
    Checked(1, 2),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_it_is_what_replace_makes_and_leaves_the_value_alone(value: Any) -> None:
    names = [item.name for item in fields(value)]
    before = [getattr(value, name) for name in names]
    assert changed(value) == value and changed(value) is not value
    for name in names:
        other = {"a": -1, "b": 99}.get(name, object())
        found = changed(value, **{name: other})
        assert type(found) is type(value) and getattr(found, name) is other
        assert [getattr(found, each) for each in names if each != name] == [
            getattr(replace(value, **{name: other}), each) for each in names if each != name
        ]
    assert [getattr(value, name) for name in names] == before


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_field_that_it_does_not_have_is_an_error(value: Any) -> None:
    with pytest.raises((KeyError, TypeError)):
        changed(value, nothing_of_this_name=1)


def test_what_a_class_checks_is_checked() -> None:
    with pytest.raises(ValueError, match="above"):
        changed(Checked(1, 2), a=3)
