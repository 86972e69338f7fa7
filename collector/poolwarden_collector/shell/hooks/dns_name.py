"""``poolwarden-hook-dns``: keeps a DNS name at the address of a pool's master, by dynamic update (RFC 2136).

Rules
-----
* As a hook it reads what hooks read (docs/hook.schema.json) and answers to ``promoted``, ``closed`` and
  ``master-changed``; a pool without a name in its file, and any other event, is nothing to do.
* One update is one message: what the name has of A and AAAA is taken away and the one address put there (RFC 2136,
  2.5.2 and 2.5.1), signed with TSIG (RFC 8945), over TCP. The name's other records stay.
* Done is what the server itself answers afterwards. An answer that is not signed with the key counts for nothing.
* Doing it again changes nothing: a name that is right is left alone.
* Its file holds the key's secret: mode 0600. The secret is in no error and in no ``repr``.

Exit status: 0 done or nothing to do, 1 not done, 2 configuration or usage. Every error is one line on standard error.
"""

from __future__ import annotations

import base64
import binascii
import json
import stat
import sys
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poolwarden_collector.shell.config.toml_table import ConfigError, Table, read_toml

if TYPE_CHECKING:
    import dns.message
    import dns.name

DEFAULT_FILE = Path("/etc/poolwarden/hook-dns.toml")
PROGRAM = "poolwarden-hook-dns"
EVENTS = ("promoted", "closed", "master-changed")
ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
EXCHANGE_S, ALL_S = 5.0, 20.0  # below the 30 s that a hook has by default
_LOOKS, _LOOK_AGAIN_S = 5, 0.5  # at a server that answers before its zone is written
_LONGEST_INPUT = 1 << 20


class NotDone(Exception):
    """The name was not updated, or not known to be; one line that says why."""


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Where and as whom it updates, and the name of each pool by the pool's UUID or name."""

    server: str
    port: int
    zone: str
    ttl_s: int
    key: str
    algorithm: str
    secret: bytes = field(repr=False)
    names: dict[str, str]

    def name_of(self, uuid: str, name: str) -> str:
        """The DNS name of this pool; empty: it has none."""
        return self.names.get(uuid) or self.names.get(name, "")


# ------------------------------------------------------------------------------------------------ its file


def load(file: Path) -> DnsSettings:
    """Raises ConfigError with one line."""
    top = read_toml(file)
    mode = file.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{file}: has mode {stat.S_IMODE(mode):04o}; expected mode 0600: chmod 600 {file}")
    server = top.text("server", None, "the IP address of the zone's primary server")
    try:
        ip_address(server)
    except ValueError:
        raise top.wrong("server", f"is {server!r}", "the IP address of the zone's primary server") from None
    zone = top.text("zone", None, "the zone that is updated")
    ttl = top.duration("ttl", 60_000)
    if not 1_000 <= ttl <= 86_400_000:
        raise top.wrong("ttl", f"is {ttl / 1000:g} s", 'a time from "1s" to "24h"')
    key, names = top.table("key"), top.table("names")
    settings = DnsSettings(
        server,
        top.integer("port", 53, low=1, high=65_535),
        zone,
        ttl // 1000,
        key.text("name", None, "the name of the TSIG key"),
        _algorithm(key),
        _secret(key),
        {pool: names.text(pool) for pool in names.keys()},  # noqa: SIM118  (a Table is no mapping)
    )
    for table in (key, names, top):
        table.done()
    _check_names(top, names, settings)
    return settings


def _algorithm(key: Table) -> str:
    algorithm = key.text("algorithm", "hmac-sha256")
    if algorithm not in ALGORITHMS:
        raise key.wrong("algorithm", f"is {algorithm!r}", f"one of {', '.join(ALGORITHMS)}")
    return algorithm


def _secret(key: Table) -> bytes:
    text = key.text("secret", None, "the TSIG key's secret in base64")
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise key.wrong("secret", "is no base64", "the secret as the key's file has it")
    return secret


