"""Runs the host side: one loop that never waits for xapi, disks or xenstored, and a few daemon threads that may.

The loop answers challenges and sends reports whatever xapi does. Threads: one looks at the own xapi (at most one call
in flight), one at files, disks and domains, one at what this host is believed to be like, some probe peers, one carries
out orders, one at a time. Orders that may take minutes have threads of their own for as long as they take.

A round (rounds.py) begins ``LEAD_MS`` before a report is due: the probes that are due, then the looks. The report is
sent when all of them have ended, at the latest when it is due: what comes later is told by the next one.
"""

import os
import queue
import select
import signal
import sys
import threading
import time
from typing import Any, Optional, Sequence

from google.protobuf.message import DecodeError

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.orders import Order
from poolwarden_agent.core.pulse import ASK_AFTER_MS, Pulse
from poolwarden_agent.dom0.identity.tls_files import TlsFiles
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import log
from poolwarden_agent.process.evidence import EvidenceWork
from poolwarden_agent.process.gate_watch import GateWatch
from poolwarden_agent.process.link_file import Links
from poolwarden_agent.process.link_process import LinkLost, LinkProcess
from poolwarden_agent.process.pipe import (
    DOWN,
    FROM_COLLECTOR,
    GO,
    MESSAGE,
    MOST_ADDRESS,
    RENEW,
    UP,
    WELCOMED,
    PipeError,
    numbered,
    read_about,
    unnumbered,
)
from poolwarden_agent.process.probers import Probers
from poolwarden_agent.process.renewal import Renewals
from poolwarden_agent.process.rounds import Look, Rounds
from poolwarden_agent.process.workers import Workers

LAST_ORDER_S = 4.0  # at a stop, for the order under way
LAST_WORDS_S = 2.0  # at a stop, for the Goodbye
LONGEST_SLEEP_S = 1.0
LONGEST_IDLE_S = 2.0  # while the link side runs and nothing waits for it
LEAD_MS = 150  # how long before a report the round begins whose findings it tells
LOOKS_MS = 100  # and the looks at the latest: they wait for the probes, which would only take turns with them
MOST_ORDERS = 100  # waiting; one that waits too long expires at the gate
GATE_EVERY_MS = 2000
GATE_TURN_S = 0.2  # while xapi waits for it
GATE_FIRST_TURN_S = 0.05  # until it is known whether a collector answers: a healthy boot waits for nothing else
GATE_IDLE_S = 2.0  # where nothing is asked: the state is only written anew, and a local request looked for


