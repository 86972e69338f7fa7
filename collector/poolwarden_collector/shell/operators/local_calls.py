"""``poolwarden-collector reload`` and ``drain``: what is asked of the collector that runs on this machine.

Rule: of the file only the collector's name and the path of its socket are read here. Whether the rest is good is the
running collector's to say, which knows what it runs with and has the environment that it runs in.
"""

from __future__ import annotations

import getpass
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.shell.config.config import name_and_socket

LIMIT_S = 300.0  # every fence agent is asked about itself, some take seconds, and another reload may be before us
_DRAIN_S = 30.0
_CONNECT_S = 5.0


class NoAnswer(Exception):
    """Nothing is known of what the collector did; one sentence."""


def reload(file: Path, reason: str = "") -> pb.ReloadReply:
    """Have it read its configuration again. Raises ConfigError where the file does not tell the socket, NoAnswer."""
    _, socket = name_and_socket(file)
    with _asking(socket, "poolwarden history shows whether it was reloaded") as stub:
        request = pb.ReloadRequest(actor=_actor(), file=str(file.resolve()), reason=reason)
        reply: pb.ReloadReply = stub.Reload(request, timeout=LIMIT_S)
    return reply


def drain(file: Path, end: bool, reason: str = "") -> pb.CommandReply:
    """Have it give its pools up, or take pools again. Raises as ``reload`` does."""
    name, socket = name_and_socket(file)
    with _asking(socket, "poolwarden collectors shows whether it gives its pools up") as stub:
        wanted = pb.Drain(collector=name, end=end)
        request = pb.CommandRequest(actor=_actor(), reason=reason, id=str(uuid.uuid4()), drain=wanted)
        reply: pb.CommandReply = stub.Command(request, timeout=_DRAIN_S)
    return reply


def tell(reply: pb.ReloadReply) -> None:
    """What was taken, for people."""
    click.echo(reply.text)
    for change in reply.changes:
        click.echo(f"  {change}")
    for warning in reply.warnings:
        click.echo(f"warning: {warning}", err=True)


@contextmanager
def _asking(socket: Path, where_to_look: str) -> Iterator[rpc.OperatorStub]:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            grpc.channel_ready_future(channel).result(_CONNECT_S)
        except grpc.FutureTimeoutError:
            raise NoAnswer(
                f"no collector answers at {socket}: is it running, and may you write to that socket?"
            ) from None
        try:
            yield rpc.OperatorStub(channel)
        except grpc.RpcError as error:
            said = error.details() if isinstance(error, grpc.Call) else ""
            raise NoAnswer(f"{socket}: {said or error}; {where_to_look}") from None


def _actor() -> str:
    """The login name of the person at the keyboard, who is behind sudo if that was used."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
