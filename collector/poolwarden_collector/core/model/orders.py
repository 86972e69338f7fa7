"""Orders that the core gives to agents, and the other effects that it asks of the shell.

Rules
-----
* An effect is performed only after the entries of the same step are durable (design: write-ahead).
* Every effect can be performed twice without harm: orders are idempotent by id at the agent's gate, a power reading
  changes nothing, a power-off is idempotent at the BMC.
* The shell adds what the core does not know: epoch, pool, and the agent's last monotonic stamp that the order echoes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from poolwarden_collector.core.model.values import HostId, Ms, ProcessId, Role


@dataclass(frozen=True, slots=True)
class Target:
    """A xapi to probe: TLS on TCP 443, or with ``port`` 80 in the clear (to see a toolstack fence's closed port)."""

    host: HostId
    address: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Store the term, look at the old master once more, say what your database would do."""

    old_master: Target
    want_placements: bool = True


@dataclass(frozen=True, slots=True)
class ProbeNow:
    """Probe these hosts now and echo the nonce: evidence that cannot be older than the order."""

    targets: tuple[Target, ...]
    nonce: str
    ask_role: tuple[Target, ...] = ()  # whose members these are, asked on TCP 80; at most 2


@dataclass(frozen=True, slots=True)
class CollectEvidence:
    """Read the placements of the database file that your xapi would load, and look why it is not up."""

    want_placements: bool = True
    want_xapi_trouble: bool = False


@dataclass(frozen=True, slots=True)
class Promote:
    """xapi's pool.emergency_transition_to_master on this host. Carries no proof: only the engine holds one.

    ``hold_gc``: storage's garbage collection there is durably held first, until ReleaseGc.
    """

    hold_gc: bool = False


@dataclass(frozen=True, slots=True)
class Repoint:
    """xapi's pool.emergency_reset_master on this host, to ``master_address`` of the host ``master``."""

    master_address: str
    master: HostId = ""


@dataclass(frozen=True, slots=True)
class RestartXapi:
    """systemctl restart xapi on this host."""

    as_master_ok: bool = False


@dataclass(frozen=True, slots=True)
class SetTombstone:
    """Mark (or clear) this host as a superseded master."""

    successor: HostId = ""
    successor_address: str = ""
    clear: bool = False


@dataclass(frozen=True, slots=True)
class ToolstackFence:
    """Write the durable hold, then stop xapi and SM workers and keep them stopped; VMs run on."""

    successor: HostId = ""


@dataclass(frozen=True, slots=True)
class ToolstackRelease:
    """Lift the hold: as master (pool.conf untouched), or as a member of ``master_address`` (written there first)."""

    as_master: bool
    master_address: str = ""
    restore: int = 0  # as master: the generation of the placed database that xapi starts with; 0: its own file
    master: HostId = ""  # as a member: whose address that is


@dataclass(frozen=True, slots=True)
class ReleaseGc:
    """Storage's garbage collection on this host may begin again."""


@dataclass(frozen=True, slots=True)
class RecoverMembers:
    """xapi's pool.recover_slaves on the new master, for members without an agent."""


@dataclass(frozen=True, slots=True)
class ReadDatabase:
    """A piece of the database file that this host's xapi would load."""

    offset: int = 0
    max_bytes: int = 1 << 20
    path: str = ""


@dataclass(frozen=True, slots=True)
class PlaceDatabase:
    """A piece of a database for this host's next start as master; ``remove`` deletes what was placed."""

    generation: int = 0
    total_bytes: int = 0
    offset: int = 0
    chunk: bytes = b""
    sha256: str = ""
    remove: bool = False
    held_master: bool = False  # for the restart of a master whose toolstack is held at this very term


@dataclass(frozen=True, slots=True)
class DesignateMaster:
    """xapi's pool.designate_new_master on the serving master."""

    host: HostId


@dataclass(frozen=True, slots=True)
class SyncDatabase:
    """xapi's pool.sync_database on the serving master: every member gets the present database."""


@dataclass(frozen=True, slots=True)
class DeclareHostDead:
    """xapi's host.declare_dead on the serving master: its VMs become Halted, its storage locks are cleared."""

    host: HostId


@dataclass(frozen=True, slots=True)
class EnableHost:
    """xapi's host.enable on the serving master."""

    host: HostId


@dataclass(frozen=True, slots=True)
class StartVm:
    """xapi's VM.start_on on the serving master; ``only_if_wished``: by policy, while its owner wishes it."""

    vm: str
    host: HostId
    only_if_wished: bool = False


@dataclass(frozen=True, slots=True)
class LocateVms:
    """Ask the serving master where these VMs (at most 100) could start."""

    vms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FenceProxy:
    """Run a fence agent there for the power of ``host``. Made by the shell alone: the core knows no parameters."""

    agent: str
    action: str
    parameters: tuple[tuple[str, str], ...] = field(repr=False)
    limit_ms: int
    host: HostId
    secrets: tuple[str, ...] = ()  # names
    target_address: str = ""  # of ``host``: an ``off`` is refused if its xapi answers there right before it is begun


@dataclass(frozen=True, slots=True)
class ShowMessage:
    """xapi's message.create about the own pool, on the serving master. Made by the shell alone: it decides nothing.

    ``key``: of 16 hex digits, the same in each repetition; ``priority``: xapi's, 1..5; ``repeated``: an earlier attempt
    may have been shown.
    """

    key: str
    name: str
    priority: int
    body: str
    repeated: bool = False


OrderKind = (
    Claim
    | ProbeNow
    | CollectEvidence
    | Promote
    | Repoint
    | RestartXapi
    | SetTombstone
    | ToolstackFence
    | ToolstackRelease
    | ReleaseGc
    | RecoverMembers
    | ReadDatabase
    | PlaceDatabase
    | DesignateMaster
    | SyncDatabase
    | DeclareHostDead
    | EnableHost
    | StartVm
    | LocateVms
    | FenceProxy
    | ShowMessage
)

KIND_NAMES: dict[type, str] = {
    Claim: "claim",
    ProbeNow: "probe_now",
    CollectEvidence: "collect_evidence",
    Promote: "promote",
    Repoint: "repoint",
    RestartXapi: "restart_xapi",
    SetTombstone: "set_tombstone",
    ToolstackFence: "toolstack_fence",
    ToolstackRelease: "toolstack_release",
    ReleaseGc: "release_gc",
    RecoverMembers: "recover_members",
    ReadDatabase: "read_database",
    PlaceDatabase: "place_database",
    DesignateMaster: "designate_master",
    SyncDatabase: "sync_database",
    DeclareHostDead: "declare_host_dead",
    EnableHost: "enable_host",
    StartVm: "start_vm",
    LocateVms: "locate_vms",
    FenceProxy: "fence_proxy",
    ShowMessage: "show_message",
}


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What the host checks right before acting; empty and zero mean: any."""

    pool_conf_in: tuple[Role, ...] = ()
    pool_conf_master_address: str = ""
    ha_off: bool = False
    process: ProcessId = ProcessId(0, 0)
    min_root_free_bytes: int = 0
    not_tombstoned: bool = False


@dataclass(frozen=True, slots=True)
class Approval:
    """An operator's word that an order rests on: who, to which question, and when on the collector's clock."""

    by: str
    question: str
    at: Ms


@dataclass(frozen=True, slots=True)
class Order:
    """A command to one agent."""

    order_id: str
    host: HostId
    boot_id: str
    term: int
    kind: OrderKind
    valid_for_ms: int
    preconditions: Preconditions = Preconditions()
    valid_until: int = 0  # on the collector's clock, where that is earlier; 0: ``valid_for_ms`` alone
    approval: Approval | None = None  # None: nobody was asked

    @property
    def kind_name(self) -> str:
        return KIND_NAMES[type(self.kind)]
