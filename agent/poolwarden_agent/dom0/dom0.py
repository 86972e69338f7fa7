"""The real dom0 below a root directory ("/" in production): the port's real implementation.

Nothing here forks when idle: services are judged by files and sockets, domains come from xenstored's socket, memory and
processes from psutil, disks from the mount table and statvfs. DMI is read from sysfs, psutil has none of it.
``ROOT/usr/bin/systemctl`` is run only to restart, stop or start the toolstack.
"""

import os
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from poolwarden.xapi_causes import Trouble
from poolwarden_agent.config import HAND_OVER, OFF, Config
from poolwarden_agent.core.addresses import is_address
from poolwarden_agent.core.boot_gate import Told
from poolwarden_agent.core.collector_turns import joined
from poolwarden_agent.core.findings import Seen
from poolwarden_agent.core.gate_state import EMPTY, decode
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.local_policy import LocalPolicy
from poolwarden_agent.core.memory import User
from poolwarden_agent.core.order_kinds import (
    ELSEWHERE,
    FENCE_PROXY,
    IN_PLACE,
    KNOWN,
    ONE_COLLECTOR,
    OWN_FILE,
    SIGNED_ORDERS,
    START_WISHES,
)
from poolwarden_agent.core.orders import Order
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.core.probe_rules import ANSWERED, NO_ANSWER, REFUSED, ProbeResult
from poolwarden_agent.core.storage import Storage
from poolwarden_agent.dom0.evidence.folder import CapsuleFolder
from poolwarden_agent.dom0.fencing.agent_run import FenceAgents
from poolwarden_agent.dom0.fencing.bmc import Bmc
from poolwarden_agent.dom0.system import (
    address,
    boot_findings,
    files,
    latch,
    learned,
    memory_users,
    mounts,
    neighbours,
    order_key,
    policy_file,
    procfs,
    systemd,
    xenstore,
)
from poolwarden_agent.dom0.system.ballast import Ballast
from poolwarden_agent.dom0.system.clock import now_s
from poolwarden_agent.dom0.system.disk_usage import Filling
from poolwarden_agent.dom0.system.slots import SlotError, Slots
from poolwarden_agent.dom0.system.storage_mounts import StorageLook
from poolwarden_agent.dom0.system.surroundings import Reader, Surroundings, certificate_paths
from poolwarden_agent.dom0.xapi import database as statedb
from poolwarden_agent.dom0.xapi import probes, roles, session_calls, toolstack
from poolwarden_agent.dom0.xapi.client import Xapi
from poolwarden_agent.dom0.xapi.database_transfer import Handover
from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiFull, XapiTimeout, XapiUnreachable
from poolwarden_agent.dom0.xapi.local_port import LocalTcp
from poolwarden_agent.dom0.xapi.pool_view import PoolLook
from poolwarden_agent.host_port import (
    HTTP_PORT,
    TLS_PORT,
    Act,
    BootFacts,
    DatabasePiece,
    Disk,
    Emergency,
    FenceRun,
    HostPort,
    Identity,
    PinnedKeys,
    PoolView,
    Toolstack,
    VmPlace,
)

SLOTS = "var/lib/poolwarden"
# A hold that a reboot would lift is none: these are promised only where xapi's start asks the hold first.
HELD_BY_GATE = ("toolstack_fence", "toolstack_release")
LOCAL_LOOK_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


SETTLED_S = 10.0  # how long facts of a boot in which xapi was started are taken as they were


