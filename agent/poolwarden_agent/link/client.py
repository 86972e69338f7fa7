"""The link side: a relay between the pipe and one gRPC stream over mutual TLS. Unprivileged; it decides nothing.

It imports grpc, the host side never does: on dom0's Python 3.6 that is grpcio 1.48.2, which is no longer maintained.
grpc.aio only: synchronous streaming of grpcio 1.46 to 1.48 spins (grpc/grpc#30428). Messages pass through as bytes, so
that no protobuf is needed here. What the collector does not take is bounded: a stream that stalls is ended, and the
next one begins with everything anew.
"""

import asyncio
import os
import random
import socket
from typing import Any, Optional

import grpc
from grpc import aio

from poolwarden_agent.config import Certificates, Config
from poolwarden_agent.process.pipe import (
    DOWN,
    FROM_COLLECTOR,
    LONGEST,
    MESSAGE,
    RENEW,
    UP,
    Frames,
    PipeError,
    frame,
    numbered,
    unnumbered,
)

ATTACH = "/poolwarden.v1.AgentLink/Attach"

OPTIONS = [
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", LONGEST),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A channel of its own for every attempt: a cached, broken one must not be handed out again.
    ("grpc.use_local_subchannel_pool", 1),
]
FIRST_WAIT_S = 0.6
LONGEST_WAIT_S = 5.0
CONNECT_LIMIT_S = 5.0
MOST_WAITING = 500  # messages that the collector has not taken
LAST_WORDS_S = 1.0


class Relay(object):
    """Messages up and down, reconnecting for ever."""

    def __init__(self, pipe: socket.socket, config: Config, certificates: Optional[Certificates], trouble: str) -> None:
        self._pipe = pipe
        self._config = config
        self._certificates = certificates
        self._trouble = trouble  # why there are none
        self._frames = Frames()
        self._stream = 0
        self._outgoing: Optional[asyncio.Queue] = None
        self._renew = asyncio.Event()
        self._down_lock = asyncio.Lock()

    async def run(self) -> None:
        """Until the host side closes the pipe."""
        loop = asyncio.get_event_loop()
        reader = asyncio.ensure_future(self._read_pipe(loop))
        wait = FIRST_WAIT_S
        while not reader.done():
            ended = await self._one_stream(reader)
            wait = FIRST_WAIT_S if ended == "" else min(wait * 2, LONGEST_WAIT_S)
            if not reader.done():
                await self._down(DOWN, (ended or "the stream has ended").encode("utf-8", "replace"))
                await asyncio.wait([reader], timeout=wait * random.uniform(0.4, 1.6))
        reader.result()

    async def _read_pipe(self, loop: Any) -> None:
        while True:
            data = await loop.sock_recv(self._pipe, 65536)
            if not data:
                return
            for verb, payload in self._frames.feed(data):
                if verb == MESSAGE:
                    self._take(payload)
                elif verb == RENEW:
                    self._renew.set()

    def _take(self, payload: bytes) -> None:
        stream, message = unnumbered(payload)
        if self._outgoing is None or stream != self._stream:
            return
        if self._outgoing.qsize() >= MOST_WAITING:
            self._renew.set()
        else:
            self._outgoing.put_nowait(message)

    async def _down(self, verb: bytes, payload: bytes = b"") -> None:
        async with self._down_lock:
            await asyncio.get_event_loop().sock_sendall(self._pipe, frame(verb, payload))

    def _channel(self) -> Any:
        ours = self._certificates
        if ours is None:
            raise OSError(self._trouble)
        credentials = grpc.ssl_channel_credentials(ours.ca, ours.key, ours.certificate)
        options = OPTIONS + [("grpc.ssl_target_name_override", self._config.collector_name)]
        host, port = self._config.collector
        return aio.secure_channel(
            "%s:%d" % ("[%s]" % host if ":" in host else host, port), credentials, options=options
        )

    async def _one_stream(self, reader: Any) -> str:
        """One stream from connection to end; empty if it had been up, else why it was not or must not be at once."""
        try:
            channel = self._channel()
        except OSError as error:
            return "certificate files: %s" % error
        try:
            await asyncio.wait_for(_ready(channel), CONNECT_LIMIT_S)
            attach = channel.stream_stream(ATTACH)
            call = attach()
            self._stream += 1
            self._outgoing = asyncio.Queue()
            self._renew.clear()
            await self._down(UP, numbered(self._stream))
            return await self._relay(call, reader)
        except asyncio.TimeoutError:
            return await _why(channel)
        except (aio.AioRpcError, asyncio.InvalidStateError) as error:
            return _say(error)
        finally:
            self._outgoing = None
            await channel.close()

    async def _relay(self, call: Any, reader: Any) -> str:
        send = asyncio.ensure_future(self._send(call))
        receive = asyncio.ensure_future(self._receive(call))
        renew = asyncio.ensure_future(self._renew.wait())
        done, _ = await asyncio.wait([send, receive, renew, reader], return_when=asyncio.FIRST_COMPLETED)
        if reader in done:
            await self._last_words(call, send, receive)
        why = ""
        for task in (send, receive, renew):
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            except (aio.AioRpcError, asyncio.InvalidStateError) as error:
                why = _say(error) if _refused(error) else why
        call.cancel()
        return why

    async def _last_words(self, call: Any, send: Any, receive: Any) -> None:
        """The host side has gone: give its Goodbye a moment to leave, and to be read."""
        assert self._outgoing is not None
        self._outgoing.put_nowait(None)
        done, _ = await asyncio.wait([send], timeout=LAST_WORDS_S)
        if done and send.exception() is None:
            await call.done_writing()
            await asyncio.wait([receive], timeout=LAST_WORDS_S)

    async def _send(self, call: Any) -> None:
        outgoing = self._outgoing
        assert outgoing is not None
        while True:
            message = await outgoing.get()
            if message is None:
                return
            await call.write(message)

    async def _receive(self, call: Any) -> None:
        while True:
            message = await call.read()
            if message is aio.EOF:
                return
            await self._down(FROM_COLLECTOR, message)


