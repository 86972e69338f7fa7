"""Collectors that share what enrolment knows, with a journal of their own each; this holds on either etcd.

``ALL`` is run by test_contract.py on the model and on three real members.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from poolwarden_collector.shell.cluster.enrolment_rows import Collector
from poolwarden_collector.shell.cluster.etcd import Delete, Etcd, Put, Txn
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.enrolment import authority_files
from poolwarden_collector.shell.enrolment.authority import Authority
from poolwarden_collector.shell.enrolment.decisions import By, Decisions
from poolwarden_collector.shell.enrolment.enrolment import Application, Enrolment, Granted, NotEnrolled, Waits
from poolwarden_collector.shell.enrolment.identity import Identity, key_of
from poolwarden_collector.shell.enrolment.registry import Registry, Surroundings
from poolwarden_collector.shell.enrolment.server import Served
from poolwarden_collector.shell.enrolment.shared_rows import SharedRows
from poolwarden_collector.shell.store.journal import Journal

from .clusters import Cluster
from .contract import POOL, names

ANNA = By("anna", "a test")
HOSTS = tuple(f"cccccccc-0000-4000-8000-00000000000{number}" for number in range(1, 6))


@lru_cache(maxsize=1)
def authority() -> Path:
    """The files of one authority, which every collector has."""
    folder = Path(tempfile.mkdtemp(prefix="poolwarden-authority-"))
    authority_files.init(folder / "authority", "test", ("127.0.0.1",))
    return folder / "authority"


class Enrolling:
    """One collector's enrolment; which pools it tells of is ``told``, the streams that it has ended are ``closed``."""

    def __init__(self, etcd: Etcd, at: Names, name: str, folder: Path | None = None) -> None:
        self.name, self.folder = name, folder or Path(tempfile.mkdtemp(prefix="poolwarden-enrolling-"))
        self.etcd, self.at = etcd, at
        self.journal = Journal(self.folder, name, ("mail",))
        self.told: set[str] = set()
        self.closed: list[Callable[[str], bool]] = []
        self.warned: list[str] = []
        around = Surroundings(
            self.write,
            lambda _rows: None,
            lambda: None,
            lambda text, _topic: self.warned.append(text),
            lambda _host: "",
            lambda _pool, _host: False,
            lambda _host: "",
            lambda pool: "berlin" if pool == POOL else None,
            lambda _host: {},
            lambda _host: set(),
            lambda which, _why: self.closed.append(which),
            lambda pool: pool in self.told,
        )
        self.rows = SharedRows(
            etcd, at, self.journal, self.write, Collector(name, f"{name * 64} {name * 63}1", f"{name}:7443")
        )
        self.registry = Registry(self.journal, around, name, self.rows)
        trusted = authority() / "ca.pem"
        self.enrolment = Enrolment(self.registry, Authority(authority(), trusted))
        self.decisions = Decisions(self.registry)

    async def write(self, call: Callable[..., Any], *about: Any) -> Any:
        return call(*about)

    async def begin(self) -> Enrolling:
        await self.enrolment.begin()
        return self

    async def end(self) -> None:
        await self.enrolment.stop()
        self.journal.close()

    async def token(self, uses: int = 1) -> str:
        return (await self.decisions.create_token(ANNA, POOL, 0, uses, ""))[1]

    async def enrol(self, token: str, host: str, key: ec.EllipticCurvePrivateKey | None = None) -> Granted | Waits:
        return await self.enrolment.enrol(Application(token, request_of(key or new_key()), host, POOL, f"h{host[-1]}"))

    def open_alerts(self) -> dict[str, int]:
        """Occurrence of each."""
        rows = self.journal._db.query("SELECT key, occurrence FROM alerts WHERE resolved_at = ''")
        return {row["key"].split("/")[1]: row["occurrence"] for row in rows}

    def entries(self) -> list[str]:
        return [row.text for row in self.journal.history(limit=1_000)]


