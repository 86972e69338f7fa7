"""The agents' side of the benchmark "scale": N played hosts in one process, one thread, each with a TLS connection.

    scale_agents.py --port PORT --tls FOLDER --agents N [--pool-size 8] [--interval S] [--first-pool 1] [--sample N]

``FOLDER`` holds the authority that the collector trusts (certificates.create_ca); each host's certificate is made from
it as it connects. It goes on until its standard input ends, and keeps what it starts within its own process. It reads
words from standard input, a line each:

    lose SECONDS      the masters of all pools are lost, evenly within so many seconds
    interval SECONDS  report so often from now on, whatever the collector's settings say
    quiet             report nothing more and stay connected

and writes a JSON object a line to standard output: each half second ``{"up": streams, "heard": welcomed, "sent":
messages, "waiting": not taken by the collector, "lost": pools, "cpu_s": of this process, "why": {reason: streams that
ended so}}``; of each sampled host (``--sample``) ``{"host", "pool", "marker", "at_ms"}`` as a report leaves;
``{"gone": pool, "host", "at_ms"}`` as a master is lost, and from then on ``{"answered": pool, "at_ms"}`` as a host of
that pool has answered an order.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import random
import select
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from machine import find_code

find_code()

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402
from scale_hosts import Host, Pool, mono_ms, pool_uuid, source  # noqa: E402
from scale_wire import PING_S, Wire  # noqa: E402

from poolwarden_collector.shell.config import certificates  # noqa: E402

# As the shipped agent reconnects (agent: link/client.py).
FIRST_WAIT_S, LONGEST_WAIT_S, CONNECT_LIMIT_S = 0.6, 5.0, 5.0
TELL_S = 0.5
AT_ONCE = 64  # connections that are begun in one turn, so that those that are up are not forgotten


class Authority:
    """Makes hosts' certificates. All have one key: what a handshake costs the collector is the same."""

    def __init__(self, folder: Path) -> None:
        self._signer, self._key = certificates.load_signer(folder / certificates.CA_CERT, folder / certificates.CA_KEY)
        self._own = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._private = self._own.private_bytes(*form)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(folder / certificates.CA_CERT)
        self.context.set_alpn_protocols(["h2"])
        self._folder = tempfile.TemporaryDirectory(prefix="poolwarden-scale-")
        self._made: dict[str, Path] = {}

    def take(self, host: str) -> None:
        """From now on the context has this host's certificate; a connection keeps the one that it began with."""
        if host not in self._made:
            self._made[host] = Path(self._folder.name) / host
            self._made[host].write_bytes(self._private + self._issue(host))
        self.context.load_cert_chain(self._made[host])

    def _issue(self, host: str) -> bytes:
        now = datetime.now(UTC)
        uri = x509.UniformResourceIdentifier(certificates.host_uri(host))
        builder = x509.CertificateBuilder(
            self._signer.subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"host {host}")]),
            self._own.public_key(),
            x509.random_serial_number(),
            now - timedelta(minutes=5),
            now + timedelta(days=1),
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(certificates.key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Agent:
    """A host and the connection that it has at this moment."""

    def __init__(self, field: Field, host: Host) -> None:
        self._field, self.host = field, host
        self.wire: Wire | None = None
        self.welcomed = False
        self._events = 0
        self._wait_s = FIRST_WAIT_S
        self._life = 0  # which connection it is: what was planned for an earlier one is dropped

    def connect(self) -> None:
        """Begin a connection."""
        if self._gone():
            return
        self._life += 1
        life = self._life
        try:
            self._field.authority.take(self.host.uuid)
            place = source(self.host.pool.number, self.host.number)
            self.wire = Wire(self._field.authority.context, place, self._field.port, self._hear)
        except OSError as error:
            self._over(f"{type(error).__name__}: {error.strerror}")
            return
        self._watch(select.EPOLLIN | select.EPOLLOUT)
        self._field.later(CONNECT_LIMIT_S, lambda: self._too_slow(life))

    def _gone(self) -> bool:
        return self.host.number in self.host.pool.lost

    def _too_slow(self, life: int) -> None:
        if life == self._life and self.wire is not None and not self.wire.up:
            self._over("no connection within 5 s")

    def ready(self, now: float) -> None:
        wire = self.wire
        if wire is None:
            return
        was_up = wire.up
        wire.ready(now)
        if wire.up and not was_up:
            self._opened(now)
        self._settle()

    def _opened(self, now: float) -> None:
        assert self.wire is not None
        self.wire.heard_at = now
        self.host.open(self._send)
        life = self._life
        self._field.up += 1
        # Agents that connect at once report at other times: the first interval is drawn.
        self._field.later(random.uniform(0.02, 1.0) * self._interval(), lambda: self._report(life))
        self._field.later(PING_S, lambda: self._ping(life))

    def _interval(self) -> float:
        return self._field.interval or self.host.interval_s

    def _report(self, life: int) -> None:
        if life != self._life or self.wire is None:
            return
        if not self._field.quiet:
            self.host.report()
            self._field.sampled(self.host)
        if self.wire is not None:
            self._field.later(self._interval(), lambda: self._report(life))

    def _ping(self, life: int) -> None:
        if life != self._life or self.wire is None:
            return
        left = self.wire.heard_at + PING_S - time.monotonic()
        if left <= 0.01:
            self.wire.ping()
            left = PING_S
            self._settle()
        self._field.later(left, lambda: self._ping(life))

    def _send(self, message: bytes) -> None:
        if self.wire is not None:
            self._field.sent += 1
            self.wire.send(message)
            self._settle()

    def _hear(self, message: bytes) -> None:
        if not self.welcomed:
            self.welcomed = True
            self._field.heard += 1
        if self._field.listens:
            self.host.hear(message)

    def _settle(self) -> None:
        """What the poll is to wait for now, or the end."""
        if self.wire is None:
            return
        if self.wire.ended:
            self._over(self.wire.ended)
        else:
            self._watch(select.EPOLLIN | (select.EPOLLOUT if self.wire.wants_to_write else 0))

    def _watch(self, events: int) -> None:
        assert self.wire is not None
        if events != self._events:
            self._field.watch(self.wire.fileno(), events, self if not self._events else None)
            self._events = events

    def _over(self, why: str) -> None:
        wire, self.wire = self.wire, None
        self._life += 1
        if wire is not None:
            if self._events:
                self._field.forget(wire.fileno())
            self._events = 0
            wire.close()
        was_up = wire is not None and wire.up
        self._field.up -= was_up
        self._field.heard -= self.welcomed
        self.welcomed = False
        self._field.why[why[:80]] += 1
        self._wait_s = FIRST_WAIT_S if was_up else min(LONGEST_WAIT_S, self._wait_s * 2)
        if not self._gone():
            self._field.begin(self, self._wait_s * random.uniform(0.4, 1.6))

    def lose(self) -> None:
        """Its host has lost its power; nobody closes the connection, but nothing comes over it."""
        if self.wire is not None:
            self._over("its host was lost")


class Field:
    """All agents, what is due, and what the sockets say."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.port = given.port
        self.interval: float = given.interval
        self.listens = not given.deaf
        self.authority = Authority(given.tls)
        self.up = self.heard = self.sent = 0
        self.quiet = False
        self.why: Counter[str] = Counter()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._connecting: list[Agent] = []
        self._poll = select.epoll()
        self._agents: dict[int, Agent] = {}
        self._lost = 0
        first, size = given.first_pool, given.pool_size
        self._pools = [Pool(first + n, min(size, given.agents - n * size)) for n in range(-(-given.agents // size))]
        self._all = [Agent(self, Host(pool, n + 1, self.later)) for pool in self._pools for n in range(pool.hosts)]
        step = max(1, len(self._all) // given.sample) if given.sample else 0
        self._sampled = {agent.host.uuid for agent in self._all[:: step or len(self._all)]} if given.sample else set()
        for place, agent in enumerate(self._all):
            self.begin(agent, place / given.connect_per_s)

    # ------------------------------------------------------------------------------------------------ the poll

    def watch(self, number: int, events: int, agent: Agent | None) -> None:
        if agent is not None:
            self._agents[number] = agent
            self._poll.register(number, events)
        else:
            self._poll.modify(number, events)

    def forget(self, number: int) -> None:
        self._poll.unregister(number)
        self._agents.pop(number, None)

    def later(self, after_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + after_s, next(self._count), call))

    def begin(self, agent: Agent, after_s: float) -> None:
        self.later(after_s, lambda: self._connecting.append(agent))

    def run(self) -> None:
        """Until standard input ends."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._tell()
        while True:
            now = time.monotonic()
            wait = 0.0 if self._connecting else max(0.0, min(1.0, self._due[0][0] - now))
            for number, _ in self._poll.poll(wait, 512):
                if number == sys.stdin.fileno():
                    if not self._word(os.read(number, 4096)):
                        return
                elif number in self._agents:
                    self._agents[number].ready(time.monotonic())
            self._do_due()
            begun, self._connecting = self._connecting[:AT_ONCE], self._connecting[AT_ONCE:]
            for agent in begun:
                agent.connect()

    def _do_due(self) -> None:
        now, count = time.monotonic(), 0
        while self._due[0][0] <= now and count < 500:
            heapq.heappop(self._due)[2]()
            count += 1

    # ------------------------------------------------------------------------------------------------ words

    def _word(self, data: bytes) -> bool:
        for line in data.decode().splitlines():
            word, _, value = line.partition(" ")
            if word == "lose":
                for place, pool in enumerate(self._pools):
                    self.later(float(value) * place / len(self._pools), lambda pool=pool: self._lose(pool))  # type: ignore[misc]
            elif word == "interval":
                self.interval = float(value)
            elif word == "quiet":
                self.quiet = True
        return bool(data)

    def _lose(self, pool: Pool) -> None:
        gone = next(a for a in self._all if a.host.pool is pool and a.host.number == pool.master)
        name = pool_uuid(pool.number)
        pool.lost.add(pool.master)
        pool.lost_ms = mono_ms()
        self._lost += 1
        pool.answered = lambda: self._write({"answered": name, "at_ms": time.monotonic_ns() / 1e6})
        gone.lose()
        self._write({"gone": name, "host": gone.host.uuid, "at_ms": pool.lost_ms})

    def sampled(self, host: Host) -> None:
        """A report of this host has just left."""
        if host.uuid in self._sampled:
            of = {"host": host.uuid, "pool": pool_uuid(host.pool.number), "marker": host.marker()}
            self._write({**of, "at_ms": time.monotonic_ns() / 1e6})

    def _tell(self) -> None:
        waiting = sum(agent.wire.waiting for agent in self._all if agent.wire is not None)
        told = {"up": self.up, "heard": self.heard, "sent": self.sent, "waiting": waiting, "lost": self._lost}
        self._write({**told, "cpu_s": time.process_time(), "why": dict(self.why.most_common(5))})
        self.later(TELL_S, self._tell)

    def _write(self, said: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Play agents for a collector on this machine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls", type=Path, required=True, help="folder of the authority that the collector trusts")
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--pool-size", type=int, default=8)
    parser.add_argument("--first-pool", type=int, default=1)
    parser.add_argument("--interval", type=float, default=0.0, help="0: as the collector's settings say")
    parser.add_argument("--sample", type=int, default=0, help="of so many hosts each report is told")
    parser.add_argument("--connect-per-s", type=float, default=500.0)
    parser.add_argument("--deaf", action="store_true", help="what comes is not read (of an echo)")
    Field(parser.parse_args()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
