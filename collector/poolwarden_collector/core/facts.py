"""What agents say about hosts, as values on the collector's clock.

Rules
-----
* Every instant (``Ms``) is milliseconds on the collector's monotonic clock: the gateway converts an agent's stamps
  when a message arrives, so nothing in the core ever compares two hosts' clocks.
* ``UNKNOWN`` is a value of its own. An unreadable flag is never "no".
* Facts are immutable; a report replaces them whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

Ms = int
HostId = str
PoolId = str


class Tri(Enum):
    """Three-valued truth: an unreadable flag is unknown, never no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Role(Enum):
    """A host's role, from pool.conf or from the running process (xapi: ocaml/xapi/pool_role.ml)."""

    MASTER = "master"
    MEMBER = "member"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class Liveness(Enum):
    """How a xapi behaves on one of its sockets."""

    ANSWERS = "answers"
    DOWN = "down"
    STARTING = "starting"
    SILENT = "silent"
    UNKNOWN = "unknown"


class ProbeOutcome(Enum):
    """What a probe of a host's xapi found; an accepted connection is not an answer."""

    ANSWERED = "answered"
    REFUSED = "refused"
    NO_ANSWER = "no answer"
    UNREACHABLE = "unreachable"
    NOT_XAPI = "not xapi"
    UNKNOWN = "unknown"


class Power(Enum):
    """Power as a fence device reads it: three-valued, a failed reading is UNKNOWN."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """Identity of one xapi process: pid and start time in clock ticks since boot (proc(5), field 22 of stat)."""

    pid: int
    start_ticks: int

    def __bool__(self) -> bool:
        return self.pid != 0


@dataclass(frozen=True, slots=True)
class Machine:
    """DMI identity of the machine and what its dom0 knows of its BMC, empty strings where not known."""

    system_uuid: str = ""
    system_serial: str = ""
    bmc_address: str = ""
    board_serial: str = ""
    chassis_serial: str = ""
    bmc_guid: str = ""  # as the BMC tells its own host over the system interface (IPMI: Get System/Device GUID)
    vendor: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One host's own probe of another host's xapi (system.isAlive over TLS on TCP 443)."""

    target: HostId
    address: str
    outcome: ProbeOutcome
    probed_at: Ms
    answered_at: Ms | None = None
    unanswered_since: Ms | None = None
    certificate: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """pool.conf now, and the running process's role as far as known."""

    pool_conf: Role = Role.UNKNOWN
    master_address: str = ""
    running: Role = Role.UNKNOWN
    running_master_address: str = ""
    serves_as_master: bool = False
    serves_since: Ms | None = None


@dataclass(frozen=True, slots=True)
class XapiHealth:
    """How xapi behaves as its own host sees it, for people: a word, a sentence, what helps."""

    word: str
    text: str
    help: str
    since: Ms | None = None


@dataclass(frozen=True, slots=True)
class XapiFacts:
    """The local xapi by its behaviour on both sockets, and its emergency flag."""

    liveness: Liveness = Liveness.UNKNOWN
    liveness_since: Ms | None = None
    socket_liveness: Liveness = Liveness.UNKNOWN
    socket_since: Ms | None = None
    process: ProcessId = ProcessId(0, 0)
    emergency: Tri = Tri.UNKNOWN
    emergency_code: str = ""
    emergency_text: str = ""
    orphaned: bool = False
    orphaned_since: Ms | None = None
    startup_cookie: bool = False
    init_complete: bool = False
    health: XapiHealth | None = None
    slow_ms: Ms = 0  # how long the last late answer took, where one came within a minute; 0: answers come in time


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The database file that this host's xapi would load next."""

    generation: int = 0
    loaded_from: str = ""
    changed_at: Ms | None = None
    ha_armed: Tri = Tri.UNKNOWN
    rolling_upgrade: Tri = Tri.UNKNOWN


@dataclass(frozen=True, slots=True)
class Hold:
    """The durable hold of a toolstack fence, as the held host's agent sees it."""

    term: int
    stopped: bool = False
    ports_closed: bool = False
    since: Ms | None = None
    text: str = ""


class GateState(Enum):
    """A host's boot gate: may xapi start as master in this boot?"""

    UNGATED = "ungated"
    ASKING = "asking"
    SHUT = "shut"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BootGate:
    """The boot gate of one host in its present boot; ``term`` 0: no collector's word decided it."""

    state: GateState = GateState.UNKNOWN
    reason: str = ""
    since: Ms | None = None
    term: int = 0