@asynccontextmanager
async def several(cluster: Cluster, *called: str, at: Names | None = None) -> AsyncIterator[list[Enrolling]]:
    made = [Enrolling(cluster.client(name), at or names(), name) for name in called]
    if at is None:
        for each in made[1:]:
            each.at, each.rows._names = made[0].at, made[0].at
    try:
        for each in made:
            await each.begin()
        yield made
    finally:
        for each in made:
            await each.end()
            shutil.rmtree(each.folder)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def request_of(key: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def identity(host: str, key: ec.EllipticCurvePrivateKey, granted: Granted) -> Identity:
    leaf = x509.load_pem_x509_certificate(granted.certificate.encode())
    return Identity(host, POOL, f"{leaf.serial_number:x}", key_of(key.public_key()), key.public_key())


async def until(cluster: Cluster, true: Callable[[], bool], seconds: float = 5) -> None:
    for _ in range(round(seconds * 20)):
        if true():
            return
        await cluster.sleep(0.05)
    raise AssertionError("that has not come")


# ------------------------------------------------------------------------------------------------ on either etcd


async def a_token_is_used_once_whoever_is_asked(cluster: Cluster) -> None:
    async with several(cluster, "a", "b", "c") as (a, b, c):
        token = await a.token(uses=2)
        asked = [each.enrol(token, host) for each, host in zip((a, b, c), HOSTS[:3], strict=True)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in found if isinstance(each, NotEnrolled)]
        assert [each.error for each in refused] == ["token-used"], found
        assert sum(isinstance(each, Granted) for each in found) == 2
        async with c.registry.turn:
            assert sorted(key.host for key in c.registry.ledger.keys.values()) == sorted(
                host for host, each in zip(HOSTS, found, strict=False) if isinstance(each, Granted)
            )


async def the_same_key_is_answered_as_before_by_another_one(cluster: Cluster) -> None:
    """The one that was asked is gone before its answer arrives."""
    async with several(cluster, "a", "b") as (a, b):
        token, key = await a.token(), new_key()
        first = await a.enrol(token, HOSTS[0], key)
        assert isinstance(first, Granted) and await b.enrol(token, HOSTS[0], key) == first
        who = identity(HOSTS[0], key, first)
        assert b.enrolment.refusal(who, POOL) == ""
        csr = request_of(new_key())
        again = await b.enrolment.renew(who, csr, key.sign(csr.encode(), ec.ECDSA(hashes.SHA256())))
        assert again.certificate != first.certificate


async def a_denial_counts_everywhere_within_two_seconds(cluster: Cluster) -> None:
    async with several(cluster, "a", "b") as (a, b):
        key = new_key()
        granted = await a.enrol(await a.token(), HOSTS[0], key)
        assert isinstance(granted, Granted)
        who = identity(HOSTS[0], key, granted)
        await until(cluster, lambda: who.key in b.registry.ledger.keys, 2)
        assert b.enrolment.refusal(who, POOL) == "" and not b.closed
        await a.decisions.deny(ANNA, who.serial, "")
        await until(cluster, lambda: bool(b.closed), 2)
        assert b.closed[0](who.serial) and "denied by anna" in b.enrolment.refusal(who, POOL)


async def who_tells_of_a_key_that_waits_is_the_pools_owner(cluster: Cluster) -> None:
    """Asked at one, told by another; decided at the third, and its end is told by whoever owns the pool then."""
    async with several(cluster, "a", "b", "c") as (a, b, c):
        b.told.add(POOL)
        assert isinstance(await a.enrol(await a.token(), HOSTS[0]), Granted)
        key = new_key()
        assert isinstance(await a.enrol(await a.token(), HOSTS[0], key), Waits)
        alert = f"second-key-{key_of(key.public_key())[:16]}"
        await until(cluster, lambda: alert in b.open_alerts(), 2)
        since = b.registry.ledger.keys[key_of(key.public_key())].since_ms
        assert b.open_alerts() == {alert: since} and not a.open_alerts() and not c.open_alerts()
        b.told, c.told = set(), {POOL}
        await until(cluster, lambda: c.open_alerts() == {alert: since} and not b.open_alerts(), 3)
        await a.decisions.decide(ANNA, key_of(key.public_key()), accept=True)
        await until(cluster, lambda: not c.open_alerts(), 3)
        assert isinstance(await b.enrol(await b.token(), HOSTS[0], key), Granted)


async def each_host_is_told_whose_orders_to_obey_whoever_enrols_it(cluster: Cluster) -> None:
    async with several(cluster, "a", "b") as (a, b):
        await until(cluster, lambda: len(a.registry.others) == len(b.registry.others) == 1, 3)
        served = Served("", Path(), Path(), "b:7443", ("b" * 64,), others=lambda: b.registry.others)
        assert served.obeyed() == ["b" * 64, "a" * 64, f"{'a' * 63}1"] and served.reached_at() == ["b:7443", "a:7443"]
        assert b.enrolment.other_order_keys() == {"a": "a" * 64}
        a.rows._me = Collector("a", f"{'a' * 63}1 nonsense", "a.new:7443")  # its key was changed, it was started again
        await until(cluster, lambda: served.obeyed() == ["b" * 64, f"{'a' * 63}1"], 3)
        assert served.reached_at() == ["b:7443", "a.new:7443"]
        a.rows._me = None
        await b.etcd.ask(Txn((), (Delete(b.at.enrolment_row("collector", "a")), Put(b.at.enrolment_changes, b"[]"))))
        await until(cluster, lambda: served.obeyed() == ["b" * 64], 3)


ALL = (
    each_host_is_told_whose_orders_to_obey_whoever_enrols_it,
    a_token_is_used_once_whoever_is_asked,
    the_same_key_is_answered_as_before_by_another_one,
    a_denial_counts_everywhere_within_two_seconds,
    who_tells_of_a_key_that_waits_is_the_pools_owner,
)
