"""`poolwarden token`, `enrolment`, `certificate`: who may bring hosts in, which keys wait, which certificates end."""

from typing import TYPE_CHECKING, Any

import click

from poolwarden_collector.cli.act import actor
from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone, show
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from poolwarden.v1 import enrolment_pb2 as api

_SHOWN = 16  # digits of a key
_TONES: dict[str, Tone] = {"certified": "good", "usable": "good", "waiting": "warn", "denied": "bad"}


@click.group(cls=Commands, short_help="Tokens by which hosts enrol.")
@common_options
def token() -> None:
    """Tokens: each lets hosts of one pool enrol, for some hours."""


@token.command(short_help="A token for hosts of a pool; told once.")
@click.option("--pool", required=True, metavar="POOL", help="Name, or UUID (of a pool that is not guarded yet).")
@click.option("--ttl", default="2h", show_default=True, metavar="DURATION", help="How long it lasts; 24h at most.")
@click.option(
    "--uses", default=1, show_default=True, metavar="N", type=click.IntRange(1, 64), help="For so many hosts."
)
@click.option("--host", default="", metavar="HOST", help="For this host alone: UUID, or name if it is on record.")
@click.option("--reason", default="", help="Kept in the history.")
@common_options
@click.pass_obj
def create(settings: Settings, pool: str, ttl: str, uses: int, host: str, reason: str) -> None:
    """Make a token and print the line to type in dom0 of each host that is to enrol with it.

    The token is shown once. What it lets in are hosts that nobody knows yet; a known host with another key waits for
    `poolwarden enrolment accept`.
    """
    from poolwarden.v1 import enrolment_pb2
    from poolwarden_collector.cli.times import duration_ms

    request = enrolment_pb2.CreateTokenRequest(
        pool=pool, ttl_s=_seconds(duration_ms(ttl)), uses=uses, host_uuid=host, actor=actor(), reason=reason
    )
    with connect(settings) as collector:
        reply = collector.create_token(request)
    if settings.json:
        return _json(reply)
    many = f"on each of {uses} hosts" if uses > 1 else f"on {host}" if host else "on the host"
    click.echo(f"Token {reply.id} lasts until {_when(reply.expires_wall_ms)} UTC. In dom0 {many}:\n")
    given = f"--collector {reply.address} --token {reply.token} --ca-fingerprint {reply.ca_fingerprint}"
    click.echo(f"poolwarden-agent enrol {given}")
    return None


@token.command("list", short_help="Tokens and what became of them.")
@click.argument("pool", required=False, default="")
@common_options
@click.pass_obj
def list_tokens(settings: Settings, pool: str) -> None:
    """Tokens and what became of them, those of POOL or all; the newest first."""
    with connect(settings) as collector:
        reply = collector.tokens(pool)
    if settings.json:
        return _json(reply)
    rows = [
        (
            each.id,
            Piece(each.state, _TONES.get(each.state, "")),
            each.pool,
            each.host_uuid or "any",
            f"{each.used} of {each.uses}",
            _when(each.expires_wall_ms),
            each.actor,
        )
        for each in reply.tokens
    ]
    headers = ("TOKEN", "STATE", "POOL", "HOST", "USED", "ENDS (UTC)", "BY")
    return show([Table(headers, rows) if rows else Line("no token was made in the last 30 days")], settings)


@token.command(short_help="TOKEN lets nobody in any more.")
@click.argument("name", metavar="TOKEN")
@click.option("--reason", default="", help="Kept in the history.")
@common_options
@click.pass_obj
def revoke(settings: Settings, name: str, reason: str) -> None:
    """TOKEN (its name in `token list`) lets nobody in any more; who has enrolled with it stays enrolled."""
    from poolwarden.v1 import enrolment_pb2

    with connect(settings) as collector:
        reply = collector.revoke_token(enrolment_pb2.RevokeTokenRequest(id=name, actor=actor(), reason=reason))
    _say(reply, settings)


@click.group(cls=Commands, short_help="Keys of hosts: certified, or waiting for you.")
@common_options
def enrolment() -> None:
    """Keys of hosts: which are certified, and which wait for a person."""


