"""The kinds of orders: one row each.

A new kind: its tuple and name in orders.py, its row here with its rule in kind_rules.py, its conversion in
messages/orders.py, and what it does in the executor or in order_acts.py.
"""

from typing import Callable, NamedTuple, Optional, Tuple

from poolwarden_agent.core import kind_rules, orders
from poolwarden_agent.core.gate_state import GateState
from poolwarden_agent.core.host_now import HostNow

Rule = Callable[[GateState, orders.Order, HostNow], Optional[kind_rules.Refuse]]


class Kind(NamedTuple):
    """What the gate and the executor know of a kind.

    ``changes``: it leaves a started mark and a result in the durable state. ``replayed``: delivered again it gets that
    result. ``slow``: other orders do not wait for it. ``serving``: done through the serving master's own session.
    """

    body: type
    rule: Rule
    changes: bool = False
    replayed: bool = False
    slow: bool = False
    needs_ha_off: bool = False
    serving: bool = False

    @property
    def name(self) -> str:
        return orders.NAMES[self.body]


def _act(body: type, rule: Rule, needs_ha_off: bool = False) -> Kind:
    return Kind(body, rule, changes=True, replayed=True, needs_ha_off=needs_ha_off)


def _serving(body: type, needs_ha_off: bool = False) -> Kind:
    """What only the serving master can do, through its own xapi."""
    return Kind(body, kind_rules.serving, True, True, True, needs_ha_off, True)


KINDS: Tuple[Kind, ...] = (
    # A claim is looked at anew each time it arrives: a stored last look would be an old one.
    Kind(orders.Claim, kind_rules.none, changes=True),
    _act(orders.Promote, kind_rules.promote, needs_ha_off=True),
    _act(orders.Repoint, kind_rules.repoint, needs_ha_off=True),
    _act(orders.RestartXapi, kind_rules.restart, needs_ha_off=True),
    _act(orders.SetTombstone, kind_rules.tombstone),
    _act(orders.ToolstackFence, kind_rules.fence, needs_ha_off=True),
    _act(orders.ToolstackRelease, kind_rules.release),
    _act(orders.PlaceDatabase, kind_rules.place),
    _act(orders.ReleaseGc, kind_rules.none),
    _serving(orders.SyncDatabase),
    _serving(orders.DesignateMaster, needs_ha_off=True),
    _serving(orders.DeclareHostDead, needs_ha_off=True),
    _serving(orders.EnableHost),
    _serving(orders.RecoverMembers, needs_ha_off=True),
    _serving(orders.StartVm, needs_ha_off=True),
    Kind(orders.ProbeNow, kind_rules.none),
    Kind(orders.CollectEvidence, kind_rules.none),
    Kind(orders.ReadDatabase, kind_rules.none),
    Kind(orders.LocateVms, kind_rules.serving, slow=True),
    Kind(orders.ShowMessage, kind_rules.show, slow=True),
    # Its lane is not its kind but its device (fence_runs.py).
    Kind(orders.FenceProxy, kind_rules.for_another),
)
BY_NAME = {kind.name: kind for kind in KINDS}
KNOWN = tuple(kind.name for kind in KINDS)
MUTATING = tuple(kind.name for kind in KINDS if kind.changes)
REPLAYED = tuple(kind.name for kind in KINDS if kind.replayed)
SERVING = tuple(kind.name for kind in KINDS if kind.serving)
SLOW = tuple(kind.name for kind in KINDS if kind.slow)
NEEDS_HA_OFF = tuple(kind.name for kind in KINDS if kind.needs_ha_off)
FENCE_PROXY = orders.NAMES[orders.FenceProxy]
SHOW_MESSAGE = orders.NAMES[orders.ShowMessage]
LOOKING = tuple(kind.name for kind in KINDS if not kind.changes and kind.name not in (FENCE_PROXY, SHOW_MESSAGE))
SIGNED_ORDERS = "signed_orders"  # a capability beside the kinds: it opens Signed content
ELSEWHERE = "elsewhere"  # likewise: it goes where a collector sends it, and acknowledges the epoch of its Welcome
ONE_COLLECTOR = "one_collector"  # no promise: it lists one address alone, so only that collector can send it elsewhere
OWN_FILE = "start_with_own_file"  # likewise: what an earlier term has placed here is removed under a later hold
START_WISHES = "start_wishes"  # likewise: VmPlace says its owner's wish, StartVm keeps to it
IN_PLACE = "restart_in_place"  # a capability beside the kinds: the orders of a restart in place with a placed database
