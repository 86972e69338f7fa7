"""A host without files and sockets; it can die before and after each save and each act, as by kill -9."""

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, order_kinds, orders, probe_rules
from poolwarden_agent.core.boot_gate import Told
from poolwarden_agent.core.local_policy import LocalPolicy
from poolwarden_agent.core.start_wish import StartWish
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.dom0.xapi import database as statedb
from poolwarden_agent.host_port import (
    Act,
    DatabasePiece,
    Disk,
    Emergency,
    HostPort,
    Identity,
    PoolHost,
    PoolView,
    Toolstack,
    VmPlace,
)

from .tree import HOST, OTHER, POOL

ANSWERED = probe_rules.ProbeResult(probe_rules.ANSWERED, "cert", "answered")
SILENT = probe_rules.ProbeResult(probe_rules.NO_ANSWER, "", "silent")


class Killed(BaseException):
    """kill -9: nothing catches it."""


class FakePort(HostPort):
    """``points`` lists each step reached; ``die_at`` is the number of the one to die at (from 0)."""

    def __init__(self):
        self.now = 100000
        self.saved = b""
        self.acts = []
        self.points = []
        self.die_at = None
        self.no_room = False
        self.conf = (host_now.MEMBER, "10.0.0.1")
        self.settled = True
        self.armed = False
        self.xapi = host_now.Process(500, 9000)
        self.cookie = True
        self.tcp = probe_rules.ANSWERED
        self.late_ms = 0  # how late the answer on TCP comes
        self.flag = Emergency(probe_rules.ANSWERED, False, "")
        self.names_master = "10.0.0.1"
        self.asked_member = 0
        self.view = None
        self.views = 0
        self.peers = {}
        self.source = ("var/lib/xcp/state.db", 42)
        self.pool = POOL
        self.parses = 0
        self.domain_list = ["vm-1"]
        self.address = "10.0.0.5"
        self.free = 10**9
        self.act_result = Act(orders.DONE, "xapi accepted it")
        self.act_works = True
        self.conf_error = ""
        self.able = tuple(kind for kind in order_kinds.KNOWN if kind != order_kinds.FENCE_PROXY)
        self.fences = None  # its fence_run.FenceAgents; None: it has none
        self.ports_open = True
        self.content = b"x" * 2500
        self.restore = None  # generation of the restore_db.db that is there
        self.half = b""
        self.probed_ports = []
        self.limits = []
        self.shown = []  # messages: name, key, and whether xapi's list was to be looked at first
        self.show_takes_ms = 0
        self.gc_result = Act(orders.DONE, "so it is")
        self.policy = LocalPolicy(fence_proxy=True, addresses="any", orders_per_hour=1000)
        self.hosts = ((HOST, "10.0.0.5"), (OTHER, "10.0.0.1"))  # of its own database
        self.roles = {}  # what each address says of its role; not there: nothing

    def point(self, name):
        self.points.append(name)
        if self.die_at is not None and len(self.points) - 1 == self.die_at:
            raise Killed(name)

    def mono_ms(self):
        return self.now

    def identity(self):
        return Identity(
            HOST,
            "h1",
            "boot-1",
            "dmi-1",
            "serial-1",
            "10.9.0.1",
            "XCP-ng",
            "8.3.0",
            "3.4.0",
            "board-1",
            "",
            "",
            "",
            "",
        )

    def local_policy(self):
        return self.policy

    def pool_hosts(self):
        return self.hosts

    def capabilities(self):
        return self.able

    def fence_agents(self):
        return self.fences.there() if self.fences is not None else ()

    def run_fence(self, name, given, limit_ms, secrets):
        self.point("before fence")
        return self.fences.run(name, given, limit_ms, secrets)

    def load_state(self):
        return self.saved

    def save_state(self, payload):
        self.point("before save")
        if self.no_room:
            raise SlotError("no room")
        self.saved = payload
        self.point("after save")

    def ask_role(self, address, limit_ms):
        return Told(*self.roles.get(address, ("silent", "")))

    def role(self):
        return self.conf

    def role_settled(self):
        return self.settled

    def ha_armed(self):
        return self.armed

    def process(self):
        return self.xapi

    def process_age_ms(self):
        return None if self.xapi == host_now.NO_PROCESS else self.now - self.xapi.start_ticks * 10

    def startup_cookie(self):
        return self.cookie

    def generation(self):
        return self.source

    def database(self):
        self.parses += 1
        if not self.pool:
            return statedb.View(False, 0, "", (), "", False, "unreadable")
        places = (statedb.Placement("vm-1", HOST, "web"),)
        return statedb.View(True, self.source[1], self.source[0], places, self.pool, False, "")

    def disks(self):
        return [Disk("/", 10**10, self.free, 1000, 900, True)]

    def memory(self):
        return 4096, 1024

    def domains(self):
        return self.domain_list

    def management_address(self):
        return self.address

    def alive_local(self, limit_ms):
        return probe_rules.ProbeResult(self.tcp, "", "", late_ms=self.late_ms)

    def alive_peer(self, address, limit_ms, port=443):
        self.probed_ports.append(port)
        return self.peers.get(address, probe_rules.ProbeResult(probe_rules.NO_ANSWER, "", "silent"))

    def running_master(self, limit_ms):
        self.asked_member += 1
        return self.names_master

    def emergency(self, limit_ms):
        return self.flag

    def pool_view(self, limit_ms):
        self.views += 1
        return self.view

    def _act(self, name, effect):
        self.point("before " + name)
        self.acts.append(name)
        if self.act_works:
            effect()
        self.point("after " + name)
        return self.act_result

    def promote(self, limit_ms):
        return self._act("promote", lambda: self._becomes((host_now.MASTER, "")))

    def repoint(self, address, limit_ms):
        return self._act("repoint", lambda: self._becomes((host_now.MEMBER, address)))

    def _becomes(self, conf):
        self.conf = conf
        self.settled = False

    def restart_xapi(self, limit_ms):
        return self._act("restart", self.new_process)

    def new_process(self):
        self.xapi = host_now.Process(self.xapi.pid + 1, self.now // 10)
        self.settled = True

    def write_member_conf(self, address):
        if self.conf_error:
            return self.conf_error
        self.point("before conf")
        self._becomes((host_now.MEMBER, address))
        self.point("after conf")
        return ""

    def hold_gc(self, limit_ms):
        self.acts.append("hold gc")
        return self.gc_result

    def release_gc(self, limit_ms):
        self.acts.append("release gc")
        return self.gc_result

    def stop_toolstack(self, limit_ms):
        return self._act("stop", self._stopped)

    def _stopped(self):
        self.xapi = host_now.NO_PROCESS
        self.ports_open = False

    def start_toolstack(self, limit_ms):
        return self._act("start", self._started)

    def _started(self):
        self.ports_open = True
        if self.xapi == host_now.NO_PROCESS:
            self.xapi = host_now.Process(900, self.now // 10)
            self.settled = True

    def toolstack(self):
        running = self.xapi != host_now.NO_PROCESS
        return Toolstack(not running, not self.ports_open, "xapi runs" if running else "")

    def read_database(self, path, offset, limit):
        if path not in ("", self.source[0]):
            return DatabasePiece(path, 0, 0, 0, b"", "", "no database file")
        chunk = self.content[offset : offset + limit]
        return DatabasePiece(self.source[0], self.source[1], len(self.content), offset, chunk, "sum", "")

    def restore_generation(self):
        return self.restore

    def place_piece(self, piece, chunk, pool):
        def placed():
            self.half = (self.half if piece.offset else b"")[: piece.offset] + chunk
            if piece.last:
                self.restore, self.half = piece.generation, b""

        return self._act("place", placed)

    def remove_placed(self):
        def removed():
            self.restore, self.half = None, b""

        return self._act("remove", removed)

    def serve(self, order, limit_ms, late):
        self.limits.append(limit_ms)
        return self._act(order.kind, lambda: None)

    def show_message(self, order, look, limit_ms):
        self.shown.append((order.body.name, order.body.key, look))
        self.now += self.show_takes_ms
        return self.act_result

    def locate_vms(self, vms, limit_ms):
        places = ((HOST, ""), (OTHER, "HOST_DISABLED h2"))
        return [VmPlace(vm, "web", "Halted", places, "", StartWish(True, "", 2, 30)) for vm in vms]


def serving_view(master=HOST):
    hosts = (PoolHost(HOST, "h1", "10.0.0.5", True, True),)
    return PoolView(POOL, "lab", master, hosts, False, False)


def order(port, order_id="o1", **kind):
    """An order that the gate lets pass."""
    fields = {"epoch": 1, "term": 1, "pool_uuid": POOL, "host_uuid": HOST, "boot_id": "boot-1", "valid_for_ms": 5000}
    fields.update(kind.pop("fields", {}))
    return pb.Order(order_id=order_id, echo_mono_ms=port.now, **dict(fields, **kind))


def obey(side, message):
    answers, work = side.conversation.receive(pb.CollectorMessage(order=message))
    assert answers == []
    return side.executor.carry_out(work, side.conversation.settings.probe_timeout_ms)


KINDS = {
    "promote": {"promote": pb.Promote()},
    "repoint": {"repoint": pb.Repoint(master_address="10.0.0.2")},
    "restart": {"restart_xapi": pb.RestartXapi()},
    "tombstone": {"set_tombstone": pb.SetTombstone(successor_uuid=OTHER, successor_address="10.0.0.2")},
    "stop": {"toolstack_fence": pb.ToolstackFence(successor_uuid=OTHER)},
    "claim": {"claim": pb.Claim(old_master=pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1"))},
}
