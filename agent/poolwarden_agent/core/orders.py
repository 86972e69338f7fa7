"""Orders as plain values: what is common to all kinds, one small tuple for each kind, and the words for how one ended.

The contract's message becomes such a value once (messages/orders.py); nothing below that sees the message. All limits
are milliseconds; a 0 or an empty text where the contract allows it means that the order does not say.
"""

from typing import Any, Dict, NamedTuple, Tuple

from poolwarden_agent.core.host_now import Process
from poolwarden_agent.core.piece import Piece

LONGEST_VALID_MS = 300000
LONGEST_ID = 200  # ids are stored; the slots are small
AS_MEMBER, AS_MASTER = "member", "master"
DONE, REFUSED, FAILED, UNKNOWN = "done", "refused", "failed", "unknown"

# A host that is to be probed or asked; port 0: the usual one.
Target = NamedTuple("Target", [("host", str), ("address", str), ("port", int)])


class Claim(NamedTuple):
    """Store the order's term, look at the old master once more, say whom this host's database would terminate."""

    old_master: Target
    probe_timeout_ms: int
    want_placements: bool


class Promote(NamedTuple):
    """Become master; ``hold_gc``: with storage's garbage collection held first."""

    hold_gc: bool


class Repoint(NamedTuple):
    """Become member of the master at this address; ``master``: its UUID, empty where the order does not say."""

    address: str
    master: str = ""


class RestartXapi(NamedTuple):
    """Restart xapi; ``as_master_ok``: also where pool.conf says master."""

    as_master_ok: bool


class SetTombstone(NamedTuple):
    """Remember who has succeeded this host at the order's term; ``clear``: forget it."""

    clear: bool
    successor: str
    address: str


class ToolstackFence(NamedTuple):
    """Stop the toolstack and hold it stopped."""

    successor: str


class ToolstackRelease(NamedTuple):
    """End the hold and start xapi as master or as member of ``address``.

    ``restore``: the generation of the placed database with which a master's xapi starts; 0: its own.
    """

    release_as: str
    address: str
    restore: int
    master: str = ""  # whose address it is; empty: not said


class PlaceDatabase(NamedTuple):
    """Add a piece of a database for the next start of xapi as master, or remove what is placed."""

    piece: Piece
    chunk: bytes


class ReleaseGc(NamedTuple):
    """Let storage's garbage collection begin again."""


class SyncDatabase(NamedTuple):
    """Give every host the present database."""


class DesignateMaster(NamedTuple):
    """Make the host with this UUID the master, by the serving master's own switchover."""

    host: str


class DeclareHostDead(NamedTuple):
    """Tell xapi that this host is off."""

    host: str


class EnableHost(NamedTuple):
    """Let VMs start on this host."""

    host: str


class RecoverMembers(NamedTuple):
    """Tell every member to follow this master."""


class StartVm(NamedTuple):
    """Start this VM on this host; ``only_if_wished``: only where its owner's wish stands and nothing is against it."""

    vm: str
    host: str
    only_if_wished: bool = False


class ProbeNow(NamedTuple):
    """Probe these hosts now; ask ``ask_role`` what they are."""

    targets: Tuple[Target, ...]
    probe_timeout_ms: int
    nonce: str
    ask_role: Tuple[Target, ...]


class CollectEvidence(NamedTuple):
    """Say what this host's database says, or why its xapi does not start."""

    want_placements: bool
    want_xapi_trouble: bool = False


class ReadDatabase(NamedTuple):
    """Give a piece of the database file; empty path: the one that xapi would load."""

    path: str
    offset: int
    max_bytes: int


class LocateVms(NamedTuple):
    """Say where each of these VMs could start."""

    vms: Tuple[str, ...]


class ShowMessage(NamedTuple):
    """Show this in the pool (pool_message.py)."""

    key: str
    name: str
    priority: int
    body: str
    repeated: bool


class FenceProxy(NamedTuple):
    """Run a fence agent for another host's power (fence_order.py)."""

    agent: str
    action: str
    parameters: Dict[str, str]
    limit_ms: int
    host: str
    secrets: Tuple[str, ...]
    target_address: str


# Each kind's name in the contract (agent_link.proto: Order.kind).
NAMES: Dict[type, str] = {
    Claim: "claim",
    Promote: "promote",
    Repoint: "repoint",
    RestartXapi: "restart_xapi",
    SetTombstone: "set_tombstone",
    ToolstackFence: "toolstack_fence",
    ToolstackRelease: "toolstack_release",
    PlaceDatabase: "place_database",
    ReleaseGc: "release_gc",
    SyncDatabase: "sync_database",
    DesignateMaster: "designate_master",
    DeclareHostDead: "declare_host_dead",
    EnableHost: "enable_host",
    RecoverMembers: "recover_members",
    StartVm: "start_vm",
    ProbeNow: "probe_now",
    CollectEvidence: "collect_evidence",
    ReadDatabase: "read_database",
    LocateVms: "locate_vms",
    FenceProxy: "fence_proxy",
    ShowMessage: "show_message",
}


class Order(NamedTuple):
    """What is common to all orders, its preconditions among it, and ``body``: the tuple of its kind.

    ``body`` None: a kind that this agent does not know; the gate refuses it. ``echo_mono_ms`` is on this host's clock.
    """

    order_id: str
    epoch: int
    term: int
    pool: str
    host: str
    boot_id: str
    echo_mono_ms: int
    valid_for_ms: int
    pool_conf_in: Tuple[str, ...]
    pool_conf_address: str
    ha_off: bool
    process: Process
    min_root_free_bytes: int
    not_tombstoned: bool
    body: Any
    signed: bool = False  # it came in content that the pinned order key has signed
    approved_by: str = ""  # the operator on whose word it rests; empty: nobody was asked

    @property
    def kind(self) -> str:
        """Its kind's name; empty: this agent does not know it."""
        return NAMES.get(type(self.body), "")