class Runner(object):
    """The host side's process."""

    def __init__(
        self,
        side: HostSide,
        link: LinkProcess,
        root: str = "/",
        tls: Optional[TlsFiles] = None,
        collectors: Sequence[str] = (),
    ) -> None:
        """``tls``: the files to renew; None: nobody renews them here. ``collectors``: as agent.conf lists them."""
        self._side = side
        self._executor = side.executor
        self._conversation = side.conversation
        self._root = root
        self._link = link
        self._orders = queue.Queue()  # type: queue.Queue
        self._results = queue.Queue()  # type: queue.Queue
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._stream = 0  # the number of the stream that is up; 0: none
        self._pulse = Pulse()
        self._links = Links(root, side.port.identity().boot_id, collectors)
        self._stopping = False
        self._news = False
        self._next_report = 0  # at the latest
        self._round_for = -1  # the report that the last round has begun for
        self._looking = False  # the looks of that round have begun
        self._looked = False  # the looks of that round have ended
        self._next_question = 0  # when the collector is asked about the boot gate again
        self._unanswered = 0  # orders that were heard and have no result yet
        self._probers = Probers(self._probe, self._probed)
        interval_s = lambda: self._conversation.settings.report_interval_ms / 1000.0  # noqa: E731
        self._gate_watch = GateWatch(side, root)
        self._rounds = Rounds(
            [
                Look("xapi", self._look_at_xapi, interval_s),
                Look("the host", self._look_and_tidy, interval_s),
                Look("assumptions", self._assume, interval_s),
                Look("the boot gate", self._watch_gate, self._gate_turn_s),
            ],
            self._looks_ended,
        )
        self._slow = Workers(self._one_order)
        self._evidence = EvidenceWork(side.evidence, lambda: side.executor.state.hold is not None, self._wake)
        self._renewals = Renewals(tls, self._wake, link.renewed) if tls is not None else None

    def run(self) -> None:
        """Until SIGTERM."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._links.begin()
        self._look_at_host()
        try:
            self._executor.remember()
        except SlotError as error:
            log.say("%s" % error, "storage")
        if self._executor.storage:
            log.say("%s: reports go on, every order is refused" % self._executor.storage, "storage")
        self._evidence.start()
        self._rounds.start()
        for target in [self._obey] + ([self._renewals.run] if self._renewals is not None else []):
            thread = threading.Thread(target=target)
            thread.daemon = True
            thread.start()
        while not self._stopping:
            self._turn()
        self._last_turns()

    def _last_turns(self) -> None:
        """The order under way may end and its result be told; then Goodbye."""
        deadline = time.monotonic() + LAST_ORDER_S
        while self._unanswered and time.monotonic() < deadline:
            self._turn()
        self._send(self._conversation.goodbye(pb.Goodbye.AGENT_STOP))
        self._link.stop(LAST_WORDS_S)

    def _stop(self, _signal: int, _frame: Any) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except OSError:
            pass

    # ------------------------------------------------------------------------------------------ the loop

    def _turn(self) -> None:
        try:
            self._link.ensure()
            now = self._side.port.mono_ms()
            due = now >= self._next_report or self._round_is_over()
            if self._stream and (self._news or due):
                self._report(now)
            elif not self._stream and due:
                self._keep(now)
            watching = self._side.boot.watching
            self._ask_about_gate(now, watching)
            self._feel_pulse(now)
            longest_s = self._longest_sleep_s(watching)
            # From here to the wait nothing else is asked of the kernel: it would let those begin who are woken here,
            # and the loop would wait for them to be able to wait.
            wait_s = max(0.0, (self._next_due(now) - now) / 1000.0)
            self._wait(min(wait_s, longest_s))
            self._tell_results()
            self._ask_for_renewal()
            self._link.flush()
        except LinkLost as error:
            self._streams(0)
            self._links.lost()
            log.say(str(error), "link side")

    def _streams(self, number: int) -> None:
        """This stream is up; 0: none is."""
        self._stream, self._link.streaming = number, number != 0
        if self._renewals is not None:
            self._renewals.stream(number != 0)

    def _ask_for_renewal(self) -> None:
        request = self._renewals.take() if self._renewals is not None else None
        if request is not None:
            self._send(self._conversation.renewal_request(request))

    def _feel_pulse(self, now: int) -> None:
        """Is the collector to be asked whether it still works, or to be left because it does not say?"""
        number = self._pulse.due(now) if self._stream else 0
        if number:
            self._send(self._conversation.ping(number))
        silent_s = (ASK_AFTER_MS + self._pulse.limit_ms()) // 1000
        if self._stream and self._pulse.gone(now):
            log.say("its collector has answered nothing for %d s: the next one is tried" % silent_s, "pulse")
            self._link.send(GO, numbered(self._stream))

    def _ask_about_gate(self, now: int, watching: bool) -> None:
        if self._stream and now >= self._next_question and watching:
            self._next_question = now + GATE_EVERY_MS
            self._send(self._conversation.gate_question())

    # ------------------------------------------------------------------------------------------ rounds

    def _next_due(self, now: int) -> int:
        """Begin what is due; when the next thing will be, in ms. The last step before the loop waits: others wake."""
        begins = now >= self._next_report - LEAD_MS and self._round_for != self._next_report
        if begins:
            self._round_for, self._looking, self._looked = self._next_report, False, False
        settings = self._conversation.settings
        # Probes that are made as often as reports go with the round, whenever the first of them was: one wake-up.
        often = settings.probe_interval_ms <= settings.report_interval_ms
        early_ms = (settings.probe_interval_ms if often else LEAD_MS) if begins else 0
        probe = self._probers.start_due(self._side.observer.to_probe(), now, settings.probe_interval_ms, early_ms)
        begun = self._round_for == self._next_report
        if begun and not self._looking and (now >= self._next_report - LOOKS_MS or not self._probers.busy):
            self._begin_looks()
        if not begun:
            coming = self._next_report - LEAD_MS
            return coming if abs(probe - coming) <= LEAD_MS else min(probe, coming)
        return self._next_report if self._looking else self._next_report - LOOKS_MS

    def _begin_looks(self) -> None:
        """In the loop, or in the thread of the last probe: whichever runs just then."""
        self._looking = True
        self._rounds.begin()

    def _looks_ended(self) -> None:
        self._looked = self._looking
        if self._round_is_over():
            self._wake()

    def _probed(self) -> None:
        if not self._looking:
            self._begin_looks()
        elif self._round_is_over():
            self._wake()

    def _round_is_over(self) -> bool:
        """Has all of it ended, and not been told yet?"""
        return self._looked and self._round_for == self._next_report and not self._probers.busy

    def _longest_sleep_s(self, watching: bool) -> float:
        """A link side that does not run, or does not read, is looked after more often; so is a gate that asks."""
        settled = self._stream and self._link.socket is not None and not self._link.wants_to_write
        return LONGEST_IDLE_S if settled and not watching else LONGEST_SLEEP_S

    def _wait(self, wait_s: float) -> None:
        pipe = self._link.socket
        readers = [self._wake_read] + ([pipe] if pipe is not None else [])
        writers = [pipe] if self._link.wants_to_write else []
        readable, _, _ = select.select(readers, writers, [], wait_s)
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        if pipe is not None and pipe in readable:
            for verb, payload in self._link.read():
                self._take(verb, payload)

    def _after(self, now: int) -> int:
        """When the report after this one is due: an interval after this one was, whether it left before that or not."""
        interval_ms = self._conversation.settings.report_interval_ms
        regular = self._round_for == self._next_report and now <= self._next_report + LEAD_MS
        return (self._next_report if regular else now) + interval_ms

    def _report(self, now: int) -> None:
        self._news = False
        self._next_report = self._after(now)
        if self._conversation.outdated():
            self._link.send(RENEW)  # another pool or order key: only a Hello can say so
            return
        try:
            report = self._conversation.report()
        except Exception as error:  # challenges and orders must go on
            log.say("a report could not be made: %s: %s" % (type(error).__name__, error), "report")
            return
        self._send(report)
        for message in self._conversation.late():
            self._send(message)
        offer = self._evidence.offer() if self._conversation.obeyed else None
        if offer is not None:
            self._send(self._conversation.of_capsules(capsule_offer=offer))

    def _keep(self, now: int) -> None:
        self._next_report = self._after(now)
        try:
            self._conversation.nobody_listens(self._links.why)
        except Exception as error:
            log.say("what happens cannot be kept: %s: %s" % (type(error).__name__, error), "spool")

    def _tell_results(self) -> None:
        while not self._results.empty():
            result = self._results.get()
            self._unanswered -= 1
            if result is not None:
                self._send(self._conversation.wrap(result))
        for body in self._evidence.bodies():
            self._send(self._conversation.of_capsules(**body))

    def _take(self, verb: bytes, payload: bytes) -> None:
        """One frame of the link side: whatever is in it, the next one is heard as well."""
        try:
            self._frame(verb, payload)
        except LinkLost:
            raise
        except Exception as error:
            log.say("a frame %r failed: %s: %s" % (verb, type(error).__name__, error), "pipe")

    def _frame(self, verb: bytes, payload: bytes) -> None:
        if verb == UP:
            self._up(payload)
        elif verb == DOWN:
            self._streams(0)
            address, why = read_about(payload)
            self._links.down(address, why)
            log.say("not connected: %s" % self._links.said(address, why), self._links.topic(address))
        elif verb == FROM_COLLECTOR:
            self._hear(payload)
        else:
            log.say("refused a frame %r of the link side" % verb, "pipe")

    def _up(self, payload: bytes) -> None:
        try:
            stream, dialled = unnumbered(payload)
        except PipeError as error:
            log.say("refused %s of the link side" % error, "pipe")
            return
        self._streams(stream)
        address = dialled.decode("utf-8", "replace")[:MOST_ADDRESS]
        self._links.up(address)
        self._pulse.begin()
        log.say(self._links.said(address, "connected to the collector"), self._links.topic(address))
        self._next_report = self._side.port.mono_ms() + self._conversation.settings.report_interval_ms
        self._next_question = 0  # the stream before has perhaps sent this host on, and answered nothing
        self._side.evidence.stream_up()
        for message in self._conversation.link_up():
            self._send(message)

    def _hear(self, payload: bytes) -> None:
        try:
            message = pb.CollectorMessage.FromString(payload)
        except DecodeError:
            log.say("refused a message that is none", "pipe")
            return
        self._pulse.heard(self._side.port.mono_ms())
        answers, order = self._conversation.receive(message)
        self._tell_link_side()
        renewal = self._conversation.take_renewal()
        if renewal is not None and self._renewals is not None:
            self._renewals.heard(renewal)
        self._evidence.heard(self._conversation.take_of_capsules())
        remark = self._conversation.take_remark()
        if remark:
            log.say(remark, "refused")
        # A shorter interval holds from now on, not after the longer one.
        soonest = self._side.port.mono_ms() + self._conversation.settings.report_interval_ms
        self._next_report = min(self._next_report, soonest)
        for answer in answers:
            self._send(answer)
        if order is not None:
            self._unanswered += 1
            self._evidence.ordered(order.kind)
            lane = self._executor.lane(order)
            if not lane and self._orders.qsize() < MOST_ORDERS:
                self._orders.put(order)
            elif not lane or not self._slow.give(lane, order):
                self._results.put(self._executor.too_busy(order))

    def _tell_link_side(self) -> None:
        """What became of the stream by the last message: it is welcomed, or to be given up for another collector's."""
        if not self._stream:
            return
        welcomed = self._conversation.take_welcomed()
        if welcomed is not None:
            self._links.welcomed()
            self._pulse.welcomed(self._side.port.mono_ms(), welcomed.pongs and self._links.several)
            self._link.send(WELCOMED, numbered(self._stream))
        go = self._conversation.take_elsewhere()
        if go is not None:
            self._links.sent_on(go)
            self._link.send(GO, numbered(self._stream, go.encode("utf-8")))

    def _send(self, message: pb.AgentMessage) -> None:
        if self._stream:
            self._link.send(MESSAGE, numbered(self._stream, message.SerializeToString()))

    # ------------------------------------------------------------------------------------------ threads

    def _look_and_tidy(self) -> None:
        self._side.observer.look_at_host()
        self._evidence.look()
        said = self._executor.tidy()
        if said:
            log.say(said, "tidy")

    def _look_at_xapi(self) -> None:
        settings = self._conversation.settings
        self._side.observer.look_at_xapi(settings.view_wanted, settings.view_interval_ms)

    def _assume(self) -> None:
        pids = (os.getpid(),) + ((self._link.pid,) if self._link.pid else ())
        self._side.assumptions.turn(bool(self._stream), pids)

    def _look_at_host(self) -> None:
        try:
            self._side.observer.look_at_host()
        except Exception as error:
            log.say("looking at the host failed: %s: %s" % (type(error).__name__, error), "look at the host")

    def _probe(self, host: str, address: str) -> None:
        self._side.observer.look_at_peer(host, address, self._conversation.settings.probe_timeout_ms)

    def _watch_gate(self) -> None:
        # safety: while a collector may still be found its word comes first, as if it were connected (boot_gate.py).
        if self._gate_watch.turn(bool(self._stream) or self._links.seeking):
            self._news = True
            self._wake()

    def _gate_turn_s(self) -> float:
        if not self._side.boot.watching:
            return GATE_IDLE_S
        return GATE_FIRST_TURN_S if self._side.boot.young else GATE_TURN_S

    def _obey(self) -> None:
        while True:
            self._one_order(self._orders.get())

    def _one_order(self, order: Order) -> None:
        self._results.put(self._carry_out(order))
        self._wake()
        # What the act has changed is told at once, not an interval later.
        self._look_at_host()
        self._news = True
        self._wake()

    def _carry_out(self, order: Order) -> Optional[pb.OrderResult]:
        kind = order.kind or "of an unknown kind"
        try:
            result = self._executor.carry_out(order, self._conversation.settings.probe_timeout_ms)
        except Exception as error:  # not answered: when the order comes again it is judged by facts
            log.say("order %s failed: %s: %s" % (kind, type(error).__name__, error), "order")
            return None
        name = pb.OrderResult.Outcome.Name(result.outcome).lower()
        log.say("order %s: %s %s" % (kind, name, result.text), "order %s" % kind)
        return result


def python_version() -> str:
    return "%d.%d.%d" % sys.version_info[:3]