class DiskLevel(Enum):
    """How full its agent finds a file system; UNKNOWN: it does not judge that one."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    FULL = "full"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Filler:
    """A place that is known to fill up, and what was found in it."""

    path: str
    what: str
    bytes: int
    files: int
    biggest: str
    biggest_bytes: int


@dataclass(frozen=True, slots=True)
class Cleanable:
    """What a person could delete there, by which command; nothing of Poolwarden ever does."""

    path: str
    what: str
    bytes: int
    files: int
    command: str


@dataclass(frozen=True, slots=True)
class Filling:
    """What fills a host's disks, looked at while a level is crossed; ``partial``: everything is at least that much."""

    fillers: tuple[Filler, ...] = ()
    cleanable: tuple[Cleanable, ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system of dom0, bytes and inodes (0 inodes in all: the file system has none)."""

    mount: str
    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int
    own_mount: bool
    level: DiskLevel = DiskLevel.UNKNOWN
    level_since: Ms | None = None
    growth_per_hour: int = 0  # bytes, steady growth; 0: none
    full_in_ms: Ms = 0  # at that growth; 0: it does not fill up
    read_only: bool = False

    @property
    def used_percent(self) -> float:
        return 100.0 * (self.total_bytes - self.free_bytes) / self.total_bytes if self.total_bytes else 0.0

    @property
    def inodes_used_percent(self) -> float:
        return 100.0 * (self.total_inodes - self.free_inodes) / self.total_inodes if self.total_inodes else 0.0


@dataclass(frozen=True, slots=True)
class PoolHost:
    """A host as the pool's own database has it."""

    host: HostId
    name: str
    address: str
    enabled: bool
    live: bool
    unplugged_srs: tuple[str, ...] = ()
    default_sr_unplugged: bool = False


@dataclass(frozen=True, slots=True)
class PoolView:
    """The pool as its serving master sees it."""

    pool: PoolId
    name: str
    master: HostId
    hosts: tuple[PoolHost, ...] = ()
    ha_enabled: Tri = Tri.UNKNOWN
    rolling_upgrade: Tri = Tri.UNKNOWN
    busy_tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """A VM as a database file has it; ``host`` is empty where it is nowhere: halted, or on no host of that file."""

    vm: str
    host: HostId
    name: str = ""


@dataclass(frozen=True, slots=True)
class PlacementView:
    """Where the database that a host's xapi would load places running VMs."""

    readable: bool
    generation: int = 0
    source: str = ""
    placements: tuple[Placement, ...] = ()
    text: str = ""
    hosts: tuple[HostId, ...] = ()  # every host in that file; none where its agent does not tell them


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Durable mark on a superseded master, as its agent reports it."""

    term: int
    successor: HostId = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """When each group of facts was last observed, not last changed; ``None``: never."""

    host: Ms | None = None
    xapi: Ms | None = None
    probes: Ms | None = None
    pool_view: Ms | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """A physical network interface; ``bond``: the one that it is in."""

    name: str
    link: Tri = Tri.UNKNOWN
    speed_mbit: int = 0
    bond: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate on a host; ``days_left`` as of when it was told, ``None``: it cannot be read."""

    name: str
    days_left: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class MultipathMap:
    """A multipath device: paths that are up, there, and the most ever seen."""

    name: str
    up: int
    paths: int
    most: int


@dataclass(frozen=True, slots=True)
class Around:
    """What surrounds xapi on a host. For people: nothing decides by it."""

    services: tuple[tuple[str, str], ...] = ()
    management_interface: str = ""
    management_link: Tri = Tri.UNKNOWN
    nics: tuple[Nic, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    maps: tuple[MultipathMap, ...] = ()
    swap_total: int = 0
    swap_free: int = 0
    build: str = ""
    xen: str = ""
    kernel: str = ""
    database_written_at: Ms | None = None  # when the file that xapi would load was last written
    clock_offset_ms: Ms | None = None  # how far that host's clock is ahead of this collector's


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Everything that the newest reports of one agent say, deltas merged."""

    observed: Freshness = Freshness()
    role: RoleFacts = RoleFacts()
    xapi: XapiFacts = XapiFacts()
    database: DatabaseFacts = DatabaseFacts()
    disks: tuple[Disk, ...] = ()
    memory_total: int = 0
    memory_available: int = 0
    domains: tuple[str, ...] | None = None
    probes: tuple[Probe, ...] = ()
    pool_view: PoolView | None = None
    tombstone: Tombstone | None = None
    address: str = ""
    product: str = ""
    xapi_version: str = ""
    hold: Hold | None = None
    boot_gate: BootGate | None = None
    filling: Filling | None = None
    around: Around = Around()
    machine: Machine | None = None  # what its BMC tells its own dom0 is learnt after the Hello
    gc_term: int = 0  # the promotion since which storage's garbage collection is held there; 0: it is not

    def probe_of(self, target: HostId) -> Probe | None:
        """This host's newest probe of ``target``, if it probes it."""
        return next((probe for probe in self.probes if probe.target == target), None)


@dataclass(frozen=True, slots=True)
class Hello:
    """How an agent opened its stream."""

    host: HostId
    pool: PoolId
    boot_id: str
    name: str
    address: str
    agent_version: str
    capabilities: frozenset[str]
    machine: Machine = Machine()
    highest_epoch: int = 0
    highest_term: int = 0
    tombstone: Tombstone | None = None
    last_results: tuple[OrderOutcome, ...] = ()
    python_version: str = ""
    hold: Hold | None = None
    boot_gate: BootGate | None = None
    fence_agents: frozenset[str] = frozenset()  # names of the fence agents that it may run for others


class Outcome(Enum):
    """How an agent ended an order; DONE of promote and repoint means that xapi accepted the call, no more."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """What a host answered to a claim: its last look at the old master and its database's placements."""

    last_look: Probe | None = None
    placements: PlacementView | None = None
    veto: str = ""


@dataclass(frozen=True, slots=True)
class DatabasePiece:
    """A piece of a host's database file; ``sha256`` is of the whole file, an empty chunk is its end."""

    path: str
    generation: int
    total_bytes: int
    offset: int
    chunk: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class VmPlace:
    """Where a VM could start now by the serving master's word: host -> XenAPI's refusal, empty where it can."""

    vm: str
    name: str = ""
    power_state: str = ""
    hosts: tuple[tuple[HostId, str], ...] = ()
    text: str = ""


class Said(Enum):
    """What a xapi says of its own role to whoever asks without a session (xapi: ocaml/xapi/xapi_session.ml)."""

    SILENT = "silent"
    FOLLOWS = "follows"
    ACTS = "acts"
    UNTOLD = "untold"  # the host is alive, and tells no role on any port: it may be filtered, it is not silent


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """One host's answer, asked by an agent; ``followed_answers``: a xapi is alive at the address that it follows."""

    host: HostId
    said: Said
    follows: str = ""
    followed_answers: bool = False
    certificate: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """An agent's answer to an order."""

    order_id: str
    kind: str
    outcome: Outcome
    reason: str = ""
    text: str = ""
    replayed: bool = False
    epoch: int = 0
    term: int = 0
    claim: ClaimOutcome | None = None
    probes: tuple[Probe, ...] = ()
    nonce: str = ""
    placements: PlacementView | None = None
    database: DatabasePiece | None = None
    vm_places: tuple[VmPlace, ...] = ()
    hold: Hold | None = None
    roles: tuple[RoleAnswer, ...] = ()
    fence_run: FenceRun | None = None


@dataclass(frozen=True, slots=True)
class FenceRun:
    """What a fence agent said that a member ran, without secret values; ``code`` counts only if the order is DONE."""

    code: int
    output: str
    errors: str
    text: str


class Trouble(Enum):
    """Why a fence device did not do what it was asked; ``NONE`` if it did."""

    NONE = ""
    PASSWORD = "wrong-password"  # it refuses the name or the password, or the account may not do this
    UNREACHABLE = "unreachable"
    AGENT = "agent-missing"  # the fence agent is not installed, or cannot be started
    HUNG = "hung"  # it had not ended at its hard limit
    FAILED = "failed"  # anything else


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a fence device itself says of the machine that it switches; ``text`` says why it tells nothing.

    ``uuids``: system UUIDs (DMTF DSP0266, ComputerSystem.UUID) or GUIDs (IPMI 2.0, 22.14), lower case; ``serials``:
    of product, chassis and board.
    """

    uuids: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.uuids or self.serials)


@dataclass(frozen=True, slots=True)
class PowerReading:
    """One run of a fence agent's ``status``: what it read, and between which instants.

    ``identity`` is what the device said of its machine right before; ``None``: it was not asked in this run.
    """

    power: Power
    device: str
    started_at: Ms
    ended_at: Ms
    text: str = ""
    identity: DeviceIdentity | None = None
    trouble: Trouble = Trouble.NONE
    monitor: str | None = None  # why its `monitor` failed, empty if it did not; None: it was not asked in this run
    status_ms: Ms = 0  # how long `status` itself took
    through: HostId = ""  # the member that ran it; empty: the collector itself

    @property
    def true_at(self) -> Ms:
        """The instant of which it speaks, at the latest that is certain: a member's word is as old as the question."""
        return self.started_at if self.through else self.ended_at


@dataclass(frozen=True, slots=True)
class FenceDevice:
    """A configured fence device of a host; the core knows its name and level, never its parameters.

    ``block`` is a digest of its agent and of the parameters that are no secret: another block is another device.
    """

    name: str
    host: HostId
    level: int = 1
    hard_limit_ms: int = 40_000
    block: str = ""
    agent: str = ""  # the name of its fence agent, without folder
    via_members: bool = False  # its agent is run by another member of its host's pool


@dataclass(frozen=True, slots=True)
class HostInventory:
    """Devices by host, from the configuration."""

    devices: dict[HostId, tuple[FenceDevice, ...]] = field(default_factory=dict)
