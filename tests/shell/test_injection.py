"""What fence agents, BMCs and receivers of alerts say reaches an operator as plain lines, and never with a password.

A real fence agent, a real program that says which machine is switched, and a real receiver of webhooks say everything
that could move a cursor, begin a line, turn text around, or is endless, with the password cut where buffers end. Looked
at are the collector's log, its journal, the alerts' log, the mail, and every page of the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiosmtpd.controller import Controller
from click.testing import CliRunner

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.cli.main import poolwarden

from .rig import HOSTS, POOL, Rig, running, until

PASSWORD = "hunter2-of-this-very-bmc"
EVIL = "\x1b[2J\x1b]0;owned\x07\r\nAug 1 00:00:00 collector: promoted h9\u202egnp.exe\u2028\x9b31m\x00\u200b\u2066"
PAGES = ("status", "hosts", "history --all", "alerts", "explain POOL", "readiness POOL", "plan POOL")

AGENT = """#!{python}
import sys
given = sys.stdin.read()
if "action=metadata" in given:
    print('<resource-agent name="fence_t"><parameters><parameter name="password"><content type="string"/></parameter>'
          '</parameters><actions><action name="on"/><action name="off"/><action name="reboot"/><action name="status"/>'
          '</actions></resource-agent>')
    sys.exit(0)
said = {evil!r} + {password!r}
out = sys.stderr.buffer
out.write(said.encode() + b"\\n" + b"x" * (65536 - len(said.encode()) - 13))
out.write({password!r}.encode() + b"\\n" + said.encode() * 3000)
sys.exit(1)
"""
IDENTITY = """#!{python}
import sys
sys.stdin.read()
sys.stdout.buffer.write(("uuid=" + {evil!r} + "\\nserial=" + {password!r} + {evil!r} * 50 + "\\n").encode())
"""


def program(path: Path, text: str) -> Path:
    path.write_text(text.format(python=sys.executable, evil=EVIL, password=PASSWORD))
    path.chmod(0o755)
    return path


class Mails:
    """A mail server that keeps what comes."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: object) -> str:  # noqa: N802
        self.got.append(envelope.original_content)  # type: ignore[attr-defined]
        return "250 taken"


@contextlib.contextmanager
def hostile_receiver() -> Iterator[tuple[int, list[bytes]]]:
    """Answers each webhook by something that is not HTTP, with everything in it."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller, contextlib.suppress(OSError):
                    caller.settimeout(2)
                    got.append(caller.recv(65536))
                    status = "HTTP/1.1 500 " if len(got) % 2 else ""
                    caller.sendall((status + EVIL + PASSWORD + "\r\nX: " + EVIL * 2000 + "\r\n\r\n").encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], got
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def harmless(text: str, where: str) -> None:
    """Lines of a terminal, without anything that it could obey, of a bounded length, without the password."""
    for line in text.split("\n"):
        assert line.isprintable(), (where, [letter for letter in line if not letter.isprintable()][:5], line[:300])
        assert len(line) < 20_000, (where, len(line))
    assert PASSWORD not in text and PASSWORD[:-3] not in text, where
    assert not any(line.startswith("Aug 1") for line in text.split("\n")), where


async def page(rig: Rig, words: str) -> str:
    """What the command line shows, in a thread beside the collector."""
    where = ["--collector", f"unix:{rig.config.operator_socket}"]
    run = await asyncio.to_thread(CliRunner().invoke, poolwarden, [*where, *words.replace("POOL", POOL).split()])
    assert run.output and "No such command" not in run.output, words
    return run.output


CONFIGURATION = """
[[fence]]
host = "{host}"
name = "bmc-1"
agent = "{folder}/fence_t"
identity = "{folder}/identity"
limit = "10s"
secret_file = "{folder}/secret"
[alerts]
log = "alerts.log"
[[alerts.webhook]]
name = "chat"
url = "http://127.0.0.1:{chat}/hook"
[[alerts.mail]]
name = "duty"
server = "127.0.0.1"
port = {mail}
security = "none"
from = "poolwarden@example.com"
to = ["duty@example.com"]
"""


@pytest.fixture
def collectors_log() -> Iterator[io.StringIO]:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger("poolwarden_collector").addHandler(handler)
    yield log
    logging.getLogger("poolwarden_collector").removeHandler(handler)


@pytest.fixture
def mails() -> Iterator[tuple[int, Mails]]:
    """A mail server's port, and what it got."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = Mails()
    server = Controller(kept, hostname="127.0.0.1", port=port)
    server.start()
    yield port, kept
    server.stop()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_nothing_of_it_moves_a_terminal_or_begins_a_line(
    tmp_path: Path, collectors_log: io.StringIO, mails: tuple[int, Mails]
) -> None:
    program(tmp_path / "fence_t", AGENT)
    program(tmp_path / "identity", IDENTITY)
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text(f"password={PASSWORD}\n")
    with hostile_receiver() as (chat, got):
        extra = CONFIGURATION.format(host=HOSTS[0], folder=tmp_path, chat=chat, mail=mails[0])
        async with running(tmp_path, extra) as rig:
            await _attached(rig)
            async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
                await _asked(rpc.OperatorStub(channel))
            await until(lambda: mails[1].got and got, 30)
            for words in PAGES:
                harmless(await page(rig, words), words)
    harmless((tmp_path / "alerts.log").read_text(), "alerts' log")
    harmless(collectors_log.getvalue(), "the collector's log")
    for mail in mails[1].got:
        harmless(mail.decode().replace("\r\n", "\n"), "mail")


async def _asked(stub: Any) -> None:
    """A run of the fence agent, a trial of the channels, a command with the worst of names and reasons; the history."""
    test = pb.FenceCommand(host=HOSTS[0], action="test")
    tested = await stub.Command(pb.CommandRequest(actor="anna" + EVIL, fence=test), timeout=30)
    pause = pb.Pause(pool=POOL, reason="for a while" + EVIL, for_ms=600_000)
    paused = await stub.Command(pb.CommandRequest(actor="anna" + EVIL, pause=pause), timeout=30)
    harmless(f"{tested.text}\n{tested.next_step}\n{paused.text}\n{paused.next_step}", "replies")
    harmless(str(await stub.TestAlerts(pb.TestAlertsRequest(actor="anna"), timeout=60)), "trial of the channels")
    assert "bmc-1 reads UNKNOWN" in tested.text
    entries = (await stub.History(pb.HistoryRequest(limit=10_000))).entries
    for entry in entries:
        harmless(f"{entry.text}\n{entry.actor}", "history")
        assert not set(entry.data) & set(map(chr, range(32))) and PASSWORD not in str(entry), entry
    assert any("for a while" in entry.text for entry in entries), [entry.text for entry in entries]


async def _attached(rig: Rig) -> None:
    """One pool, whose first host has the device."""
    agent = await rig.agent(HOSTS[0])
    role = link.RoleFacts(pool_conf=link.RoleFacts.MASTER, serves_as_master=True)
    view = link.PoolView(pool_uuid=POOL, pool_name="gold", master_uuid=HOSTS[0])
    await agent.send(report=link.Report(full=True, management_address="192.0.2.1", role=role, pool_view=view))
    await until(lambda: (pool := rig.parts.service.roster.pools.get(POOL)) and pool.record.master)