class Dom0(HostPort):
    """One dom0. Methods are safe to call from several threads; calls to xapi's socket are serialised."""

    def __init__(self, root: str, config: Config, clock: Callable[[], float] = now_s) -> None:
        self._root = root
        self._config = config
        self._clock = clock
        self._xapi = Xapi(os.path.join(root, "var/lib/xcp/xapi"), clock)
        self._local_tcp = LocalTcp(config.xapi_http[0], config.xapi_http[1], clock)
        self._slots = Slots(os.path.join(root, SLOTS))
        self._remark = ""
        self._handover = Handover(root)
        self._order_keys = order_key.OrderKeys(root)
        self._policy = policy_file.PolicyFile(root)
        self._ballast = Ballast(os.path.join(root, SLOTS))
        self._latch = latch.Latch(os.path.join(root, SLOTS))
        self._peers = boot_findings.Peers(root)
        self._reader = Reader(root, certificate_paths(root, config.certificate, config.ca))
        self._look = PoolLook()
        self._storage = StorageLook(root)
        self._bmc = Bmc(root, clock)
        self._fence_agents = FenceAgents(config.fence_agents, config.user)
        self._session_of = self._tcp_of = NO_PROCESS
        self._inventory = files.inventory(root)
        self._inventory_at = files.modified(root, files.INVENTORY)
        self._boot_facts = (0.0, None)  # type: Tuple[float, Optional[BootFacts]]
        self._identity = self._read_identity()
        self._capsules = CapsuleFolder(root, self._identity.boot_id) if config.evidence != OFF else None

    def mono_ms(self) -> int:
        return int(self._clock() * 1000)

    def identity(self) -> Identity:
        return self._identity

    def _read_identity(self) -> Identity:
        inventory = self._inventory
        name = files.host_name(self._root) or inventory.get("INSTALLATION_UUID", "")
        known = self._bmc.look()
        return Identity(
            inventory.get("INSTALLATION_UUID", ""),
            name,
            files.read(self._root, files.BOOT_ID) or "",
            files.read(self._root, "sys/class/dmi/id/product_uuid") or "",
            files.read(self._root, "sys/class/dmi/id/product_serial") or "",
            self._config.bmc_address or known.address,
            inventory.get("PRODUCT_BRAND", ""),
            inventory.get("PRODUCT_VERSION", ""),
            inventory.get("PLATFORM_VERSION", "") or inventory.get("PRODUCT_VERSION", ""),
            files.read(self._root, "sys/class/dmi/id/board_serial") or "",
            files.read(self._root, "sys/class/dmi/id/chassis_serial") or "",
            known.guid,
            files.read(self._root, "sys/class/dmi/id/sys_vendor") or "",
            files.read(self._root, "sys/class/dmi/id/product_name") or "",
        )

    def _refresh_inventory(self) -> None:
        """xapi rewrites the inventory when the management interface changes, an update when the version does."""
        known = self._bmc.look()
        address = self._config.bmc_address or known.address
        if (address, known.guid) != (self._identity.bmc_address, self._identity.bmc_guid):
            self._identity = self._identity._replace(bmc_address=address, bmc_guid=known.guid)
        at = files.modified(self._root, files.INVENTORY)
        if at == self._inventory_at:
            return
        found = files.inventory(self._root)
        # Half-written or gone: what was known stands, and is looked at again next time.
        if found.get("INSTALLATION_UUID", "") == self._identity.host:
            self._inventory, self._inventory_at = found, at
            self._identity = self._read_identity()._replace(boot_id=self._identity.boot_id)

    def capabilities(self) -> Tuple[str, ...]:
        gated = boot_findings.gated(self._root)
        policy = self._policy.look().policy
        fences = bool(self.fence_agents()) and policy.fence_proxy
        able = [kind for kind in KNOWN if (fences or kind != FENCE_PROXY) and kind not in policy.deny]
        promised = tuple(kind for kind in able if gated or kind not in HELD_BY_GATE)
        return (
            promised
            + ((IN_PLACE, OWN_FILE) if gated else ())
            + (SIGNED_ORDERS, ELSEWHERE, START_WISHES)
            + ((ONE_COLLECTOR,) if self._lists_one_address() else ())
        )

    def _lists_one_address(self) -> bool:
        """One collector's address and no other; a name may stand for several."""
        return len(self._config.collectors) == 1 and is_address(self._config.collectors[0][0])

    def capsules(self) -> Optional[CapsuleFolder]:
        return self._capsules

    def hands_over(self) -> bool:
        return self._config.evidence == HAND_OVER

    def fence_agents(self) -> Tuple[str, ...]:
        return self._fence_agents.there()

    def run_fence(self, name: str, given: bytes, limit_ms: int, secrets: Sequence[str]) -> FenceRun:
        return self._fence_agents.run(name, given, limit_ms, secrets)

    def identify_device(
        self, name: str, parameters: Dict[str, str], limit_ms: int, thorough: bool, secrets: Sequence[str]
    ) -> FenceRun:
        return self._fence_agents.identify(name, parameters, limit_ms, thorough, secrets)

    def collectors(self) -> Tuple[str, ...]:
        return tuple(joined(each) for each in self._config.collectors)

    def order_keys(self) -> PinnedKeys:
        return self._order_keys.look()

    def signature_fits(self, public: bytes, signature: bytes, data: bytes) -> bool:
        return order_key.fits(public, signature, data)

    def local_policy(self) -> LocalPolicy:
        return self._policy.look().policy

    def local_trouble(self) -> str:
        return self._order_keys.look().trouble or self._policy.look().trouble

    def pool_hosts(self) -> Optional[Tuple[Tuple[str, str], ...]]:
        return self._peers.hosts()

    def own_generation(self) -> int:
        return statedb.own_generation(self._root)

    def load_state(self) -> bytes:
        self._slots.prepare()
        self._latch.prepare()
        self._ballast.keep()
        payload = self._slots.load()
        try:
            self._remark = self._slots.mend()
        except SlotError as error:
            self._remark = "one slot alone holds what is durable: %s" % error
        self._latch.write(latch.word(decode(payload) if payload else EMPTY))
        return payload

    def state_remark(self) -> str:
        return self._remark

    def save_state(self, payload: bytes) -> None:
        said = latch.word(decode(payload))
        if said != latch.NONE:
            self._latch.write(said)  # safety: shut before anything relies on it, opened after nothing does
        self._slots.save(payload)
        self._latch.write(said)

    # ---------------------------------------------------------------------------------------------- files

    def role(self) -> Tuple[str, str]:
        return files.pool_conf(self._root)

    def role_settled(self) -> bool:
        started = files.modified(self._root, files.XAPI_PID)
        written = files.modified(self._root, files.POOL_CONF)
        return started is not None and written is not None and started >= written

    def ha_armed(self) -> Optional[bool]:
        return files.ha_armed(self._root)

    def process(self) -> Process:
        return Process(*files.xapi_process(self._root))

    def process_age_ms(self) -> Optional[int]:
        process = self.process()
        if process == NO_PROCESS:
            return None
        return max(0, self.mono_ms() - process.start_ticks * 1000 // _TICKS)

    def startup_cookie(self) -> bool:
        return files.exists(self._root, files.STARTUP_COOKIE)

    def generation(self) -> Tuple[str, int]:
        return statedb.loads(self._root)

    def database(self) -> statedb.View:
        return statedb.view(self._root, self._identity.host)

    def disks(self) -> List[Disk]:
        return mounts.disks(self._root)

    def xapi_trouble(self, ended_pid: int, running: bool) -> Trouble:
        from poolwarden_agent.dom0.xapi import trouble_look  # seldom: not held in memory before

        return trouble_look.look(self._root, self._reader, ended_pid, running)

    def storage(self) -> Storage:
        return self._storage.look(self.mono_ms())

    def surroundings(self) -> Surroundings:
        self._refresh_inventory()
        self._ballast.keep()  # where there was no room for it before
        return self._reader.read(self._inventory)

    def wall_ms(self) -> int:
        return int(time.time() * 1000)

    def database_written_s(self) -> int:
        path, _ = statedb.loads(self._root)
        return int(files.modified(self._root, path) or 0) if path else 0

    def look_at_assumptions(
        self, answers: Callable[[], Optional[bool]], placed: Callable[[], Optional[bool]], pids: Tuple[int, ...]
    ) -> Tuple[Dict[str, Seen], str]:
        from poolwarden_agent.dom0.assumptions import scene, static  # once a day: not held in memory before

        http, tls = self._config.xapi_http, self._config.xapi_tls_port
        return static.look(
            lambda: scene.Scene(self._root, http, tls, scene.this_machine(pids), answers, placed), time.sleep
        )

    def load_learned(self) -> bytes:
        return learned.load(os.path.join(self._root, SLOTS))

    def save_learned(self, data: bytes) -> None:
        learned.save(os.path.join(self._root, SLOTS), data)

    def init_complete(self) -> bool:
        return files.exists(self._root, files.INIT_COMPLETE)

    def log_end(self) -> Tuple[int, int]:
        return learned.log_end(self._root)

    def exit_since(self, log: Tuple[int, int]) -> Tuple[str, str]:
        return learned.exit_since(self._root, log)

    def linked_to(self, address: str) -> Optional[bool]:
        return learned.linked_to(self._root, address, self._config.xapi_tls_port)

    def look_for_fillers(self) -> Filling:
        return Filling(self._root)

    def memory(self) -> Tuple[int, int]:
        return procfs.memory(self._root)

    def memory_users(self) -> Tuple[User, ...]:
        return memory_users.biggest(self._root)

    def domains(self) -> Optional[List[str]]:
        return xenstore.running(os.path.join(self._root, "var/run/xenstored/socket"))

    def management_address(self) -> str:
        self._refresh_inventory()
        if self._config.management_address:
            return self._config.management_address
        version_6 = self._inventory.get("MANAGEMENT_ADDRESS_TYPE", "").lower() == "ipv6"  # as xapi compares it
        return address.of(self._inventory.get("MANAGEMENT_INTERFACE", ""), version_6)

    # ---------------------------------------------------------------------------------------------- xapi

    def alive_local(self, limit_ms: int) -> ProbeResult:
        process = self.process()
        if process != self._tcp_of:  # only this thread may give up what it waits for
            self._tcp_of = process
            self._local_tcp.forget()
        return self._local_tcp.look(limit_ms / 1000.0)

    def alive_peer(self, address: str, limit_ms: int, port: int = TLS_PORT) -> ProbeResult:
        if port == HTTP_PORT:
            return probes.is_alive(address, self._config.xapi_http[1], limit_ms / 1000.0, False)
        return probes.is_alive(address, self._config.xapi_tls_port, limit_ms / 1000.0, True)

    def ask_role(self, address: str, limit_ms: int) -> Told:
        ports = roles.Ports(self._config.xapi_tls_port, self._config.xapi_http[1])
        return roles.told(address, ports, limit_ms / 1000.0)

    def ask_roles(self, addresses: Sequence[str], limit_ms: int) -> Dict[str, Told]:
        return roles.of_all(addresses, lambda address: self.ask_role(address, limit_ms))

    def running_master(self, limit_ms: int) -> str:
        host, port = self._config.xapi_http
        return probes.member_of(host, port, limit_ms / 1000.0)

    def _same_process(self) -> None:
        process = self.process()
        if process != self._session_of:
            self._session_of = process
            self._xapi.forget()
            self._look.forget()

    def emergency(self, limit_ms: int) -> Emergency:
        self._same_process()
        try:
            return self._emergency(limit_ms)._replace(late_ms=self._xapi.late_ms)
        except XapiUnreachable:
            return Emergency(REFUSED, None, "")
        except XapiFault as fault:
            return Emergency(ANSWERED, None, fault.code, late_ms=self._xapi.late_ms)
        except XapiFull:
            return Emergency(NO_ANSWER, None, "", accepted=False)
        except XapiError:
            return Emergency(NO_ANSWER, None, "")

    def _emergency(self, limit_ms: int) -> Emergency:
        flag = self._xapi.local("host.is_in_emergency_mode", (), limit_ms / 1000.0, look=True)
        if not isinstance(flag, bool):
            return Emergency(ANSWERED, None, "")
        if not flag:
            return Emergency(ANSWERED, False, "")
        return Emergency(ANSWERED, True, self._emergency_code(limit_ms))

    def _emergency_code(self, limit_ms: int) -> str:
        try:
            self._xapi.local("host.local_assert_healthy", (), limit_ms / 1000.0, look=True)
        except XapiFault as fault:
            return fault.code
        except XapiError:
            return ""
        return ""

    def pool_view(self, limit_ms: int) -> Optional[PoolView]:
        self._same_process()
        deadline = time.monotonic() + limit_ms / 1000.0

        def ask(method: str, *params: Any) -> Any:
            return self._xapi.full(method, params, max(0.001, deadline - time.monotonic()))

        try:
            return self._look.look(ask)
        except (XapiError, LookupError, TypeError, AttributeError):  # the last three: not the shape of xapi's answer
            return None

    def promote(self, limit_ms: int) -> Act:
        return self._act("pool.emergency_transition_to_master", (), limit_ms)

    def repoint(self, address: str, limit_ms: int) -> Act:
        self._ballast.make_room()  # xapi is about to write pool.conf
        return self._act("pool.emergency_reset_master", (address,), limit_ms)

    def _act(self, method: str, params: Any, limit_ms: int) -> Act:
        try:
            self._xapi.local(method, params, limit_ms / 1000.0)
        except XapiFault as fault:
            return Act("failed", "xapi refused %s: %s" % (method, fault))
        except XapiError as error:
            if not error.asked:
                return Act("refused", "xapi could not be asked for %s: %s" % (method, error))
            if isinstance(error, XapiTimeout):
                return Act("unknown", "xapi did not answer %s within %d s" % (method, limit_ms // 1000))
            return Act("unknown", "%s: %s" % (method, error))
        return Act("done", "xapi accepted %s" % method)

    def restart_xapi(self, limit_ms: int) -> Act:
        systemctl, lock = self._systemd()
        return systemd.restart_xapi(systemctl, lock, self.process, limit_ms / 1000.0)

    def stop_toolstack(self, limit_ms: int) -> Act:
        return toolstack.stop(*self._systemd(), root=self._root, limit_s=limit_ms / 1000.0)

    def start_toolstack(self, limit_ms: int) -> Act:
        running = lambda: self.process() != NO_PROCESS  # noqa: E731
        return toolstack.start(*self._systemd(), running=running, limit_s=limit_ms / 1000.0)

    def hold_gc(self, limit_ms: int) -> Act:
        return toolstack.hold_gc(*self._systemd(), root=self._root, limit_s=limit_ms / 1000.0)

    def release_gc(self, limit_ms: int) -> Act:
        return toolstack.release_gc(*self._systemd(), limit_s=limit_ms / 1000.0)

    def _systemd(self) -> Tuple[str, str]:
        """systemctl, and the file whose lock keeps two of its runs apart."""
        return os.path.join(self._root, "usr/bin/systemctl"), os.path.join(self._root, SLOTS, "state.0")

    def let_wait(self) -> str:
        return boot_findings.let_wait(self._root, self._identity.boot_id)

    def note_let_wait(self, why: str) -> None:
        boot_findings.put(self._root, boot_findings.LET_WAIT, "%s %s" % (self._identity.boot_id, why))

    def boot_facts(self) -> Optional[BootFacts]:
        if not boot_findings.gated(self._root):
            return None
        at, known = self._boot_facts
        if known is not None and self._clock() - at < SETTLED_S:
            return known
        self._refresh_inventory()
        boot_id = self._identity.boot_id
        conf, master = boot_findings.found(self._root, boot_id) or self.role()
        peers, whole = self._peers.addresses(self._identity.host)
        marked = boot_findings.started(self._root, boot_id)
        begun = marked or self.process() != NO_PROCESS
        interface = self._inventory.get("MANAGEMENT_INTERFACE", "")
        link = boot_findings.link_up(self._root, interface)
        gateway = neighbours.gateway(self._root, interface)
        heard = gateway is None and neighbours.answers(self._root, list(peers))
        facts = BootFacts(conf, master, begun, peers, whole, link, gateway, heard)
        # The mark stays until the next boot, and where it is the rest of these facts decides nothing any more.
        self._boot_facts = (self._clock(), facts if marked else None)
        return facts

    def write_member_conf(self, address: str) -> str:
        if not is_address(address):
            return "%.60r is no IP literal" % address
        try:
            self._ballast.write(lambda: files.write_pool_conf(self._root, address))
        except OSError as error:
            return "pool.conf cannot be written: %s" % error
        return ""

    def serve(self, order: Order, limit_ms: int, late: session_calls.Late) -> Act:
        self._same_process()
        return session_calls.serve(self._asking(limit_ms), order, late)

    def show_message(self, order: Order, look: bool, limit_ms: int) -> Act:
        self._same_process()
        return session_calls.show(self._asking(limit_ms), order, self.wall_ms() if look else 0)

    def locate_vms(self, vms: List[str], limit_ms: int) -> List[VmPlace]:
        self._same_process()
        return session_calls.locate(self._asking(limit_ms), vms)

    def _asking(self, limit_ms: int) -> session_calls.Ask:
        """Calls that together take no longer than that, beside whatever else is asked."""
        deadline = time.monotonic() + limit_ms / 1000.0
        return lambda method, *params: self._xapi.order(method, params, max(0.001, deadline - time.monotonic()))

    def toolstack(self) -> Toolstack:
        host = self._config.xapi_http[0]
        ports = (self._config.xapi_http[1], self._config.xapi_tls_port)
        listening = [port for port in ports if not probes.refused(host, port, LOCAL_LOOK_S)]
        running = self.process() != NO_PROCESS
        text = ["xapi runs"] if running else []
        text += ["port %d is not closed" % port for port in listening]
        socket = toolstack.socket_served(os.path.join(self._root, "var/lib/xcp/xapi"))
        text += ["its Unix socket is served"] if socket else []
        working = toolstack.workers(self._root)
        text += ["storage is being worked on by %s" % worker for worker in working[:3]]
        return Toolstack(not running and not working and not socket, not listening, "; ".join(text))

    # ---------------------------------------------------------------------------------------------- databases

    def read_database(self, path: str, offset: int, limit: int) -> DatabasePiece:
        return self._handover.read(path, offset, limit)

    def restore_generation(self) -> Optional[int]:
        return self._handover.placed()

    def place_piece(self, piece: Piece, chunk: bytes, pool: str) -> Act:
        return self._handover.place(piece, chunk, pool)

    def remove_placed(self) -> Act:
        return self._handover.remove()

    def close(self) -> None:
        """Give xapi its sessions back."""
        self._xapi.logout()
