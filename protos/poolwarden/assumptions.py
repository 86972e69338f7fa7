"""What Poolwarden believes of a real host, one line each: by whom it was said, what rests on it, and how it is seen.

The agent looks (``static`` ones at its start and daily, ``passive`` ones when they happen, the others in a drill) and
reports what it found; the collector does not do by itself on a host what rests on an assumption that failed there.
docs/verify-on-real-hosts.md is made from this table.

Both programs use it: it lies in the one package that both ship, and is written for Python 3.6.
"""

from typing import NamedTuple, Tuple

# How an assumption is seen.
STATIC, PASSIVE, DRILL = "static", "passive", "drill"

# What rests on an assumption. The gate, a tombstone, a hold and a guard act whatever is found: they restrict by themselves.
PROMOTION = "promotion"  # pool.emergency_transition_to_master, and what is verified after it
REPOINT = "repoint"  # pool.emergency_reset_master
RESTART = "restart"  # systemctl restart xapi.service
TOOLSTACK_FENCE = "toolstack fence"
BOOT_GATE = "boot gate"
HANDOVER = "handover"  # a database read on one host and placed on another
FORECAST = "forecast"  # which running VMs a start of xapi would terminate
PROBES = "probes"  # what members ask each other's xapi
POWER = "power"  # fence devices and which machine they switch
SWITCHOVER = "switchover"  # pool.designate_new_master
FOLLOWUPS = "follow-ups"  # declare dead, enable, start VMs, messages
DISK_GUARD = "disk guard"
OBSERVATION = "observation"  # what is only shown
FOOTPRINT = "footprint"

CAPABILITIES = (
    PROMOTION,
    REPOINT,
    RESTART,
    TOOLSTACK_FENCE,
    BOOT_GATE,
    HANDOVER,
    FORECAST,
    PROBES,
    POWER,
    SWITCHOVER,
    FOLLOWUPS,
    DISK_GUARD,
    OBSERVATION,
    FOOTPRINT,
)

Assumption = NamedTuple(
    "Assumption",
    [
        ("id", str),  # stable: lower case and dashes, e.g. "python-3.6"
        ("sentence", str),  # what is believed
        ("source", str),  # where it was read, or how it was inferred
        ("rests", Tuple[str, ...]),  # of CAPABILITIES
        ("how", str),  # STATIC, PASSIVE or DRILL
    ],
)

TABLE = (
    Assumption(
        "promote-exit-123",
        "After pool.emergency_transition_to_master xapi exits with status 123 after about 10 s and systemd restarts it.",
        "xapi: ocaml/xapi/xapi_fuse.ml, scripts/xapi.service (Restart=on-failure)",
        (PROMOTION,),
        PASSIVE,
    ),
)  # type: Tuple[Assumption, ...]

BY_ID = {assumption.id: assumption for assumption in TABLE}
