"""A small collector for tests: a grpc.aio server with mutual TLS in a thread of its own, driven from the test."""

import asyncio
import queue
import threading

import grpc
from grpc import aio

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import agent_link_pb2_grpc as rpc

from .tree import until

OPTIONS = [
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
]


class Stream(object):
    """One agent's stream as the collector sees it."""

    def __init__(self, uris):
        self.uris = uris
        self.messages = []
        self.results_before = 0  # how many results of orders had come when the newest message was sent
        self.outgoing = None
        self.ended = False

    def of(self, kind):
        """Bodies of this kind that came so far."""
        return [getattr(m, kind) for m in list(self.messages) if m.WhichOneof("body") == kind]

    def wait(self, kind, accept=lambda body: True, limit_s=30.0):
        """The first body of this kind that is accepted."""
        return until(lambda: next(iter(b for b in self.of(kind) if accept(b)), None), limit_s, kind)

    def fresh(self, kind, accept=lambda body: True, limit_s=30.0):
        """The first accepted body of this kind that comes from now on; not for answers, which may be there already."""
        known = len(self.of(kind))
        return until(lambda: next(iter(b for b in self.of(kind)[known:] if accept(b)), None), limit_s, kind)

    def result(self, accept, limit_s=30.0):
        """The first accepted result of an order that came after the newest message was sent."""
        known, of = self.results_before, "order_result"
        return until(lambda: next(iter(b for b in self.of(of)[known:] if accept(b)), None), limit_s, of)


class Collector(rpc.AgentLinkServicer):
    """Serves AgentLink on ``host``; ``settings`` go out with Welcome, or ``opening`` does instead of it."""

    def __init__(self, certificates, port=0, host="127.0.0.1", epoch=1):
        self._certificates = certificates
        self.port = port
        self.host = host
        self.epoch = epoch
        self.opening = None  # messages that a stream begins with; None: a Welcome
        self.streams = []
        self.settings = pb.Settings(report_interval_ms=500, probe_interval_ms=500, probe_timeout_ms=300)
        self._started = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.daemon = True

    def start(self):
        self._thread.start()
        self.port = self._started.get(timeout=10)
        return self

    def _run(self):
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self):
        def read(name):
            return (self._certificates / name).read_bytes()

        self._stop = asyncio.Event()
        self._server = aio.server(options=OPTIONS)
        rpc.add_AgentLinkServicer_to_server(self, self._server)
        pairs = [(read("collector.key"), read("collector.pem"))]
        credentials = grpc.ssl_server_credentials(pairs, read("ca.pem"), True)
        port = self._server.add_secure_port("%s:%d" % (self.host, self.port), credentials)
        await self._server.start()
        self._started.put(port)
        await self._stop.wait()
        await self._server.stop(0)

    @property
    def address(self):
        return "%s:%d" % (self.host, self.port)

    def stop(self):
        """End every stream without a word."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def Attach(self, request_iterator, context):  # noqa: N802  (the contract's name)
        """One agent's stream."""
        stream = Stream(context.auth_context().get("x509_subject_alternative_name", []))
        stream.outgoing = asyncio.Queue()
        welcome = pb.CollectorMessage(welcome=pb.Welcome(epoch=self.epoch, settings=self.settings))
        for message in [welcome] if self.opening is None else self.opening:
            stream.outgoing.put_nowait(message)
        self.streams.append(stream)
        reader = asyncio.ensure_future(self._read(stream, context))
        get = reader
        try:
            while not reader.done():
                get = asyncio.ensure_future(stream.outgoing.get())
                await asyncio.wait([get, reader], return_when=asyncio.FIRST_COMPLETED)
                if not get.done():
                    break
                message = get.result()
                if message is None:
                    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "go away")
                await context.write(message)
        finally:
            reader.cancel()
            get.cancel()
            stream.ended = True

    async def _read(self, stream, context):
        while True:
            message = await context.read()
            if message is aio.EOF:
                return
            stream.messages.append(message)

    def send(self, stream, **body):
        message = pb.CollectorMessage(**body) if body else None
        stream.results_before = len(stream.of("order_result"))
        self._loop.call_soon_threadsafe(stream.outgoing.put_nowait, message)

    def stream(self, number=0, limit_s=30.0):
        """The stream with this number, once it has said Hello and sent a full report."""
        until(lambda: len(self.streams) > number, limit_s, "stream %d" % number)
        stream = self.streams[number]
        stream.wait("report", limit_s=limit_s)
        return stream
