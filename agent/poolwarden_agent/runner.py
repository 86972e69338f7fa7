"""Runs the host side: one loop that never waits for xapi, and a few daemon threads that may.

The loop answers challenges and sends reports whatever xapi does. Threads: one looks at the own xapi (at most one call
in flight), a small pool probes peers (never two probes of one target at once), one carries out orders, one at a time.
"""

import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Optional, Set

from google.protobuf.message import DecodeError

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent import log
from poolwarden_agent.hostside import HostSide, Work
from poolwarden_agent.pipe import DOWN, DOWNWARDS, FROM_COLLECTOR, MESSAGE, UP, Frames, PipeError, frame

PROBERS = 4


class LinkLost(Exception):
    """The link side's process has ended."""


class Runner(object):
    """The host side's process."""

    def __init__(self, side: HostSide, pipe: socket.socket) -> None:
        self._side = side
        self._pipe = pipe
        self._frames = Frames()
        self._work: queue.Queue = queue.Queue()
        self._results: queue.Queue = queue.Queue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._up = False
        self._stopping = False
        self._next_report = 0
        self._next_probe: Dict[str, int] = {}
        self._probing: Set[str] = set()
        self._busy = threading.Event()
        self._probers = ThreadPoolExecutor(PROBERS)

    def run(self) -> None:
        """Until SIGTERM. :raises LinkLost: the link side has ended; start both anew."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        for target in (self._observe, self._obey):
            thread = threading.Thread(target=target)
            thread.daemon = True
            thread.start()
        while not self._stopping:
            self._turn()
        self._send(self._side.goodbye(pb.Goodbye.AGENT_STOP))

    def _stop(self, _signal: int, _frame: Any) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except OSError:
            pass

    def _turn(self) -> None:
        now = self._side.port.mono_ms()
        if self._up and now >= self._next_report:
            self._send(self._side.report())
            self._next_report = now + self._side.settings.report_interval_ms
        self._start_probes(now)
        wait = max(0.01, min(0.5, (self._next_report - now) / 1000.0 if self._up else 0.5))
        readable, _, _ = select.select([self._pipe, self._wake_read], [], [], wait)
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        while not self._results.empty():
            result = self._results.get()
            if self._up:
                self._send(self._side.wrap(result))
                # What the act changed is told at once, not an interval later.
                self._next_report = 0
        if self._pipe in readable:
            self._read()

    def _read(self) -> None:
        data = self._pipe.recv(65536)
        if not data:
            raise LinkLost()
        try:
            for verb, payload in self._frames.feed(data):
                self._frame(verb, payload)
        except PipeError as error:
            log.say("the link side sent %s; it is replaced" % error, "pipe")
            raise LinkLost() from error

    def _frame(self, verb: bytes, payload: bytes) -> None:
        if verb not in DOWNWARDS:
            log.say("refused a frame %r of the link side" % verb, "pipe")
        elif verb == UP:
            self._up = True
            log.say("connected to the collector", "link")
            for message in self._side.link_up():
                self._send(message)
            self._next_report = self._side.port.mono_ms() + self._side.settings.report_interval_ms
        elif verb == DOWN:
            self._up = False
            log.say("not connected: %s" % payload.decode("utf-8", "replace")[:200], "link")
        elif verb == FROM_COLLECTOR:
            self._hear(payload)

    def _hear(self, payload: bytes) -> None:
        try:
            message = pb.CollectorMessage.FromString(payload)
        except DecodeError:
            log.say("refused a message that is none", "pipe")
            return
        answers, work = self._side.receive(message)
        for answer in answers:
            self._send(answer)
        if work is not None:
            self._work.put(work)

    def _send(self, message: pb.AgentMessage) -> None:
        try:
            self._pipe.sendall(frame(MESSAGE, message.SerializeToString()))
        except PipeError as error:
            log.say("a message was not sent: %s" % error, "pipe")
        except OSError as error:
            if not self._stopping:
                raise LinkLost() from error

    # ------------------------------------------------------------------------------------------ threads

    def _observe(self) -> None:
        while True:
            settings = self._side.settings
            started = time.monotonic()
            try:
                self._side.observer.look_at_xapi(settings.view_wanted, settings.view_interval_ms)
            except Exception as error:  # an observer that dies would leave facts that look fresh
                log.say("looking at xapi failed: %s: %s" % (type(error).__name__, error), "observe")
            time.sleep(max(0.1, settings.report_interval_ms / 1000.0 - (time.monotonic() - started)))

    def _start_probes(self, now: int) -> None:
        for host, address in list(self._side.targets.items()):
            if host not in self._probing and now >= self._next_probe.get(host, 0):
                self._next_probe[host] = now + self._side.settings.probe_interval_ms
                self._probing.add(host)
                self._probers.submit(self._probe, host, address)

    def _probe(self, host: str, address: str) -> None:
        try:
            self._side.observer.look_at_peer(host, address, self._side.settings.probe_timeout_ms)
        finally:
            self._probing.discard(host)

    def _obey(self) -> None:
        while True:
            work: Work = self._work.get()
            self._busy.set()
            try:
                result: Optional[pb.OrderResult] = self._side.carry_out(work)
            except Exception as error:  # the order is answered by facts when it comes again
                log.say("order %s failed: %s: %s" % (work.order.kind, type(error).__name__, error), "order")
                result = None
            if result is not None:
                name = pb.OrderResult.Outcome.Name(result.outcome).lower()
                log.say("order %s: %s %s" % (work.order.kind, name, result.text), "order %s" % work.order.kind)
                self._results.put(result)
            self._busy.clear()
            self._wake()

    def settle(self, limit_s: float) -> None:
        """Let the order in hand end before this process is replaced."""
        deadline = time.monotonic() + limit_s
        while self._busy.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)


def python_version() -> str:
    return "%d.%d.%d" % sys.version_info[:3]
