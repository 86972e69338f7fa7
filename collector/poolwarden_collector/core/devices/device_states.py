"""What each fence device was last seen to say: the one place where its readings are put and made void."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from poolwarden_collector.core.devices import told_readings
from poolwarden_collector.core.state.live import PoolLive, PowerState
from poolwarden_collector.core.state.transaction import Transaction


def put(tx: Transaction, device: str, state: PowerState) -> None:
    """This is what is known of that device now."""
    tx.change(PoolLive, power={**tx.live.power, device: state})


def forget(tx: Transaction, devices: Collection[str]) -> None:
    """Nothing is known of these devices in this run, and no reading of theirs is under way."""
    tx.change(PoolLive, power={name: state for name, state in tx.live.power.items() if name not in devices})


def void_readings(tx: Transaction, devices: Collection[str]) -> None:
    """What these devices have read so far says nothing any more; what they read next is told whatever it says."""
    power = {
        name: told_readings.not_told(replace(s, readings=())) if name in devices else s
        for name, s in tx.live.power.items()
    }
    tx.change(PoolLive, power=power)
