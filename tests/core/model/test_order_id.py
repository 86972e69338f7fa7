"""Ids are made and read back in one place."""

from __future__ import annotations

from poolwarden_collector.core.model.order_id import FailoverOrder, OrderId, failover_order, fresh, is_attempt, parse


def test_an_id_is_made_of_its_parts_and_read_back() -> None:
    run = fresh("0123456789", "off", 7, 12)
    assert run.text == "01234567/off/7.12" and parse(run.text) == run
    assert run.made_for("off", 7) and not run.made_for("off", 1) and not run.made_for("on", 7)
    assert run.made_by(7) and not run.made_by(1) and not parse("").made_by(7)
    for text in ("owed/3/release/h1/boot.2", "01234567-1.2/5/promote", "none", ""):
        assert parse(text).text == text


def test_an_attempt_is_of_its_own_base_and_of_no_longer_one() -> None:
    base = "owed/3/release/h1/boot"
    assert is_attempt(OrderId(base, 2).text, base)
    assert not is_attempt(base, f"{base}.2") and not is_attempt(f"{base}-2.1", base)
    assert not is_attempt(f"{base}.x", base)


def test_an_order_is_of_the_failover_that_it_names_first() -> None:
    assert parse("01234567-1.2/5/promote").is_of("01234567-1.2")
    assert not parse("01234567-1.21/5/promote").is_of("01234567-1.2")
    assert not parse("01234567-1.2").is_of("01234567-1.2")
    assert failover_order("01234567-1.2/5/promote") == FailoverOrder(2, "promote")
    assert failover_order("01234567/off/7.12") is None
