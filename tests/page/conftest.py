"""Passwords cost next to nothing here: what they cost in earnest is in test_users.py."""

from __future__ import annotations

import pytest

from poolwarden_collector.shell.page import users

IN_EARNEST = users._N


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_N", 2)