def _check_names(top: Table, names: Table, settings: DnsSettings) -> None:
    import dns.exception
    import dns.name

    def parsed(table: Table, key: str, text: str) -> dns.name.Name:
        try:
            return dns.name.from_text(text)
        except (dns.exception.DNSException, ValueError) as error:
            raise table.wrong(key, f"{text!r} is no DNS name ({error})", "e.g. master.example.com") from None

    zone = parsed(top, "zone", settings.zone)
    parsed(top, "key.name", settings.key)
    for pool, text in settings.names.items():
        if not parsed(names, pool, text).is_subdomain(zone):
            raise names.wrong(pool, f"{text!r} is not in the zone {settings.zone}", f"a name below {settings.zone}")
    if not settings.names:
        raise top.wrong("names", "has no pool", 'a line for each pool, e.g. "lab" = "lab-master.example.com"')


# ------------------------------------------------------------------------------------------------ the server


class Server:
    """The zone's primary server. Every call raises NotDone."""

    def __init__(self, settings: DnsSettings) -> None:
        import dns.name
        import dns.tsig

        self._settings = settings
        self._where = f"{settings.server} port {settings.port}"
        self._zone = dns.name.from_text(settings.zone)
        name = dns.name.from_text(settings.key)
        self._keyring = {name: dns.tsig.Key(name, settings.secret, settings.algorithm)}
        self._until = time.monotonic() + ALL_S

    def serves_the_zone(self) -> None:
        """Does it know zone and key?"""
        if not self._records(self._zone, "SOA"):
            raise NotDone(f"{self._where} does not serve the zone {self._settings.zone}")

    def point(self, name: str, address: str) -> str:
        """The name has this address alone afterwards; what was done, in one line."""
        import dns.name

        target = dns.name.from_text(name)
        had = self._addresses(target)
        if had == {address}:
            return f"{name} is at {address} already"
        self._update(target, address)
        for look in range(_LOOKS):
            found = self._addresses(target)
            if found == {address}:
                return f"{name} is at {address} now, was at {', '.join(sorted(had)) or 'none'}"
            if look + 1 < _LOOKS:
                time.sleep(_LOOK_AGAIN_S)
        said = ", ".join(sorted(found)) or "no address"
        raise NotDone(f"{self._where} has taken the update, and answers {said} for {name}, not {address}")

    def _update(self, name: dns.name.Name, address: str) -> None:
        import dns.update

        kind = "AAAA" if ":" in address else "A"
        update = dns.update.UpdateMessage(self._zone)
        update.delete(name, "A")
        update.delete(name, "AAAA")
        update.add(name, self._settings.ttl_s, kind, address)
        self._exchange(update, f"the update of {name}")

    def _addresses(self, name: dns.name.Name) -> set[str]:
        return {str(ip_address(text)) for kind in ("A", "AAAA") for text in self._records(name, kind)}

    def _records(self, name: dns.name.Name, kind: str) -> list[str]:
        """What the server itself has of this kind at this very name."""
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rdatatype

        question = dns.message.make_query(name, kind, flags=0)
        answer = self._exchange(question, f"the question for {name}", dns.rcode.NXDOMAIN)
        if not answer.flags & dns.flags.AA:
            raise NotDone(f"{self._where} is not the authority of {name}")
        wanted = dns.rdatatype.from_text(kind)
        return [str(data) for rrset in answer.answer if (rrset.name, rrset.rdtype) == (name, wanted) for data in rrset]

    def _exchange(self, message: dns.message.Message, what: str, *accepted: int) -> dns.message.Message:
        import dns.exception
        import dns.query
        import dns.rcode
        import dns.tsig

        message.use_tsig(self._keyring)
        left = self._until - time.monotonic()
        if left <= 0:
            raise NotDone(f"{self._where} is too slow: nothing more is tried after {ALL_S:g} s")
        server, port = self._settings.server, self._settings.port
        try:
            answer = dns.query.tcp(message, server, timeout=min(EXCHANGE_S, left), port=port)
        except dns.exception.Timeout:
            raise NotDone(f"{self._where} does not answer {what}") from None
        except dns.tsig.PeerBadKey:
            # Knot says so, too, of a key that it knows and that may not do this.
            why = f"{self._where} does not accept the key {self._settings.key} for {what}: unknown, or not allowed to"
            raise NotDone(why) from None
        except (dns.tsig.PeerBadSignature, dns.tsig.BadSignature):
            raise NotDone(f"{self._where} has another secret for the key {self._settings.key}") from None
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime):
            raise NotDone(f"the clocks of this machine and of {self._where} differ by minutes") from None
        except dns.exception.FormError as error:
            why = f"{self._where} has no signed answer for {what} ({error}): does it serve the zone, and know the key?"
            raise NotDone(why) from None
        except OSError as error:
            raise NotDone(f"{self._where}: {error.strerror or error}") from None
        except (EOFError, dns.exception.DNSException) as error:
            raise NotDone(f"{self._where}: {error or type(error).__name__}") from None
        code = answer.rcode()
        if code not in (dns.rcode.NOERROR, *accepted):
            raise NotDone(f"{self._where} refuses {what}: {dns.rcode.to_text(code)}")
        if not answer.had_tsig:
            # safety: anybody on the way can send such an answer. Newer dnspythons refuse it themselves.
            raise NotDone(f"{self._where} answers {what} without a signature: {dns.rcode.to_text(code)}")
        return answer


