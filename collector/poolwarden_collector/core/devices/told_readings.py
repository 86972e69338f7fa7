"""Which readings of a device the journal is told: those that say something else, and one an hour.

Rules
-----
* A host whose agent is silent is read every few seconds, for as long as its failover waits. The first two readings that
  say the same are told, for two are what a proof of power rests on; then one an hour, with how many said so before it.
* Another power, another host that reads it, another failover: something else. Of readings that give no power it is
  another reason, for which figures in it do not count: a number of seconds is no change.
* Readings that give the power and those that give none are told apart, so that a device that fails every other time is
  not told at each. A reading that need not be told (on, beside a living agent) begins anew.
* Nothing is decided by what was told.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.model.power import Power, PowerReading
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.live import PowerState, ToldReading

ALWAYS_TOLD = 2
TELL_EVERY_MS: Ms = 3_600_000
_NO_FIGURES = {ord(figure): None for figure in "0123456789"}


def not_told(state: PowerState) -> PowerState:
    """This reading need not be told; the next one that must be is told whatever it says."""
    return replace(state, told=ToldReading(), told_unread=ToldReading())


def told(state: PowerState, reading: PowerReading, failover: str, now: Ms) -> tuple[PowerState, bool, int]:
    """The state after this reading, is it to be told, and how many said the same since the last one that was."""
    unread = reading.power is Power.UNKNOWN
    before = state.told_unread if unread else state.told
    said = (reading.power.value, reading.through, failover, reading.text.translate(_NO_FIGURES) if unread else "")
    if before.said != said:
        after, tell, same = ToldReading(said, 1, now), True, 0
    elif before.times < ALWAYS_TOLD or now - before.at >= TELL_EVERY_MS:
        after, tell, same = ToldReading(said, ALWAYS_TOLD, now), True, max(0, before.times - ALWAYS_TOLD)
    else:
        after, tell, same = replace(before, times=before.times + 1), False, 0
    return replace(state, told_unread=after) if unread else replace(state, told=after), tell, same
