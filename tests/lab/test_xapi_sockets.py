"""Driver 1: real processes on real sockets, spoken to by stock clients, and the same story as in virtual time."""

import asyncio
import contextlib
import http.client
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import XenAPI

from poolwarden_lab.statedb import parse_generation, parse_state
from poolwarden_lab.xapi import wire
from poolwarden_lab.xapi.actions import Answer, Fault
from poolwarden_lab.xapi.hypervisor import Domains, HypervisorServer
from poolwarden_lab.xapi.trees import HostTree, VmSpec, make_pool_disks, write_tree
from poolwarden_lab.xapi.virtual import VirtualPool

HTTP_PORT, TLS_PORT = 18080, 18443
FACTOR = 40.0
LIMIT_S = 20.0
_nets = itertools.count(os.getpid() % 200 + 20)
VMS = (VmSpec("web", 0), VmSpec("db", 1))


class Rig:
    """A pool of processes with their supervisor: restarts after every exit code but 0, and not after a kill."""

    def __init__(self, hosts: int, factor: float) -> None:
        net = next(_nets) % 250 + 1
        self.root = Path(f"/tmp/pwx{os.getpid()}n{net}")
        self.addresses = [f"127.0.{net}.{number + 1}" for number in range(hosts)]
        self.trees = make_pool_disks(hosts, "lab", VMS[:hosts], addresses=self.addresses)
        self.domains = {tree.name: Domains(tree.control_domain_uuid) for tree in self.trees}
        self.events: list[tuple[str, str]] = []
        self.exits: list[tuple[str, int]] = []
        self._factor = factor
        self._changed = threading.Condition()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._loop = asyncio.new_event_loop()
        self._closing = False
        for tree in self.trees:
            write_tree(tree, self.path(tree.name))
            for uuid, name in tree.vms.items():
                self.domains[tree.name].create(uuid, name)
            server = HypervisorServer(self.path(tree.name), self.domains[tree.name])
            self._loop.run_until_complete(server.start())
        self._run_thread(self._loop.run_forever)

    def path(self, host: str) -> Path:
        return self.root / host

    def tree(self, host: str) -> HostTree:
        return next(tree for tree in self.trees if tree.name == host)

    def start(self, *hosts: str) -> None:
        for host in hosts:
            self._run_thread(lambda host=host: self._supervise(host))

    def signal(self, host: str, number: int) -> None:
        self._processes[host].send_signal(number)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, LIMIT_S), self.events

    def wait_event(self, host: str, text: str, times: int = 1) -> None:
        self.wait(lambda: sum(1 for name, event in self.events if name == host and event.startswith(text)) >= times)

    def close(self) -> None:
        self._closing = True
        for process in list(self._processes.values()):
            process.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(LIMIT_S)
        self._loop.close()
        shutil.rmtree(self.root)

    def _run_thread(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _supervise(self, host: str) -> None:
        address = self.tree(host).address
        command = [sys.executable, "-m", "poolwarden_lab.xapi", "--root", str(self.path(host)), "--address", address]
        command += ["--time-factor", str(self._factor), "--http", f"{address}:{HTTP_PORT}", "--tls-port", str(TLS_PORT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        while not self._closing:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            self._processes[host] = process
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("EVENT "):
                    self._note(lambda line=line: self.events.append((host, line[6:].strip())))
            code = process.wait()
            self._note(lambda code=code: self.exits.append((host, code)))
            if code in (0, 2, -signal.SIGKILL):
                return

    def _note(self, act: Callable[[], None]) -> None:
        with self._changed:
            act()
            self._changed.notify_all()

    # -------------------------------------------------------------------------------- clients

    def tcp(self, host: str) -> XenAPI.Session:
        return XenAPI.Session(f"http://{self.tree(host).address}:{HTTP_PORT}")

    def unix(self, host: str) -> XenAPI.Session:
        path = str(self.path(host) / "var/lib/xcp/xapi").replace("/", "_")
        return XenAPI.Session(f"http://{path}/", transport=XenAPI.XenAPI.UDSTransport())

    def unix_call(self, host: str, method: str, *params: object, limit_s: float = 5.0) -> Answer | Fault:
        """One call on the Unix socket with a limit, which the stock client does not have."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(limit_s)
            link.connect(str(self.path(host) / "var/lib/xcp/xapi"))
            connection = http.client.HTTPConnection("xapi")
            connection.sock = link
            connection.request("POST", "/", wire.write_call(method, params), {"Content-Type": "text/xml"})
            response = connection.getresponse()
            assert response.status == 200
            return wire.read_result(response.read())

    def local(self, host: str, method: str, *params: object) -> Answer | Fault:
        session = self.unix_call(host, "session.slave_local_login_with_password", "root", "")
        assert isinstance(session, Answer)
        return self.unix_call(host, method, session.value, *params)


@contextlib.contextmanager
def rig_of(hosts: int, factor: float = FACTOR) -> Iterator[Rig]:
    rig = Rig(hosts, factor)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def single() -> Iterator[Rig]:
    with rig_of(1) as rig:
        rig.start("h1")
        rig.wait_event("h1", "init-complete")
        yield rig


def test_a_stock_client_logs_in_over_tcp_and_over_the_unix_socket(single: Rig) -> None:
    over_tcp = single.tcp("h1")
    over_tcp.xenapi.login_with_password("root", "xenroot", "1.0", "test")
    (pool,) = over_tcp.xenapi.pool.get_all()
    assert over_tcp.xenapi.pool.get_name_label(pool) == "lab"
    master = over_tcp.xenapi.pool.get_master(pool)
    record = over_tcp.xenapi.host.get_all_records()[master]
    assert record["uuid"] == single.tree("h1").uuid
    assert record["enabled"] is True
    assert str(next(iter(over_tcp.xenapi.host_metrics.get_all_records().values()))["last_updated"]).startswith("2026")
    with pytest.raises(XenAPI.Failure) as failure:
        over_tcp.xenapi.host.get_by_uuid("no")
    assert failure.value.details == ["UUID_INVALID", "host", "no"]
    over_tcp.xenapi.session.logout()
    over_unix = single.unix("h1")
    over_unix.xenapi.login_with_password("", "", "1.0", "test")
    assert over_unix.xenapi.session.get_this_host(over_unix.handle) == master
    local = single.unix("h1")
    local.slave_local_login_with_password("root", "")  # through .xenapi this client cannot
    assert local.xenapi.host.is_in_emergency_mode() is False
    local.logout()


def test_tls_serves_the_same_with_a_certificate_of_its_own(single: Rig) -> None:
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(single.tree("h1").address, TLS_PORT, context=context, timeout=5)
    for _ in range(2):  # the second on the same connection
        connection.request("POST", "/RPC2", wire.write_call("system.isAlive:x", ("x",)))
        assert wire.read_result(connection.getresponse().read()) == Answer("x")
    certificate = connection.sock.getpeercert(binary_form=True)
    connection.close()
    pem = (single.path("h1") / "etc/xensource/xapi-ssl.pem").read_text()
    assert certificate is not None and ssl.DER_cert_to_PEM_cert(certificate) in pem


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"404"),
        (b"POST /nowhere HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"500"),  # an empty call of "/"
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz", b"500"),
        (b"PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nContent-Length: 400000\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_nonsense_gets_an_error_and_does_no_harm(single: Rig, request_bytes: bytes, status: bytes) -> None:
    with socket.create_connection((single.tree("h1").address, HTTP_PORT), 5) as link:
        link.sendall(request_bytes)
        assert link.recv(100).split(b" ")[1] == status
    assert single.unix_call("h1", "system.isAlive:x", "x") == Answer("x")


def test_the_files_of_a_running_xapi(single: Rig) -> None:
    run = single.path("h1") / "var/run"
    pid = int((run / "xapi.pid").read_text())
    os.kill(pid, 0)
    assert (run / "xapi_startup.cookie").exists() and (run / "xapi_init_complete.cookie").exists()
    assert (single.path("h1") / "var/lib/xcp").stat().st_mode & 0o777 == 0o700
    single.signal("h1", signal.SIGTERM)
    single.wait(lambda: single.exits == [("h1", 0)])
    assert not (run / "xapi_startup.cookie").exists()
    directory = single.path("h1") / "var/lib/xcp"
    generation = parse_generation((directory / "state.db.generation").read_bytes())
    assert generation == parse_state((directory / "state.db").read_bytes()).generation > 1000


def test_a_hung_process_accepts_and_answers_nobody(single: Rig) -> None:
    single.signal("h1", signal.SIGUSR1)
    single.wait_event("h1", "hung")
    with pytest.raises(TimeoutError):
        single.unix_call("h1", "system.isAlive:x", "x", limit_s=0.3)
    with socket.create_connection((single.tree("h1").address, HTTP_PORT), 1) as link:
        link.settimeout(0.3)
        link.sendall(_alive_request())
        with pytest.raises(TimeoutError):
            link.recv(1)
        single.signal("h1", signal.SIGUSR2)
        link.settimeout(LIMIT_S)
        assert b"200 OK" in link.recv(100)


def _alive_request() -> bytes:
    body = wire.write_call("system.isAlive:x", ("x",))
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def test_a_slow_process_answers_late(single: Rig) -> None:
    (single.path("h1") / "var/run/lab-xapi-faults").write_text("slow=400\n")
    single.signal("h1", signal.SIGHUP)
    single.wait_event("h1", "slow")
    began = time.monotonic()
    assert single.unix_call("h1", "system.isAlive:x", "x") == Answer("x")
    assert time.monotonic() - began >= 0.39


def test_a_port_that_is_taken_ends_the_process_with_a_reason() -> None:
    with rig_of(1) as rig, socket.create_server((rig.tree("h1").address, HTTP_PORT)):
        rig.start("h1")
        rig.wait(lambda: rig.exits == [("h1", 2)])


def test_the_kill_rule_really_kills() -> None:
    with rig_of(1) as rig:
        rig.domains["h1"].create("11111111-0000-0000-0000-000000000001", "unknown to the database")
        rig.start("h1")
        rig.wait_event("h1", "init-complete")
        assert [kill.name for kill in rig.domains["h1"].kills] == ["unknown to the database"]
        assert sorted(rig.domains["h1"].domains().values()) == ["web"]


def test_it_listens_again_after_a_kill() -> None:
    with rig_of(1, factor=1000) as rig:
        rig.start("h1")
        rig.wait_event("h1", "init-complete")
        rig.signal("h1", signal.SIGKILL)
        rig.wait(lambda: len(rig.exits) == 1)
        rig.start("h1")
        rig.wait_event("h1", "listening", 6)


def test_a_stock_client_starts_moves_and_recovers_vms() -> None:
    with rig_of(2) as rig:
        rig.start("h1", "h2")
        for host in ("h1", "h2"):
            rig.wait_event(host, "init-complete")
        client = rig.tcp("h1")
        client.xenapi.login_with_password("root", "xenroot", "1.0", "test")
        api = client.xenapi
        hosts = {name: api.host.get_by_uuid(rig.tree(name).uuid) for name in ("h1", "h2")}
        (web,) = api.VM.get_by_name_label("web")
        assert set(api.VM.get_possible_hosts(web)) == set(hosts.values())
        api.VM.pool_migrate(web, hosts["h2"], {})
        assert sorted(rig.domains["h2"].domains().values()) == ["db", "web"]
        assert not rig.domains["h1"].domains()
        api.VM.clean_shutdown(web)
        with pytest.raises(XenAPI.Failure) as failure:
            api.VM.clean_shutdown(web)
        assert failure.value.details == ["VM_BAD_POWER_STATE", web, "running", "halted"]
        api.VM.start_on(web, hosts["h2"], False, False)
        vdi = api.VBD.get_VDI(api.VM.get_VBDs(web)[0])
        assert api.VDI.get_sm_config(vdi) == {f"host_{hosts['h2']}": "RW"}
        assert api.SR.get_shared(api.VDI.get_SR(vdi)) is True
        with pytest.raises(XenAPI.Failure) as failure:
            api.host.declare_dead(hosts["h2"])
        assert failure.value.details == ["HOST_IS_LIVE", hosts["h2"]]
        rig.signal("h2", signal.SIGTERM)
        rig.wait(lambda: ("h2", 0) in rig.exits)
        rig.domains["h2"].clear()
        api.host.declare_dead(hosts["h2"])
        api.VM.start(web, False, False)
        assert sorted(rig.domains["h1"].domains().values()) == ["web"]
        assert {row["power_state"] for row in api.VM.get_all_records().values()} == {"Halted", "Running"}
        assert api.task.get_all_records() == {}


# ------------------------------------------------------------------------------------ the story, in both drivers

STORY = ("xapi-start", "role", "listening", "db-loaded", "promote-call", "pool.conf", "fuse", "promoted", "repointed")
STORY += ("exit", "pool-master", "hello", "enabled", "no-other-masters", "killed", "init-complete", "emergency")


def _threads(entries: list[tuple[str, str]], uuids: dict[str, str]) -> dict[tuple[str, str], list[str]]:
    """The story's events in order, apart for each host that logs them and each host that they are about.

    What a master does for a member runs beside its own start; only within such a thread is the order the model's.
    """
    threads: dict[tuple[str, str], list[str]] = {}
    for name, event in entries:
        word, *facts = event.split()
        about = next((uuids[fact[5:]] for fact in facts if fact.startswith("host=")), name)
        if word in STORY:
            threads.setdefault((name, about), []).append(word)
    return threads


def _subsequence(entries: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> bool:
    remaining = iter(entries)
    return all(any(name == host and event.split()[0] == word for name, event in remaining) for host, word in wanted)


def test_a_promotion_happens_in_the_same_order_on_sockets_and_in_virtual_time() -> None:
    with rig_of(3) as rig:
        rig.start("h1", "h2", "h3")
        for host in ("h1", "h2", "h3"):
            rig.wait_event(host, "init-complete")
        old = rig.tcp("h1")
        old.xenapi.login_with_password("root", "xenroot", "1.0", "test")
        with pytest.raises(XenAPI.Failure) as failure:
            rig.tcp("h3").xenapi.login_with_password("root", "xenroot", "1.0", "test")
        assert failure.value.details == ["HOST_IS_SLAVE", rig.addresses[0]]
        before = len(rig.events)
        rig.signal("h1", signal.SIGKILL)
        rig.wait_event("h2", "db-link state=lost")
        with pytest.raises(TimeoutError):
            rig.unix_call("h2", "session.login_with_password", "root", "", limit_s=0.5)
        assert rig.local("h2", "host.is_in_emergency_mode") == Answer(False)
        assert rig.local("h2", "pool.emergency_transition_to_master") == Answer("")
        rig.wait_event("h2", "asks-is-slave host=" + rig.tree("h3").uuid)
        assert rig.local("h3", "pool.emergency_reset_master", rig.addresses[1]) == Answer("")
        rig.wait_event("h2", "init-complete", 2)
        rig.wait_event("h3", "init-complete", 2)
        rig.wait_event("h2", "enabled host=" + rig.tree("h3").uuid)
        on_sockets = rig.events[before:]
        new = rig.tcp("h2")
        new.xenapi.login_with_password("root", "xenroot", "1.0", "test")
        (pool,) = new.xenapi.pool.get_all()
        assert new.xenapi.host.get_uuid(new.xenapi.pool.get_master(pool)) == rig.tree("h2").uuid
        with pytest.raises(XenAPI.Failure) as failure:
            rig.tcp("h3").xenapi.login_with_password("root", "xenroot", "1.0", "test")
        assert failure.value.details == ["HOST_IS_SLAVE", rig.addresses[1]]
        assert rig.unix_call("h2", "pool.get_all", old.handle) == Fault("SESSION_INVALID", (old.handle,))

    in_virtual_time = _virtual_promotion()
    uuids = {tree.uuid: tree.name for tree in rig.trees}
    assert _threads(on_sockets, uuids) == _threads(in_virtual_time, uuids)
    across = [
        ("h2", "promoted"),
        ("h2", "pool-master"),
        ("h3", "repointed"),
        ("h2", "hello"),
        ("h3", "init-complete"),
    ]
    assert _subsequence(on_sockets, across)
    assert _subsequence(in_virtual_time, across)


def _virtual_promotion() -> list[tuple[str, str]]:
    pool = VirtualPool(3, vms=VMS, time_factor=FACTOR)
    pool.power_on_all()
    pool.run_until(5_000)
    pool.hosts["h1"].wanted = False
    pool.kill_xapi("h1")
    pool.run_until(5_100)

    def call(host: str, method: str, *params: object) -> None:
        assert pool.call_now(host, "unix", method, (pool.local_session(host), *params)) == Answer("")

    call("h2", "pool.emergency_transition_to_master")
    asked = pool.hosts["h3"].uuid
    pool.run_while(
        lambda: not any(entry.event.facts["host"] == asked for entry in pool.events("asks-is-slave", "h2")), 20_000
    )
    call("h3", "pool.emergency_reset_master", pool.hosts["h2"].address)
    pool.run_until(10_000)
    return [(entry.host, str(entry.event)) for entry in pool.events(since_ms=5_000)]
