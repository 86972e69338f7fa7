"""The exporter: a thread with an event loop that serves the metrics, and a worker that writes them out.

Rules
-----
* A look is taken in the collector's loop and costs it next to nothing (look.py); all else is done in the worker. What
  was written out serves everybody for a second: ten readers cost as much as one.
* There are few forms of the page. Whoever invents more of them in one second is refused those.
* A collector whose loop does not answer within ``LOOK_S`` is told as that (503): to monitoring it is down.
* An address that cannot be listened on stops no collector: it is told in ``status``, and tried again every 10 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from poolwarden_collector.shell.config.metrics import Metrics
from poolwarden_collector.shell.metrics.exposition import Written, write_out
from poolwarden_collector.shell.metrics.http import HttpServer, Unavailable
from poolwarden_collector.shell.metrics.ledger import read_past
from poolwarden_collector.shell.metrics.look import Look, Watch
from poolwarden_collector.shell.store.journal import Journal, JournalError

LOOK_S = 8.0
FRESH_S = 1.0
AGAIN_S = 10.0
MOST_FORMS = 8
_STOP_S = 5.0

_log = logging.getLogger(__name__)


class Exporter:
    """Serves ``watch``'s looks. ``start`` and ``stop`` are called in the collector's event loop."""

    def __init__(self, settings: Metrics, watch: Watch, journal: Journal, warn: Callable[[str, str], None]) -> None:
        """``warn``: told, in the collector's loop, what an operator should see, and about what that is."""
        self._settings = settings
        self._watch = watch
        self._journal = journal
        self._warn = warn
        self._server = HttpServer(settings, self._page)
        self._worker = ThreadPoolExecutor(1, "metrics-worker")
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._theirs: asyncio.AbstractEventLoop | None = None  # the collector's
        self._ours = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._making: dict[str, tuple[float, asyncio.Task[Written]]] = {}
        self._past: asyncio.Task[None] | None = None
        self._ended = threading.Event()
        self.listening = threading.Event()

    @property
    def port(self) -> int:
        """The port that it listens on; 0: none yet."""
        return self._server.port

    def start(self) -> None:
        """Begin to count the past and to serve."""
        self._theirs = asyncio.get_running_loop()
        self._past = asyncio.ensure_future(self._read_past())
        self._thread.start()

    async def stop(self) -> None:
        """Serve nothing more."""
        past, self._past = self._past, None
        if past is None:
            return
        self._ended.set()
        past.cancel()
        self._ours.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, _STOP_S)
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _read_past(self) -> None:
        while True:
            try:
                past = await asyncio.to_thread(read_past, self._journal.path, self._ended.is_set)
                self._watch.ledger.begin(past)
            except JournalError as error:
                self._warn(f"metrics lack what is counted from the journal: {error}", "metrics: journal")
                await asyncio.sleep(AGAIN_S)
            else:
                return

    # ------------------------------------------------------------------------------------------------ its own thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._ours)
        try:
            self._ours.run_until_complete(self._serve())
        finally:
            self._ours.close()

    async def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                self._server.start()
            except OSError as error:
                where = f"{self._settings.address}: metrics cannot be served there"
                _log.error("%s: %s; again in %.0f s", where, error, AGAIN_S)
                self._tell(f"{where}: {error}", "metrics: address")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), AGAIN_S)
            else:
                _log.info("metrics on %s", self._settings.address)
                self.listening.set()
                await self._stopping.wait()
        await self._server.stop()
        tasks = [task for _, task in self._making.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, text: str, about: str) -> None:
        assert self._theirs is not None
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile
            self._theirs.call_soon_threadsafe(self._warn, text, about)

    async def _page(self, accept: str) -> Written:
        """What was made within a second for such a reader, or is being made; else made now."""
        now = self._ours.time()
        self._making = {
            form: (began, task)
            for form, (began, task) in self._making.items()
            if not task.done() or now - began < FRESH_S
        }
        if accept not in self._making:
            if len(self._making) >= MOST_FORMS:
                raise Unavailable("too many forms of this page were asked for at once")
            self._making[accept] = (now, asyncio.ensure_future(self._make(accept)))
        return await asyncio.shield(self._making[accept][1])

    async def _make(self, accept: str) -> Written:
        look = await self._look()
        return await self._ours.run_in_executor(self._worker, write_out, look, accept)

    async def _look(self) -> Look:
        assert self._theirs is not None
        coroutine = self._watch.look(self._ours.time())
        try:
            asked = asyncio.run_coroutine_threadsafe(coroutine, self._theirs)
        except RuntimeError:
            coroutine.close()
            raise Unavailable("the collector is stopping") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), LOOK_S)
        except TimeoutError:
            raise Unavailable(f"the collector did not answer within {LOOK_S:.0f} s") from None
