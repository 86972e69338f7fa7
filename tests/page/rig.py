"""A page over real parts: TLS, sign-in, the operators' interface; its pools are states of the engine's own."""

from __future__ import annotations

import contextlib
import functools
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from tests.shell.many import pools, served
from tests.shell.rig import write_config

from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.operators import Role
from poolwarden_collector.shell.page import users
from poolwarden_collector.shell.page.identity import COOKIE
from poolwarden_collector.shell.page.server import PageServer
from poolwarden_collector.shell.parts import Parts

PASSWORD = "correct horse battery"
PAGE = '[page]\nlisten = "127.0.0.1:0"\ncert = "tls/cert.pem"\nkey = "tls/key.pem"\nclient_ca = "tls/ca.pem"\n'


@functools.cache
def two_pools() -> tuple[Pool, ...]:
    """One whose master is lost, and that waits for a person; one with a silent member. Played once."""
    return tuple(pools(2, 3))


@dataclass(frozen=True, slots=True)
class Site:
    """A page that is served; ``web`` keeps its cookies as a browser does."""

    folder: Path
    parts: Parts
    web: aiohttp.ClientSession

    @property
    def page(self) -> PageServer:
        assert self.parts.page is not None
        return self.parts.page

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.page.port}"

    def user(self, name: str, pools: Iterable[str] | None = None, role: Role = Role.VIEWER) -> None:
        """Make one, as `web-user add` does."""
        file = users.UserFile(self.folder / "state")
        scope = frozenset(pools) if pools is not None else None
        file.write({**file.all(), name: users.made(name, PASSWORD, role, scope)})

    async def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> aiohttp.ClientResponse:
        """By the form, as a browser would; the answer to it, before it is followed."""
        async with self.web.get(f"{self.base}/sign-in") as reply:
            token = re.search(r'name="token" value="([0-9a-f]+)"', await reply.text())
        form = {"name": name, "password": password, "token": token[1] if token else "", "to": "/", **more}
        async with self.web.post(f"{self.base}/sign-in", data=form, allow_redirects=False) as answer:
            await answer.read()
            return answer

    async def get(self, path: str, status: int = 200, **more: object) -> str:
        """The text of a page."""
        async with self.web.get(f"{self.base}{path}", allow_redirects=False, **more) as reply:  # type: ignore[arg-type]
            text = await reply.text()
            assert reply.status == status, (reply.status, text[-400:])
            return text

    @contextlib.asynccontextmanager
    async def stranger(self, operator: str = "") -> AsyncIterator[Site]:
        """Another browser; with the certificate of an operator of that name."""
        pair = None
        if operator:
            pair = certificates.issue_operator(self.folder / "ca", operator, self.folder / f"operator-{operator}")
        async with browser(self.folder, pair) as web:
            yield Site(self.folder, self.parts, web)

    def cookie(self) -> str:
        return next((each.value for each in self.web.cookie_jar if each.key == COOKIE), "")


@contextlib.asynccontextmanager
async def browser(folder: Path, pair: certificates.Bundle | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context(cafile=str(folder / "tls/ca.pem"))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), cookie_jar=jar) as web:
        yield web


@contextlib.asynccontextmanager
async def paged(folder: Path, made: Iterable[Pool], extra: str = "") -> AsyncIterator[Site]:
    """A collector with these pools, whose page is served."""
    write_config(folder)
    async with served(folder, made, PAGE + extra) as parts:
        assert parts.page is not None
        parts.page.start()
        await parts.page.listening.wait()
        async with browser(folder) as web:
            yield Site(folder, parts, web)
