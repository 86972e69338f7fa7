"""What agents say about hosts, as values on the collector's clock.

Rules
-----
* Every instant (``Ms``) is milliseconds on the collector's monotonic clock: the gateway converts an agent's stamps
  when a message arrives, so nothing in the core ever compares two hosts' clocks.
* ``UNKNOWN`` is a value of its own. An unreadable flag is never "no".
* Facts are immutable; a report replaces them whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolwarden_collector.core.model.installation import Installation
from poolwarden_collector.core.model.values import HostId, Ms, PoolId, ProcessId, Role, Tri


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
    health: XapiHealth | None = None
    slow_ms: Ms = 0  # how long the last late answer took, where one came within a minute; 0: answers come in time
    unasked_starts: int = 0  # in the last ten minutes, by no order, release or boot; an older agent counts none
    ended_at: Ms | None = None  # when a process was last found gone


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The database file that this host's xapi would load next."""

    generation: int = 0
    loaded_from: str = ""
    changed_at: Ms | None = None
    ha_armed: Tri = Tri.UNKNOWN
    rolling_upgrade: Tri = Tri.UNKNOWN
    sound: Tri = Tri.UNKNOWN  # could xapi load it, as far as one pass over it shows
    unsound_text: str = ""


@dataclass(frozen=True, slots=True)
class ToolstackHold:
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
class MemoryUser:
    """A process of dom0 that uses much memory, bytes."""

    name: str
    pid: int
    bytes: int


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
    guidances: tuple[str, ...] = ()  # what installed updates still need there, in xapi's words: "reboot_host", ...
    https_only: Tri = Tri.UNKNOWN  # TCP 80 is closed to other hosts


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
class HostEnvironment:
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


class Finding(Enum):
    """What a host has shown of an assumption; what it has not shown yet is not told at all."""

    HOLDS = "holds"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class AssumptionSeen:
    """One assumption of poolwarden/assumptions.py, as one host has shown it."""

    id: str
    finding: Finding
    evidence: str = ""
    release: str = ""  # on which it was seen, in the agent's words
    seen_at: Ms | None = None  # None: in an earlier boot, or not told


@dataclass(frozen=True, slots=True)
class AssumptionsSeen:
    """Everything that a host has shown of them; ``unknown``: how many it told that this collector's table lacks."""

    results: tuple[AssumptionSeen, ...] = ()
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class XapiTrouble:
    """Why a host's xapi does not start, as its agent read it in the logs. For people: nothing decides by it.

    ``cause``: a stable word (poolwarden/xapi_causes.py); ``unknown``: no known one.
    """

    cause: str
    sentence: str
    help: str = ""
    lines: tuple[str, ...] = ()
    looked_at: Ms | None = None
    ended_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class StorageLink:
    """One host's attachment of a storage repository (a PBD); ``where``: server and path, empty on the host itself."""

    host: HostId
    attached: bool
    where: str = ""


@dataclass(frozen=True, slots=True)
class StorageRepository:
    """A storage repository as the serving master told it."""

    uuid: str
    name: str
    type: str = ""
    shared: bool = False
    default: bool = False
    links: tuple[StorageLink, ...] = ()


@dataclass(frozen=True, slots=True)
class StorageStall:
    """What hangs on a host: a mount of a repository, or a process that waits for its disk (``mounted`` False)."""

    what: str  # a mount: what is mounted, without the repository's own directory: "10.0.0.9:/vms"
    since: Ms | None = None
    mounted: bool = False
    server: str = ""
    repository: str = ""  # UUID, by the directory where it is mounted


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """A host's storage. For people: nothing decides by it."""

    repositories: tuple[StorageRepository, ...] = ()
    stalls: tuple[StorageStall, ...] = ()
    errors: tuple[str, ...] = ()


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
    hold: ToolstackHold | None = None
    boot_gate: BootGate | None = None
    filling: Filling | None = None
    around: HostEnvironment = HostEnvironment()
    machine: Machine | None = None  # what its BMC tells its own dom0 is learnt after the Hello
    trouble: XapiTrouble | None = None
    storage: StorageFacts = StorageFacts()
    gc_term: int = 0  # the promotion since which storage's garbage collection is held there; 0: it is not
    memory_level: DiskLevel = DiskLevel.UNKNOWN  # dom0's memory, as its agent judges it; never FULL
    memory_level_since: Ms | None = None
    memory_empty_in_ms: Ms = 0  # at the present trend; 0: it does not come to that
    memory_users: tuple[MemoryUser, ...] = ()  # while a level is crossed, the biggest first
    assumptions: AssumptionsSeen | None = None  # None: its agent tells nothing of them
    installation: Installation = Installation()

    def probe_of(self, target: HostId) -> Probe | None:
        """This host's newest probe of ``target``, if it probes it."""
        return next((probe for probe in self.probes if probe.target == target), None)
