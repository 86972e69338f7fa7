"""A real Knot DNS on loopback with one zone, one key that may update one name, and one that may only read."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query

PROGRAM = "knotd"
SECRET = base64.b64encode(b"a secret that nobody else knows!").decode()
OTHER_SECRET = base64.b64encode(b"another secret, of another key!!").decode()
NAME, UNPERMITTED = "lab-master.example.test", "ns.example.test"
LIMIT_S = 15.0


@dataclass
class Knot:
    """A server of its own; ``stop`` and ``start`` keep its port and its zone."""

    folder: Path
    port: int
    domain: str = "example.test"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [shutil.which(PROGRAM, path=f"{os.environ['PATH']}:/usr/sbin") or PROGRAM, "-c"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.folder / "knot.conf")], stdout=log, stderr=log)
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            dns.query.udp(dns.message.make_query(self.domain, "SOA"), "127.0.0.1", timeout=0.2, port=self.port)
        except (OSError, dns.exception.DNSException):
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(LIMIT_S)
            self.process = None

    def addresses(self, name: str = NAME) -> dict[str, int]:
        """What anybody is told of this name: each address with its time to live."""
        found = {}
        for kind in ("A", "AAAA"):
            answer = dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", timeout=5, port=self.port)
            found |= {str(data): rrset.ttl for rrset in answer.answer for data in rrset}
        return found

    def settings(self, key: str = "poolwarden", secret: str = SECRET, **names: str) -> Path:
        """A file of the hook's for this server."""
        given = "\n".join(f'"{pool}" = "{name}"' for pool, name in (names or {"lab": NAME}).items())
        file = self.folder / f"hook-dns-{key}-{len(names)}-{secret[:4]}.toml"
        file.write_text(
            f'server = "127.0.0.1"\nport = {self.port}\nzone = "example.test"\nttl = "60s"\n'
            f'[key]\nname = "{key}"\nalgorithm = "hmac-sha256"\nsecret = "{secret}"\n[names]\n{given}\n'
        )
        file.chmod(0o600)
        return file


def free_port() -> int:
    """A port that is free for UDP and TCP."""
    for _ in range(50):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port
    raise OSError("no free port")


ZONE = """$ORIGIN example.test.
$TTL 300
@ SOA ns hostmaster 1 3600 900 604800 60
@ NS ns
ns A 127.0.0.1
lab-master TXT "kept"
alias CNAME ns
"""
RIGHTS = f"""key:
  - id: poolwarden
    algorithm: hmac-sha256
    secret: {SECRET}
  - id: reader
    algorithm: hmac-sha256
    secret: {OTHER_SECRET}

acl:
  - id: may-update
    key: poolwarden
    action: [query, update]
    update-owner: name
    update-owner-match: equal
    update-owner-name: [lab-master, alias]
    update-type: [A, AAAA]
  - id: may-read
    key: [poolwarden, reader]
    action: query

zone:
  - domain: example.test
    acl: [may-update, may-read]
"""


@contextlib.contextmanager
def serving(folder: Path, domain: str = "example.test", rights: str = RIGHTS, zone: str = ZONE) -> Iterator[Knot]:
    """A server with its files in ``folder``, which is its own; ``rights``: keys, rules and zone, as Knot reads them."""
    (folder / "db").mkdir(parents=True)
    knot = Knot(folder, free_port(), domain)
    (folder / f"{domain}.zone").write_text(zone)
    (folder / "knot.conf").write_text(
        f"""server:
    listen: 127.0.0.1@{knot.port}
    rundir: "{folder}"
    pidfile: "{folder}/pid"

log:
  - target: stderr
    any: info

database:
    storage: "{folder}/db"
    journal-db-max-size: 16M
    kasp-db-max-size: 16M
    timer-db-max-size: 16M
    catalog-db-max-size: 16M

template:
  - id: default
    storage: "{folder}"
    zonefile-sync: -1

{rights}"""
    )
    try:
        knot.start()
        yield knot
    finally:
        if knot.process is not None:
            knot.process.kill()
            knot.process.wait(LIMIT_S)