# ------------------------------------------------------------------------------------------------ what is asked of it


def follow(settings: DnsSettings, told: dict[str, Any]) -> str:
    """Do what an occasion asks for; what was done, in one line. Raises NotDone."""
    event, pool, master = told["event"], told["pool"], told["master"]
    if event not in EVENTS:
        return f"nothing to do for {event}"
    name = settings.name_of(pool["uuid"], pool["name"])
    if not name:
        return f"nothing to do: pool {pool['name']} has no name here"
    return point(settings, name, master["address"] if master else "")


def point(settings: DnsSettings, name: str, address: str) -> str:
    """Put this name at this address. Raises NotDone."""
    try:
        plain = str(ip_address(address))
    except ValueError:
        raise NotDone(f"{name} stays as it is: {address!r} is no IP address") from None
    return Server(settings).point(name, plain)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
@click.pass_context
def main(context: click.Context, file: Path) -> None:
    """Keep a DNS name at the address of a pool's master. Without a command: as a hook, with its JSON on stdin."""
    context.obj = file
    if context.invoked_subcommand is None:
        _answer(lambda: follow(load(file), _told()))


@main.command("check")
@click.pass_obj
def check(file: Path) -> None:
    """Read the file, and ask the server whether it knows zone and key; change nothing."""

    def ask() -> str:
        settings = load(file)
        Server(settings).serves_the_zone()
        return f"{file}: good; {settings.server} serves {settings.zone} and knows the key {settings.key}"

    _answer(ask)


@main.command("update")
@click.argument("pool")
@click.argument("address")
@click.pass_obj
def update(file: Path, pool: str, address: str) -> None:
    """Put the name of POOL at ADDRESS: the first time, or by hand."""

    def put() -> str:
        settings = load(file)
        name = settings.name_of(pool, pool)
        if not name:
            raise NotDone(f"{file} has no name for pool {pool}")
        return point(settings, name, address)

    _answer(put)


def _told() -> dict[str, Any]:
    given = sys.stdin.buffer.read(_LONGEST_INPUT)
    try:
        told = json.loads(given)
        version = told["version"]
        told["event"], told["pool"]["uuid"], told["pool"]["name"], told["master"]
    except (ValueError, KeyError, TypeError):
        raise NotDone("stdin holds no event of Poolwarden's; to try it: poolwarden-hook-dns check") from None
    if version != 1:
        raise NotDone(f"the event has version {version}, this hook knows 1")
    return dict(told)


def _answer(act: Any) -> None:
    try:
        click.echo(act())
    except (ConfigError, NotDone) as error:
        click.echo(f"{PROGRAM}: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
