"""What is told of a fire drill. ``by`` is who began it, ``left`` what was not tried yet, ``why`` one sentence."""

from __future__ import annotations

from poolwarden_collector.core.catalogue.message import Message

DRILL_OPEN = Message(
    "drill-open",
    "warning",
    "a drill is open and waits for a word",
    "nothing: {by} has begun a drill, and its next step was not begun",
    "nothing until then; no other drill begins meanwhile, and everything else is as always",
    "poolwarden drill {pool} --resume goes on with it; poolwarden drill {pool} --abandon ends it",
    "not tried yet: {left}; {running}",
    "A maintenance window was left in the middle. Nothing is off or held by it.",
    "when its next step is begun, or it is abandoned",
)
LEFT_OFF = Message(
    "drill-host-not-back",
    "critical",
    "{name} is not back after a drill",
    "{name}: a drill has switched its power off; {why}",
    "tries on: it is owed its power as long as it reads OFF",
    "look at it at its BMC or console; poolwarden fence on {name}",
    "{name} is down, nothing ran on it; {running}",
    "A fire drill has switched an empty host off, and it did not come back by itself.",
    "when it is heard, or is no host of the pool any more",
)

ALL = (DRILL_OPEN, LEFT_OFF)
