"""``poolwarden-collector reload``: has this machine's collector read its configuration again; says what came of it.

Rule: of the file only the socket's path is read here. Whether the rest is good is the running collector's to say, which
knows what it runs with and has the environment that it runs in.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import click
import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.shell.config.config import socket_path

LIMIT_S = 300.0  # every fence agent is asked about itself, some take seconds, and another reload may be before us
_CONNECT_S = 5.0


class NoAnswer(Exception):
    """Nothing is known of what the collector did; one sentence."""


def ask(file: Path, reason: str = "") -> pb.ReloadReply:
    """Ask for it. Raises ConfigError where the file does not tell the socket, NoAnswer."""
    socket = socket_path(file)
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            grpc.channel_ready_future(channel).result(_CONNECT_S)
        except grpc.FutureTimeoutError:
            raise NoAnswer(
                f"no collector answers at {socket}: is it running, and may you write to that socket?"
            ) from None
        try:
            request = pb.ReloadRequest(actor=_actor(), file=str(file.resolve()), reason=reason)
            reply: pb.ReloadReply = rpc.OperatorStub(channel).Reload(request, timeout=LIMIT_S)
        except grpc.RpcError as error:
            said = error.details() if isinstance(error, grpc.Call) else ""
            raise NoAnswer(f"{socket}: {said or error}; poolwarden history shows whether it was reloaded") from None
    return reply


def tell(reply: pb.ReloadReply) -> None:
    """What was taken, for people."""
    click.echo(reply.text)
    for change in reply.changes:
        click.echo(f"  {change}")
    for warning in reply.warnings:
        click.echo(f"warning: {warning}", err=True)


def _actor() -> str:
    """The login name of the person at the keyboard, who is behind sudo if that was used."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