async def _ready(channel: Any) -> None:
    await channel.channel_ready()


async def _why(channel: Any) -> str:
    """Why a channel does not become ready: only a call tells."""
    call = channel.stream_stream(ATTACH)(timeout=1.0)
    try:
        await call.read()
    except (aio.AioRpcError, asyncio.InvalidStateError) as error:
        return _say(error)
    finally:
        call.cancel()
    return "the collector does not answer"


def _refused(error: Exception) -> bool:
    """Did the collector refuse? Then reconnecting at once is of no use."""
    code = error.code() if isinstance(error, aio.AioRpcError) else None
    return code in (
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    )


# What gRPC 1.48 and later say of a TLS handshake that failed, and what it means here.
HANDSHAKES = (
    ("Peer name", "the collector's certificate does not bear the name of collector_name in agent.conf"),
    ("Hostname Verification", "the collector's certificate does not bear the name of collector_name in agent.conf"),
    (
        "handshake failed",
        "the collector's certificate is not of the authority in ca.pem, or not valid today: compare ca.pem with the "
        "collector's, and the clocks",
    ),
    (
        "Socket closed",
        "the collector ends the handshake: cert.pem is of another authority than the collector's, or something else "
        "listens at that port",
    ),
)


def plainly(details: str) -> str:
    """What an administrator can do something with, before the library's own words."""
    return next(("%s (%s)" % (plain, details) for words, plain in HANDSHAKES if words in details), details)


def _say(error: Exception) -> str:
    if isinstance(error, aio.AioRpcError):
        return "%s: %s" % (error.code().name, plainly(error.details() or ""))
    return "%s: %s" % (type(error).__name__, error)


def main(pipe: socket.socket, config: Config, certificates: Optional[Certificates], trouble: str) -> int:
    """The link side's whole life, in its own process. ``trouble``: why there are no certificates."""
    pipe.setblocking(False)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(Relay(pipe, config, certificates, trouble).run())
    except (OSError, PipeError):  # the host side is gone, or does not keep to the frames
        pass
    os._exit(0)
