"""The link side: a relay between the pipe and one gRPC stream over mutual TLS. Unprivileged; it decides nothing.

It imports grpc, the host side never does: on dom0's Python 3.6 that is grpcio 1.48.2, which is no longer maintained.
grpc.aio only: synchronous streaming of grpcio 1.46 to 1.48 spins (grpc/grpc#30428). Messages pass through as bytes, so
that no protobuf is needed here. What the collector does not take is bounded: a stream that stalls is ended, and the
next one begins with everything anew.

Which collector is dialled next is a rule of its own (core/collector_turns.py); what is made of what a collector says,
whether it welcomes this host or sends it on, is the host side's to say. There is one stream at a time: the next one is
dialled when the last one's channel is closed.
"""

import asyncio
import os
import random
import socket
from typing import Any, Dict, List, NamedTuple, Optional

import grpc
from grpc import aio

from poolwarden_agent.config import Certificates, Config
from poolwarden_agent.core.addresses import is_address
from poolwarden_agent.core.collector_turns import Address, Turns, first_of, joined, parsed
from poolwarden_agent.process.pipe import (
    DOWN,
    FROM_COLLECTOR,
    GO,
    LONGEST,
    MESSAGE,
    RENEW,
    UP,
    WELCOMED,
    Frames,
    PipeError,
    about,
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
CONNECT_LIMIT_S = 5.0
MOST_ADDRESSES = 4  # of a name, that are tried in one turn
MOST_WAITING = 500  # messages that the collector has not taken
LAST_WORDS_S = 1.0


class _Ended(NamedTuple):
    """How an attempt ended. ``why``: what is to be said, empty for a stream that just ended."""

    why: str
    refused: bool = False


class Relay(object):
    """Messages up and down, reconnecting for ever; one stream at a time, to the collector whose turn it is."""

    def __init__(
        self, pipe: socket.socket, config: Config, certificates: Optional[Certificates], trouble: str, turns: Turns
    ) -> None:
        self._pipe = pipe
        self._config = config
        self._certificates = certificates
        self._trouble = trouble  # why there are none
        self._turns = turns
        self._frames = Frames()
        self._stream = 0
        self._address: Address = ("", 0)  # where this stream, or the last one, was dialled
        self._outgoing: Optional[asyncio.Queue] = None
        self._renew = asyncio.Event()  # the stream that runs is to end
        self._running = False  # a stream is up, or has ended and its end is not noted yet
        self._was_up = False  # the last attempt came to a stream
        self._welcomed = False  # the stream is welcomed, as the host side says
        self._sent_on = False  # its collector has sent this host on, and the turns know it
        self._said = ""  # where to, in words
        self._told = asyncio.Event()  # the host side has said where to go
        self._down_lock = asyncio.Lock()
        self._names = Names()

    async def run(self) -> None:
        """Until the host side closes the pipe."""
        loop = asyncio.get_event_loop()
        reader = asyncio.ensure_future(self._read_pipe(loop))
        while not reader.done():
            self._told.clear()
            address, wait_s = self._turns.next(loop.time())
            if wait_s > 0:
                await self._pause(reader, wait_s)
                continue
            ended = await self._one_stream(address, reader)
            self._note(address, ended)
            if not reader.done():
                why = ended.why or self._said or "the stream has ended"
                await self._down(DOWN, about(joined(address), why))
        reader.result()

    async def _pause(self, reader: Any, wait_s: float) -> None:
        """Until it is over, the host side says where to go, or is gone."""
        told = asyncio.ensure_future(self._told.wait())
        await asyncio.wait([reader, told], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()

    def _note(self, address: Address, ended: _Ended) -> None:
        """What becomes of this address."""
        now_s, share = asyncio.get_event_loop().time(), random.uniform(0.4, 1.6)
        if self._welcomed and not self._sent_on and not ended.refused:
            self._turns.ended(address, now_s, share)
        elif not self._sent_on:
            self._turns.failed(address, now_s, share)
        self._running = self._welcomed = self._sent_on = False

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
                elif verb in (WELCOMED, GO):
                    self._judged(verb, payload)

    def _take(self, payload: bytes) -> None:
        stream, message = unnumbered(payload)
        if self._outgoing is None or stream != self._stream:
            return
        if self._outgoing.qsize() >= MOST_WAITING:
            self._renew.set()
        else:
            self._outgoing.put_nowait(message)

    def _judged(self, verb: bytes, payload: bytes) -> None:
        """What the host side makes of the collector of a stream; of a stream before the last one it is nothing new."""
        stream, said = unnumbered(payload)
        if stream != self._stream:
            return
        now_s = asyncio.get_event_loop().time()
        if verb == WELCOMED:
            if self._running:
                self._welcomed = True
                self._turns.welcomed(self._address, now_s)
            return
        to = parsed(said.decode("utf-8", "replace"))
        if to is None:
            self._turns.failed(self._address, now_s, random.uniform(0.4, 1.6))
            self._said = "it is left for the next one"
        else:
            odd = self._turns.sent(self._address, to, now_s)
            self._said = odd or "it has sent this host on to %s" % joined(to)
        self._sent_on = self._running
        self._renew.set()
        self._told.set()

    async def _down(self, verb: bytes, payload: bytes = b"") -> None:
        # Shielded: whoever is cancelled meanwhile would leave half a frame in the pipe.
        await asyncio.shield(self._write_down(frame(verb, payload)))

    async def _write_down(self, data: bytes) -> None:
        async with self._down_lock:
            await asyncio.get_event_loop().sock_sendall(self._pipe, data)

    def _channel(self, address: str, port: int) -> Any:
        ours = self._certificates
        if ours is None:
            raise OSError(self._trouble)
        credentials = grpc.ssl_channel_credentials(ours.ca, ours.key, ours.certificate)
        # safety: whichever address was dialled, whoever answers bears the collector's name, certified by our authority.
        options = OPTIONS + [("grpc.ssl_target_name_override", self._config.collector_name)]
        return aio.secure_channel(joined((address, port)), credentials, options=options)

    async def _one_stream(self, address: Address, reader: Any) -> _Ended:
        """One stream from the first address of this name that answers to its end."""
        try:
            found = await self._names.look_up(address[0])
        except OSError as error:
            return _Ended(str(error))
        ended = _Ended("")
        # An address that refuses is left at once where there is another one to go to.
        patient = len(found) == 1 and not self._turns.several
        limit_s = CONNECT_LIMIT_S if len(found) == 1 else CONNECT_LIMIT_S / 2
        for each in found:
            try:
                channel = self._channel(each, address[1])
            except OSError as error:
                return _Ended("certificate files: %s" % error)
            try:
                ended = await self._try(channel, address, reader, patient, limit_s)
            finally:
                self._outgoing = None
                await channel.close()
            if self._was_up or reader.done():
                break
        return ended

    async def _try(self, channel: Any, address: Address, reader: Any, patient: bool, limit_s: float) -> _Ended:
        self._was_up = False
        try:
            await asyncio.wait_for(_ready(channel, patient), limit_s)
            call = channel.stream_stream(ATTACH)()
            self._was_up = self._running = True
            self._stream += 1
            self._address = address
            self._outgoing = asyncio.Queue()
            self._renew.clear()
            self._welcomed = self._sent_on = False
            self._said = ""
            await self._down(UP, numbered(self._stream, joined(address).encode("utf-8")))
            return await self._relay(call, reader)
        except (asyncio.TimeoutError, _NotReady):
            return _Ended(await _why(channel))
        except (aio.AioRpcError, asyncio.InvalidStateError) as error:
            return _Ended(_say(error), _refused(error))

    async def _relay(self, call: Any, reader: Any) -> _Ended:
        send = asyncio.ensure_future(self._send(call))
        receive = asyncio.ensure_future(self._receive(call))
        renew = asyncio.ensure_future(self._renew.wait())
        within_s = self._turns.welcome_within_s(self._address)
        tasks = {send, receive, renew, reader}
        done, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        ended = _Ended("")
        if not done and not self._welcomed:
            self._turns.not_welcomed(self._address)
            ended = _Ended("it took the stream and has not welcomed this host within %d s" % (within_s or 0))
        elif not done:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if reader in done:
            await self._last_words(call, send, receive)
        for task in (send, receive, renew):
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            except (aio.AioRpcError, asyncio.InvalidStateError) as error:
                ended = _Ended(_say(error), True) if _refused(error) else ended
        call.cancel()
        return ended

    async def _last_words(self, call: Any, send: Any, receive: Any) -> None:
        """The host side has gone: give its Goodbye a moment to leave, and to be read."""
        assert self._outgoing is not None
        self._outgoing.put_nowait(None)
        done, _ = await asyncio.wait([send], timeout=LAST_WORDS_S)
        if done and send.exception() is None:
            try:
                await call.done_writing()
            except aio.InternalError:
                return  # the stream has ended in this very moment; gRPC says so here with an error of its own
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


class _NotReady(Exception):
    """The first attempt has failed."""


async def _ready(channel: Any, patient: bool) -> None:
    """Until it is connected. :raises _NotReady: it is refused, unless ``patient``: then gRPC tries again and again."""
    state = channel.get_state(try_to_connect=True)
    while state != grpc.ChannelConnectivity.READY:
        if state == grpc.ChannelConnectivity.TRANSIENT_FAILURE and not patient:
            raise _NotReady()
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)


class Names(object):
    """Which addresses a name has; a look-up that hangs is waited for again, never made twice beside itself."""

    def __init__(self) -> None:
        self._asked: Dict[str, Any] = {}

    async def look_up(self, name: str) -> List[str]:
        """The name's addresses in the resolver's order, at most ``MOST_ADDRESSES``; an address is its own.

        :raises OSError: there are none.
        """
        if is_address(name):
            return [name]
        if name not in self._asked:
            asking = asyncio.get_event_loop().run_in_executor(
                None, socket.getaddrinfo, name, None, 0, socket.SOCK_STREAM
            )
            asking.add_done_callback(lambda _: self._asked.pop(name, None))
            self._asked[name] = asking
        try:
            found = await asyncio.wait_for(asyncio.shield(self._asked[name]), CONNECT_LIMIT_S)
        except asyncio.TimeoutError:
            raise OSError("the name %s is not resolved within %d s" % (name, CONNECT_LIMIT_S)) from None
        except (OSError, UnicodeError) as error:
            raise OSError("the name %s is not resolved: %s" % (name, getattr(error, "strerror", error))) from None
        addresses = []  # type: List[str]
        for each in found:
            addresses += [str(each[4][0])] if each[4][0] not in addresses else []
        return addresses[:MOST_ADDRESSES]


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


def main(
    pipe: socket.socket, config: Config, certificates: Optional[Certificates], trouble: str, host_uuid: str
) -> int:
    """The link side's whole life, in its own process. ``trouble``: why there are no certificates."""
    turns = Turns(config.collectors, first_of(host_uuid, len(config.collectors)))
    pipe.setblocking(False)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(Relay(pipe, config, certificates, trouble, turns).run())
    except (OSError, PipeError):  # the host side is gone, or does not keep to the frames
        pass
    os._exit(0)
