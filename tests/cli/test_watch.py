"""``watch``: a live page on a terminal, whose keys answer only once a name is typed; lines where there is none."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.layout import as_text
from poolwarden_collector.cli.pages.watch import changes, watch_page

from .fake_collector import HOSTS, FakeCollector, healthy_status

WATCH = [sys.executable, "-m", "poolwarden_collector.cli", "watch", "demo"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def failing_over(fake: FakeCollector | None = None) -> api.StatusReply:
    """The demo pool in the middle of a failover."""
    reply = fake.status if fake is not None else healthy_status()
    pool = reply.pools[0]
    pool.situation.CopyFrom(api.Situation(headline="FAILOVER of host-1 under way", level="critical", vms="6 run on"))
    pool.situation.todo.append("nothing yet; do not power host-1 on")
    steps = [
        api.FailoverStep(name="silence", state="done", text="host-1 was silent", took_ms=8_100, took_known=True),
        api.FailoverStep(name="promotion", state="now", text="host-2 becomes master", took_ms=3_200, took_known=True,
                         at_most_ms=120_000),
        api.FailoverStep(name="members", state="next", text="bring host-3 back"),
    ]  # fmt: skip
    pool.failover.CopyFrom(api.FailoverStatus(id="fo-1", step="PROMOTING", silent_ms=16_400, steps=steps))
    return reply


def asking(fake: FakeCollector) -> None:
    question = fake.status.pools[0].question
    question.id, question.text, question.host_uuid = "q1", "power host-1 off, which reads ON?", HOSTS[0]
    question.approve, question.deny = "poolwarden approve q1 --accept-kill 2 --shoot", "poolwarden deny q1"


def test_a_failover_step_by_step() -> None:
    reply = failing_over()
    expected = {reply.pools[0].pool_uuid: {"promotion": 17_000, "members": 30_000}}
    lines = as_text(watch_page(reply, expected)).splitlines()
    assert lines[:7] == [
        "demo  FAILOVER of host-1 under way                                        T+16 s",
        "  ok    8.1 s  host-1 was silent",
        "  NOW   3.2 s  host-2 becomes master (about 17 s, at most 2 min)",
        "  next         bring host-3 back (about 30 s)",
        "  VMs: 6 run on",
        "  YOU: nothing yet; do not power host-1 on",
        "  HOST    ROLE    HEARD  XAPI     POWER  DISK  VMS",
    ]
    assert lines[-1] == "Ctrl-C ends"


def test_lines_tell_each_change_once() -> None:
    told: dict[str, tuple[str, ...]] = {}
    assert changes(healthy_status(), told) == ["demo  healthy: host-1 is master"]
    assert changes(healthy_status(), told) == []
    assert changes(failing_over(), told) == [
        "demo  FAILOVER of host-1 under way",
        "demo  ok 8.1 s  host-1 was silent",
        "demo  NOW  host-2 becomes master",
        "demo  nothing yet; do not power host-1 on",
    ]


class Terminal:
    """A process on a terminal of its own, 80 columns wide."""

    def __init__(self, command: list[str]) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)  # noqa: S603
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> None:
        """Wait until it has printed this after what was waited for last."""
        ends = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < ends and self.process.poll() is None, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += ESCAPES.sub("", os.read(self.master, 65_536).decode(errors="replace"))
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())


@contextmanager
def on_a_terminal(command: list[str]) -> Iterator[Terminal]:
    terminal = Terminal(command)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait(10)
        os.close(terminal.master)


def commands(fake: FakeCollector) -> list[api.CommandRequest]:
    return [request for request in fake.asked if isinstance(request, api.CommandRequest)]


@pytest.mark.slow
def test_a_live_page_follows_and_ends_with_ctrl_c(fake: FakeCollector) -> None:
    with on_a_terminal(WATCH) as terminal:
        terminal.until("healthy: host-1 is master")
        failing_over(fake)
        terminal.until("FAILOVER of host-1 under way")
        terminal.until("host-2 becomes master")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0


@pytest.mark.slow
def test_yes_needs_the_hosts_name(fake: FakeCollector) -> None:
    asking(fake)
    with on_a_terminal(WATCH) as terminal:
        terminal.until("say yes (the host's name is typed then)")
        terminal.type("y")
        terminal.until("Type the name host-1 to say yes")
        terminal.type("host-2\n")
        terminal.until("that is not host-1: nothing was answered")
        assert commands(fake) == []
        terminal.type("y")
        terminal.until("Type the name host-1 to say yes")
        terminal.type("host-1\n")
        terminal.until("done: poolwarden approve q1")
        [request] = commands(fake)
        assert request.approve == api.Approve(id="q1", accept_kill=2, shoot=True, typed_name="host-1")


@pytest.mark.slow
def test_no_asks_for_a_reason(fake: FakeCollector) -> None:
    asking(fake)
    with on_a_terminal(WATCH) as terminal:
        terminal.until("n: say no")
        terminal.type("n")
        terminal.until("Why not")
        terminal.type("the host is being repaired\n")
        terminal.until("done: poolwarden deny q1")
        [request] = commands(fake)
        assert request.deny == api.Deny(id="q1", reason="the host is being repaired")


@pytest.mark.slow
def test_without_a_terminal_it_prints_lines(fake: FakeCollector) -> None:
    process = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)  # noqa: S603
    assert process.stdout is not None
    assert process.stdout.readline().endswith("  demo  healthy: host-1 is master\n")
    failing_over(fake)
    assert process.stdout.readline().endswith("  demo  FAILOVER of host-1 under way\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
