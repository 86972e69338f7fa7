"""How the tests drive a lab: as a user does, and by the collector's operator API; and what a lab may leave behind."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as pb_grpc
from poolwarden_lab.processes.control import ask
from poolwarden_lab.processes.places import base_environment, code_path

LAB = [sys.executable, "-m", "poolwarden_lab"]
CLI = [sys.executable, "-m", "poolwarden_collector.cli.main"]


def lab_environment() -> dict[str, str]:
    return base_environment(code_path("poolwarden_lab", "poolwarden_collector", "poolwarden", "poolwarden_agent"))


def traces(where: Path) -> set[str]:
    """What a lab below this directory left: processes that name it, mounts, network namespaces, files."""
    found = {f"netns {path}" for path in Path("/run/netns").glob("*")}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"{where}/" in command or command.rstrip().endswith(str(where)):
            found.add(f"process {entry.name} {command.strip()}")
    found |= {line for line in Path("/proc/mounts").read_text().splitlines() if f" {where}" in line}
    return found | {f"file {path}" for path in where.glob("*")}


def left_behind(where: Path, limit_s: float = 5.0) -> set[str]:
    """What is still there after the limit."""
    deadline = time.monotonic() + limit_s
    while (left := traces(where)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


class Lab:
    """A lab in the background, driven as a user would, and its collector's journal."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.target = f"unix:{home / 'collector.sock'}"

    def lab(self, *words: str, check: bool = True, limit_s: float = 150) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*LAB, *words],
            env={**lab_environment(), "POOLWARDEN_LAB_DIR": str(self.home)},
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
        assert not check or done.returncode == 0, (
            f"lab {' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}"
        )
        return done

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**lab_environment(), "POOLWARDEN_COLLECTOR": self.target}
        return subprocess.run([*CLI, *words], env=environment, capture_output=True, text=True, timeout=60)

    def ask(self, **request: Any) -> dict[str, Any]:
        return ask(self.home, request)

    def up(self, hosts: int = 3, *more: str) -> "Lab":
        self.lab("up", "--hosts", str(hosts), *more)
        return self

    def down(self) -> None:
        if (self.home / "lab.sock").exists():
            self.lab("down")

    def history(self) -> list[pb.HistoryEntry]:
        with grpc.insecure_channel(self.target) as channel:
            return list(pb_grpc.OperatorStub(channel).History(pb.HistoryRequest(limit=100_000), timeout=5).entries)

    def pool(self) -> pb.PoolStatus:
        with grpc.insecure_channel(self.target) as channel:
            return pb_grpc.OperatorStub(channel).Status(pb.StatusRequest(), timeout=5).pools[0]

    def follow(self, limit_s: float = 120) -> Iterator[pb.HistoryEntry]:
        """Entries from the first on, as they are committed; goes on after a restart of the collector."""
        after, deadline = 0, time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            with grpc.insecure_channel(self.target) as channel, contextlib.suppress(grpc.RpcError):
                request = pb.HistoryRequest(after_seq=after, limit=100_000)
                for entry in pb_grpc.OperatorStub(channel).Follow(request, timeout=left):
                    after = entry.seq
                    yield entry
            time.sleep(0.1)
        raise AssertionError(f"the story did not end within {limit_s} s; kinds: {[e.kind for e in self.history()]}")

    def wait_kind(self, kind: str, limit_s: float = 60) -> pb.HistoryEntry:
        return self.wait(
            lambda: next((e for e in self.history() if e.kind == kind), None), f"journal entry {kind}", limit_s
        )

    def wait(self, found: Callable[[], Any], what: str, limit_s: float = 60) -> Any:
        """The first true value; a collector that is just being restarted is waited for as well."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                value = found()
            except (grpc.RpcError, IndexError):
                value = None
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"not seen within {limit_s} s: {what}; kinds: {[e.kind for e in self.history()]}")

    def view(self, *addresses: str) -> list[dict[str, Any]]:
        """What a stock XenAPI client sees at these addresses."""
        words = ("exec", "collector", "--", sys.executable, "-m", "poolwarden_lab.processes.xenapi_view", *addresses)
        return [json.loads(line) for line in self.lab(*words).stdout.splitlines()]
