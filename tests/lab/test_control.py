"""The lab's own socket: requests, commands with the caller's own streams, and callers that go away."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from poolwarden_lab.processes.control import ControlServer, LabError, ask
from poolwarden_lab.processes.faults import FAULTS, UnknownFault, inflict
from poolwarden_lab.processes.webhook import Delivery, Webhook

ASK = (
    "import json, sys; from pathlib import Path; from poolwarden_lab.processes.control import ask; "
    "sys.exit(ask(Path(sys.argv[1]), json.loads(sys.argv[2]), streams=True, timeout_s=None)['code'])"
)


class FakeWorld:
    """As much of a world as the control socket needs."""

    def __init__(self, home: Path) -> None:
        self.places = SimpleNamespace(lab_socket=home / "lab.sock")
        self.webhook = Webhook()
        self.home = home

    def command_on(self, name: str, command: list[str]) -> tuple[list[str], dict[str, str], str]:
        if name != "h1":
            raise LookupError(f"no host {name!r}; there are: h1")
        return command, {**os.environ, "ROOT": str(self.home)}, str(self.home)

    async def fault(self, name: str, kind: str) -> float:
        await inflict(self, SimpleNamespace(), kind)
        return 1.5

    def status(self) -> dict[str, str]:
        return {"home": str(self.home)}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[FakeWorld]:
    """A control socket in a thread with a loop of its own."""
    world, ready, control = FakeWorld(tmp_path), threading.Event(), None

    async def serve() -> None:
        nonlocal control
        control = ControlServer(world)
        await control.start()
        ready.set()
        await control.down.wait()
        await control.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    yield world
    if thread.is_alive():
        ask(tmp_path, {"op": "down"})
    thread.join(5)
    assert not thread.is_alive()


def caller(world: FakeWorld, *command: str, host: str = "h1") -> subprocess.Popen[bytes]:
    request = json.dumps({"op": "exec", "host": host, "command": list(command)})
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", ASK, str(world.home), request]
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def test_a_command_reads_and_writes_the_callers_own_streams(served):
    process = caller(served, "sh", "-c", "cat; echo $ROOT >&2; exit 7")
    out, err = process.communicate(b"\x00binary\xff" * 50_000, timeout=20)
    assert out == b"\x00binary\xff" * 50_000
    assert err.decode().strip() == str(served.home)
    assert process.returncode == 7


def test_a_caller_that_goes_away_takes_its_command_with_it(served):
    process = caller(served, "sh", "-c", "echo $$; sleep 60 & wait")
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.communicate()


def test_what_cannot_be_done_is_said_in_one_sentence(served):
    with pytest.raises(LabError, match="unknown fault 'explode'; there are: power, power-on, .*bmc-stuck"):
        ask(served.home, {"op": "fault", "host": "h1", "kind": "explode"})
    with pytest.raises(LabError, match="no host 'h9'; there are: h1"):
        ask(served.home, {"op": "exec", "host": "h9", "command": ["true"]}, streams=True)
    with pytest.raises(LabError, match="No such file or directory"):
        ask(served.home, {"op": "exec", "host": "h1", "command": ["/no/such"]}, streams=True)
    with pytest.raises(LabError, match="unknown request 'frob'"):
        ask(served.home, {"op": "frob"})
    assert ask(served.home, {"op": "status"})["status"]["home"] == str(served.home)


def test_the_webhook_can_be_told_to_refuse_and_shows_what_came(served):
    served.webhook.deliveries.append(Delivery(5, 503, "k", {"title": "t"}))
    answer = ask(served.home, {"op": "webhook", "refuse": 2})
    assert answer["deliveries"] == [{"mono_ms": 5, "status": 503, "key": "k", "payload": {"title": "t"}}]
    assert served.webhook.refuse == 2


def test_without_a_lab_it_says_how_to_start_one(tmp_path):
    with pytest.raises(LabError, match=f"no lab answers in {tmp_path}.*poolwarden lab up --dir {tmp_path}"):
        ask(tmp_path, {"op": "status"})


def test_every_fault_is_explained_and_an_unknown_one_lists_them():
    assert all(item.meaning and not item.meaning.endswith(".") for item in FAULTS.values())
    with pytest.raises(UnknownFault, match="xapi-hang"):
        asyncio.run(inflict(SimpleNamespace(), SimpleNamespace(), "nonsense"))