@enrolment.command("list", short_help="Keys of hosts, those that wait first.")
@click.argument("pool", required=False, default="")
@click.option("--waiting", is_flag=True, help="Only those that wait for a person.")
@common_options
@click.pass_obj
def list_keys(settings: Settings, pool: str, waiting: bool) -> None:
    """Keys of hosts, those of POOL or all: which machine asked with each, and what became of it."""
    with connect(settings) as collector:
        reply = collector.keys(pool)
    if waiting:
        kept = [key for key in reply.keys if key.state == "waiting"]
        del reply.keys[:]
        reply.keys.extend(kept)
    if settings.json:
        return _json(reply)
    rows = [
        (
            key.key_sha256[:_SHOWN],
            Piece(key.state, _TONES.get(key.state, "")),
            key.host_name or key.host_uuid,
            _when(key.expires_wall_ms) if key.expires_wall_ms else "-",
            key.serial or "-",
            key.machine,
        )
        for key in reply.keys
    ]
    headers = ("KEY", "STATE", "HOST", "CERTIFIED UNTIL", "SERIAL", "MACHINE")
    page: Page = [Table(headers, rows) if rows else Line("no key waits" if waiting else "no host has enrolled")]
    for key in (key for key in reply.keys if key.state == "waiting"):
        page += [Line(), Line(key.text, label=f"{key.key_sha256[:_SHOWN]}: ")]
        page += [Line(f"poolwarden enrolment accept {key.key_sha256[:_SHOWN]}, or refuse", label="YOU: ")]
    return show(page, settings)


@enrolment.command(short_help="The host that asks with KEY is the one that it says.")
@click.argument("key")
@click.option("--reason", default="", help="Kept in the history.")
@common_options
@click.pass_obj
def accept(settings: Settings, key: str, reason: str) -> None:
    """Certify KEY, with which a known host asks: you know that it was installed anew, or that it has moved.

    KEY: at least 8 digits of it, as `enrolment list` shows them. The host's present key stays good until a stream has
    come with the new one.
    """
    _decide(settings, key, True, reason)


@enrolment.command(short_help="KEY is not certified.")
@click.argument("key")
@click.option("--reason", default="", help="Kept in the history.")
@common_options
@click.pass_obj
def refuse(settings: Settings, key: str, reason: str) -> None:
    """Do not certify KEY, with which a known host asks: it is a clone, or a stranger."""
    _decide(settings, key, False, reason)


@click.group(cls=Commands, short_help="Certificates of hosts.")
@common_options
def certificate() -> None:
    """Certificates of hosts."""


@certificate.command("deny", short_help="Nobody may use this certificate any more.")
@click.argument("which", metavar="SERIAL|HOST")
@click.option("--reason", default="", help="Kept in the history, and told to who comes with it.")
@common_options
@click.pass_obj
def deny_certificate(settings: Settings, which: str, reason: str) -> None:
    """Nobody may use the certificate SERIAL any more, or any that HOST has; streams with it end at once.

    For a host that was stolen or broken into. It comes back with a new key, a new token, and
    `poolwarden enrolment accept`. It ends no VM and begins no failover: the pool's members go on to see that host.
    """
    from poolwarden.v1 import enrolment_pb2

    request = enrolment_pb2.DenyCertificateRequest(serial=which, actor=actor(), reason=reason)
    with connect(settings) as collector:
        reply = collector.deny_certificate(request)
    _say(reply, settings)


def _decide(settings: Settings, key: str, accept: bool, reason: str) -> None:
    from poolwarden.v1 import enrolment_pb2

    request = enrolment_pb2.DecideKeyRequest(key_sha256=key, accept=accept, actor=actor(), reason=reason)
    with connect(settings) as collector:
        reply = collector.decide_key(request)
    _say(reply, settings)


def _say(reply: "api.EnrolmentReply", settings: Settings) -> None:
    if settings.json:
        _json(reply)
    if not reply.accepted:
        raise AnswerIsNo(reply.text, reply.next_step)
    if not settings.json:
        show([Line(reply.text)], settings)


def _json(reply: Any) -> None:
    from poolwarden_collector.cli.as_json import as_object, print_json

    print_json(as_object(reply))


def _seconds(ms: int) -> int:
    if ms < 1_000:
        raise BadInput("a token of no time is none", "for example --ttl 2h")
    return ms // 1_000


def _when(wall_ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%Y-%m-%d %H:%M}"
