"""Which machine a device switches, asked by a member: what ipmitool and a Redfish service answer."""

import base64
import http.server
import json
import ssl
import threading

import pytest

from poolwarden_agent.dom0.fencing import identity
from poolwarden_agent.dom0.fencing.agent_run import FenceAgents
from poolwarden_agent.dom0.fencing.identity import OTHER, PASSWORD, UNREACHABLE

SECRET = "s3cr3t"
GUID = "86988f42-4440-5548-a9c6-5f8f581305e6"
TOLD = "System GUID  : %s\nTimestamp    : 10/11/2041" % GUID
FRU = " Board Mfg    : X\n Board Serial          : B77\n Product Serial        : P1234 "
PARAMETERS = {"ip": "10.9.0.9", "username": "poolwarden", "password": SECRET, "lanplus": "1", "cipher": "3"}
SYSTEMS, SYSTEM = "/redfish/v1/Systems", "/redfish/v1/Systems/1"


@pytest.fixture
def ask(tmp_path):
    """Asks by a fence agent's name; nothing of it is run as another user."""
    agents = FenceAgents([], "")

    def asking(name="fence_ipmilan", thorough=False, limit_ms=10000, **changes):
        return agents.identify(name, dict(PARAMETERS, **changes), limit_ms, thorough)

    return asking


@pytest.fixture
def ipmitool(tmp_path, monkeypatch):
    """An ipmitool that keeps how it was called, and does this."""
    path = tmp_path / "ipmitool"
    monkeypatch.setattr(identity, "IPMITOOLS", (str(path),))

    def make(body):
        path.write_text('#!/bin/sh\necho "$* by $IPMI_PASSWORD" >> %s\n%s\n' % (tmp_path / "calls", body))
        path.chmod(0o755)
        return tmp_path / "calls"

    return make


def answering(guid=TOLD, fru=FRU):
    return 'case "$*" in *guid) echo "%s" ;; *fru*) echo "%s" ;; esac' % (guid, fru)


def test_a_bmc_tells_its_guid_and_thoroughly_its_serials(ask, ipmitool):
    calls = ipmitool(answering())
    assert ask().output == "uuid=%s\n" % GUID and ask().code == 0
    assert ask(thorough=True).output == "uuid=%s\nserial=B77\nserial=P1234\n" % GUID
    common = "-I lanplus -E -H 10.9.0.9 -p 623 -U poolwarden -C 3"
    assert calls.read_text().splitlines()[-1] == "%s fru print 0 by %s" % (common, SECRET)
    assert SECRET not in calls.read_text().replace("by " + SECRET, ""), "never on a command line"


def test_an_ilo_is_asked_by_lanplus_unless_its_block_says_otherwise(ask, ipmitool):
    calls = ipmitool(answering())
    ask("fence_ilo4", lanplus="")
    ask("fence_ilo4", lanplus="0")
    ask("fence_ipmilan", lanplus="", cipher="")
    assert [line.split()[2] for line in calls.read_text().splitlines()] == ["lanplus", "lan", "lan"]


def test_a_board_without_an_inventory_has_told_its_guid_all_the_same(ask, ipmitool):
    ipmitool('case "$*" in *guid) echo "%s" ;; *) exit 1 ;; esac' % TOLD)
    assert ask(thorough=True).output == "uuid=%s\n" % GUID


@pytest.mark.parametrize(
    "said, code",
    [
        ("RAKP 2 HMAC is invalid", PASSWORD),
        ("Activate Session error: Requested privilege level exceeds limit", PASSWORD),
        ("Error: Unable to establish IPMI v2 / RMCP+ session", UNREACHABLE),
    ],
)
def test_a_refused_password_is_told_from_silence(ask, ipmitool, said, code):
    ipmitool("echo '%s' >&2; exit 1" % said)
    run = ask()
    assert (run.code, run.text, run.output) == (code, said, "")


@pytest.mark.slow
def test_a_hanging_bmc_is_cut_off(ask, ipmitool):
    ipmitool("sleep 30")
    run = ask(limit_ms=1000)
    assert run.started and run.code is None


def test_what_cannot_be_asked_says_why(ask, ipmitool, monkeypatch):
    ipmitool(answering())
    assert ask(hexadecimal_kg="ab").text == "not asked with a Kg key: ipmitool takes it on its command line alone"
    assert ask("fence_apc_snmp").text == "fence_apc_snmp cannot be asked which machine it switches"
    monkeypatch.setattr(identity, "IPMITOOLS", ("/nowhere/ipmitool",))
    assert ask().text == "ipmitool is not installed here" and not ask().started


# ------------------------------------------------------------------------------------------ Redfish


@pytest.fixture
def service(certificates):
    """A Redfish service; ``service(body)`` answers its one system with this body, or this status."""
    answers = {"/redfish/v1": {"Systems": {"@odata.id": SYSTEMS}}, SYSTEMS: {"Members": [{"@odata.id": SYSTEM}]}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            known = "Basic " + base64.b64encode(("poolwarden:" + SECRET).encode()).decode()
            answer = answers.get(self.path, 404) if self.headers["Authorization"] == known else 401
            body = b"" if isinstance(answer, int) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *unused):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificates / "collector.pem"), str(certificates / "collector.key"))
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield answers, {"ip": "127.0.0.1", "ipport": str(server.server_address[1]), "ssl_insecure": "1"}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.needs("openssl")
@pytest.mark.parametrize("named", ["", SYSTEM])
def test_a_redfish_service_tells_the_uuid_and_serial_of_its_system(ask, service, named):
    answers, where = service
    answers[SYSTEM] = {"UUID": GUID, "SerialNumber": " CZ  1 "}
    run = ask("fence_redfish", systems_uri=named, **where)
    assert (run.code, run.output) == (0, "uuid=%s\nserial=CZ 1\nsystem=%s\n" % (GUID, SYSTEM))


@pytest.mark.slow
@pytest.mark.needs("openssl")
def test_a_redfish_service_that_cannot_be_used_says_why(ask, service):
    answers, where = service
    wrong = ask("fence_redfish", **dict(where, password="wrong"))
    assert (wrong.code, wrong.text) == (PASSWORD, "user or password refused (HTTP 401)")
    gone = ask("fence_redfish", **dict(where, systems_uri="/redfish/v1/Systems/9"))
    assert (gone.code, gone.text) == (OTHER, "/redfish/v1/Systems/9 is answered by HTTP 404")
    answers[SYSTEMS] = {"Members": [{"@odata.id": SYSTEM}, {"@odata.id": SYSTEM + "2"}]}
    two = ask("fence_redfish", **where)
    assert (two.code, two.text) == (OTHER, "the BMC has 2 machines and no systems_uri names one")
    answers[SYSTEM] = ["not", "a", "resource"]
    assert ask("fence_redfish", systems_uri=SYSTEM, **where).code == OTHER
    unverified = ask("fence_redfish", **dict(where, ssl_insecure="0"))
    assert unverified.code == OTHER and unverified.text.startswith("its certificate is not trusted: ")
    closed = ask("fence_redfish", **dict(where, ipport="1"))
    assert closed.code == UNREACHABLE and SECRET not in closed.text
