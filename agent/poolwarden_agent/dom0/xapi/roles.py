"""What a host says of its role to a client without a session: over TCP 443, and over TCP 80 as the other way.

Theory
------
A host with ``https_only`` drops TCP 80 from other hosts in its firewall (xapi: ocaml/xapi/xapi_host.ml,
set_https_only), which looks like silence; xapi says the same over TLS on TCP 443. On either port: ``system.isAlive``,
then one dummy login, that a member answers with HOST_IS_SLAVE at once, before any credential and without the database
(xapi: ocaml/xapi/xapi_session.ml), and that a master answers by PAM, which takes its time.

Rules
-----
* 443 is asked first; where it has not answered within a quarter of the limit, 80 and an ICMP echo are tried beside it.
  All of that ends within the limit, the login within another one; the login goes to one port alone, once.
* An answered isAlive and then anything but HOST_IS_SLAVE, also nothing in time, is a master: *acts*.
* A certificate decides nothing here: a role that is told can stop a start, and counts without one. Its
  fingerprint travels with the answer.
* A fault in answer to isAlive is xapi's emergency mode (xapi: ocaml/xapi/api_server.ml): that xapi runs, and tells that
  it neither serves nor follows. It counts as *silent*, which proves nothing and is waited for: such a host is no
  master at that instant, and it may be made one by hand, which ends its answers.
* No role on either port, and yet the host is alive: *untold*. Alive is a host that answers the echo, takes a connection
  on either port and tells nothing of use, or refuses one: its kernel, at the least, runs, and a xapi that was told to
  become master refuses while it starts. Refusals and echoes of the asker's own loopback addresses say nothing.
* Whatever is left is *silent*.
"""

import queue
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, List, Sequence

from poolwarden_agent.core.boot_gate import ACTS, FOLLOWS, SILENT, UNTOLD, Told
from poolwarden_agent.core.probe_rules import ANSWERED, NOT_XAPI, REFUSED, ProbeResult
from poolwarden_agent.dom0.system import ping
from poolwarden_agent.dom0.system.ping import Ping
from poolwarden_agent.dom0.xapi import probes

TOGETHER = 16  # hosts that are asked at the same time
_LONGEST = 200


class Ports(object):
    """Where xapi listens: for TLS and in the clear."""

    def __init__(self, tls: int, plain: int) -> None:
        self.tls = tls
        self.plain = plain


def told(address: str, ports: Ports, limit_s: float) -> Told:
    """One host's role, within twice ``limit_s`` seconds."""
    ways = ((ports.tls, True), (ports.plain, False))
    answers: "queue.Queue[Any]" = queue.Queue()
    found: Dict[int, ProbeResult] = {}
    echo = Ping(False, "not pinged")
    waited = 1
    _begin(answers, ports.tls, partial(probes.is_alive, address, ports.tls, limit_s, True))
    try:
        found[ports.tls] = answers.get(timeout=limit_s / 4)[1]
        waited = 0
    except queue.Empty:
        pass
    if not _says(found.get(ports.tls)):
        _begin(answers, ports.plain, partial(probes.is_alive, address, ports.plain, limit_s, False))
        _begin(answers, 0, partial(ping.ask, address, limit_s))
        # Each of them ends by itself within its limit; a margin for a thread that is late.
        until = time.monotonic() + limit_s * 1.5
        for _ in range(waited + 2):
            try:
                port, answer = answers.get(timeout=max(0.001, until - time.monotonic()))
            except queue.Empty:
                break
            if port:
                found[port] = answer
                if _says(answer):
                    break
            else:
                echo = answer
    certificate = found[ports.tls].certificate if ports.tls in found else ""
    for port, tls in ways:
        if _says(found.get(port)):
            master = probes.member_of(address, port, limit_s, tls)
            text = "port %d: %s" % (port, "follows %s" % master if master else "serves, and follows nobody")
            return Told(FOLLOWS if master else ACTS, master, certificate, text[:_LONGEST])
    tried = ["port %d: %s" % (port, found[port].text) for port, _ in ways if port in found]
    text = "; ".join(tried + [echo.text])[:_LONGEST]
    if any(result.outcome == ANSWERED for result in found.values()):
        return Told(SILENT, "", certificate, text)
    near = ping.of_this_machine(address)
    there = echo.answered or any(_there(result, near) for result in found.values())
    return Told(UNTOLD if there else SILENT, "", certificate, text)


def _says(result: Any) -> bool:
    """Does a xapi answer that is not in emergency mode?"""
    return result is not None and result.outcome == ANSWERED and result.text == "answered"


def _there(result: ProbeResult, near: bool) -> bool:
    """Is the host up, though no xapi tells anything?"""
    if result.outcome == REFUSED:
        return not near
    return result.outcome == NOT_XAPI or (result.accepted and result.text.startswith("accepted"))


def _begin(answers: "queue.Queue[Any]", port: int, ask: Callable[[], Any]) -> None:
    thread = threading.Thread(target=lambda: answers.put((port, ask())))
    thread.daemon = True
    thread.start()


def of_all(addresses: Sequence[str], ask: Callable[[str], Told]) -> Dict[str, Told]:
    """Several hosts at once, at most ``TOGETHER`` at a time."""
    left: List[str] = sorted(set(addresses))
    said: Dict[str, Told] = {}
    if len(left) == 1:
        return {left[0]: ask(left[0])}

    def work() -> None:
        while True:
            try:
                address = left.pop()
            except IndexError:
                return
            said[address] = ask(address)

    threads = [threading.Thread(target=work) for _ in range(min(TOGETHER, len(left)))]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join()
    return said
