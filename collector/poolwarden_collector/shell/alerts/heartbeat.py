"""The heartbeat: an address that is asked for again and again while the collector does its work.

Who watches the watcher is a service elsewhere that tells a person when the requests stop coming (as healthchecks.io,
Uptime Kuma's push monitors and others do).

Rules
-----
* A request is sent only while the collector does its work (``alive``): a loop that stands still, a journal that cannot
  be written, another collector in charge of every pool, or no right to act for 2 minutes (of one of several) end it,
  as the end of the process or of its machine does.
  Nothing is ever sent to say so: silence is the message.
* The answer is not needed. A failure is logged once, and the next request comes at its usual time.
* The address is a secret, for whoever has it can send heartbeats: it stands in no error and in no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

LIMIT_S = 10.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """Asks for ``url`` every ``every_s``; an empty one: never."""

    def __init__(self, url: str, every_s: float, alive: Callable[[], bool]) -> None:
        self._url = url
        self._every_s = every_s
        self._alive = alive
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._thread = ThreadPoolExecutor(1, "heartbeat")
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    def start(self) -> None:
        if self._url:
            self._task = asyncio.ensure_future(self._run())

    def replace(self, url: str, every_s: float) -> None:
        """From now on ask for this address, as often as this."""
        if (url, every_s) == (self._url, self._every_s):
            return
        self._url, self._every_s, self._failed = url, every_s, False
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.start()

    async def stop(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            next_at = loop.time() + self._every_s
            if self._alive():
                self._note(await loop.run_in_executor(self._thread, self._beat))
            await asyncio.sleep(max(0.0, next_at - loop.time()))

    def _beat(self) -> str:
        """Why it was not taken; empty if it was."""
        request = urllib.request.Request(self._url, headers={"User-Agent": "poolwarden-collector"})  # noqa: S310
        try:
            with self._opener.open(request, timeout=LIMIT_S) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            return f"the receiver answered {error.code}"
        except urllib.error.URLError as error:
            return f"no answer: {error.reason}"
        except Exception as error:  # whatever it is, it may hold the address
            return f"no answer: {type(error).__name__}"
        return ""

    def _note(self, why: str) -> None:
        if why and not self._failed:
            _log.warning("the heartbeat is not taken: %s", why)
        elif self._failed and not why:
            _log.warning("the heartbeat is taken again")
        self._failed = bool(why)
