"""The contract of contract.py, on the model of etcd and on three real members."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from . import contract, enrolling
from .clusters import in_virtual_time, on_real_members

Test = Callable[[Any], Coroutine[Any, Any, None]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "test",
    [*contract.ALL, *enrolling.ALL, contract.one_member_dies, contract.without_a_majority_nobody_has_a_right],
    ids=lambda test: test.__name__,
)
def test_the_model(test: Test) -> None:
    in_virtual_time(test)()


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_three_real_members(tmp_path: Path) -> None:
    last = contract.without_a_majority_nobody_has_a_right, contract.one_member_dies
    on_real_members(tmp_path, *contract.ALL, *enrolling.ALL, *last)
