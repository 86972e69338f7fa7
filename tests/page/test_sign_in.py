"""Who is let in: by a password, by a certificate, and how each of these ends. Nobody else learns of a pool."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.shell.many import uuid_of

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.page import attempts, headers, server
from poolwarden_collector.shell.page.identity import COOKIE
from poolwarden_collector.shell.page.sessions import Sessions
from poolwarden_collector.shell.page.users import UserFile

from .rig import PASSWORD, Site, browser, paged, two_pools

pytestmark = pytest.mark.asyncio

LINES = (
    f'[[operators]]\nname = "anna"\nrole = "viewer"\n'
    f'[[operators]]\nname = "berta"\nrole = "admin"\npools = ["{uuid_of(1)}"]\n'
)
PAGES = (
    "/",
    f"/pools/{uuid_of(0)}",
    f"/pools/{uuid_of(0)}/failovers/x-1.2",
    "/history",
    "/alerts",
    "/history/export.json",
)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with paged(tmp_path, two_pools(), LINES) as made:
        made.user("carl")
        yield made


async def test_who_has_not_signed_in_is_sent_to_the_form_and_learns_nothing(site: Site) -> None:
    for path in PAGES:
        assert "pool-0" not in await site.get(path, 303)
        assert "pool-0" not in await site.get(f"{path}?part=main", 403)
    await site.get("/events?page=pools", 403)
    form = await site.get("/sign-in?to=/pools/x")
    assert "pool-0" not in form and 'value="/pools/x"' in form
    await site.get("/nowhere", 404)
    for name in re.findall(r'"(/static/[^"]+)"', form):
        await site.get(name)


async def test_a_password_lets_in_and_a_wrong_one_does_not(site: Site) -> None:
    for name, password in (("carl", "wrong horse battery"), ("nobody", PASSWORD), ("", ""), ("carl", "x" * 5_000)):
        assert (await site.sign_in(name, password)).status == 403
    assert not site.cookie()
    answer = await site.sign_in("carl", to=f"/pools/{uuid_of(0)}")
    assert answer.status == 303 and answer.headers["Location"] == f"/pools/{uuid_of(0)}"
    cookie = next(line for line in answer.headers.getall("Set-Cookie") if line.startswith(f"{COOKIE}="))
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    assert "pool-0000" in await site.get("/")


async def test_nobody_is_sent_elsewhere_after_signing_in(site: Site) -> None:
    for to in ("//elsewhere.example/", "https://elsewhere.example/", "/\\elsewhere.example", "/sign-out", "x"):
        answer = await site.sign_in("carl", to=to)
        assert answer.headers["Location"] == "/"
        site.web.cookie_jar.clear()


async def test_a_form_that_is_not_this_browsers_or_not_from_this_page_signs_nobody_in(site: Site) -> None:
    async with site.stranger() as other:
        text = await other.get("/sign-in")
        stolen = re.search(r'name="token" value="([0-9a-f]+)"', text)
        assert stolen is not None
        assert (await site.sign_in("carl", token=stolen[1])).status == 403
    own = re.search(r'name="token" value="([0-9a-f]+)"', await site.get("/sign-in"))
    assert own is not None
    form = {"name": "carl", "password": PASSWORD, "token": own[1], "to": "/"}  # right but for where it comes from
    for more in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
    ):
        async with site.web.post(f"{site.base}/sign-in", data=form, headers=more) as answer:
            assert answer.status == 403
    async with site.web.post(f"{site.base}/sign-in", json=form) as answer:
        assert answer.status == 400
    async with site.web.post(f"{site.base}/sign-in", data={**form, "name": "x" * 20_000}) as answer:
        assert answer.status == 413
    assert not site.cookie()


async def test_a_session_that_is_forged_or_changed_is_nobodys(site: Site) -> None:
    site.user("dora", [uuid_of(1)])
    await site.sign_in("dora")
    good = site.cookie()
    text, _, signature = good.partition(".")
    told = json.loads(base64.urlsafe_b64decode(text))
    told[1] = "carl"
    forged = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
    for cookie in (f"{forged}.{signature}", f"{text}.{'0' * 64}", text, f"{text}.", ".", "", f"{good}0", "ä.ß"):
        async with site.stranger() as other:
            await other.get("/", 303, headers={"Cookie": f"{COOKIE}={cookie}"})
    async with site.stranger() as other:
        assert "pool-0001" in await other.get("/", headers={"Cookie": f"{COOKIE}={good}"})


async def test_a_session_ends_with_its_time_its_user_and_his_password(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.sign_in("carl")
    await site.get("/")
    real = clock.wall_ms
    monkeypatch.setattr(clock, "wall_ms", lambda: real() + 12 * 3_600_000 + 1)
    await site.get("/", 303)
    monkeypatch.setattr(clock, "wall_ms", lambda: real() - 3_600_000)  # from the future: a clock that was put back
    await site.get("/", 303)
    monkeypatch.setattr(clock, "wall_ms", real)
    await site.get("/")
    site.user("carl")  # another salt: another password, as far as the session goes
    await site.get("/", 303)
    await site.sign_in("carl")
    await site.get("/")
    file = UserFile(site.folder / "state")
    file.write({})
    await site.get("/", 303)
    file.path.write_text("{")
    await site.get("/", 303)


async def test_signing_out_ends_the_session_for_everybody_who_has_its_cookie(site: Site) -> None:
    await site.sign_in("carl")
    kept, text = site.cookie(), await site.get("/")
    token = re.search(r'action="/sign-out"><input type="hidden" name="token" value="([0-9a-f]+)"', text)
    assert token is not None
    async with site.web.post(f"{site.base}/sign-out", data={"token": "0" * 64}) as answer:
        assert answer.status == 403
    await site.get("/")
    async with site.web.post(f"{site.base}/sign-out", data={"token": token[1]}, allow_redirects=False) as answer:
        assert answer.status == 303
    assert not site.cookie()
    async with site.stranger() as other:
        await other.get("/", 303, headers={"Cookie": f"{COOKIE}={kept}"})
    after_a_restart = Sessions(site.folder / "state", UserFile(site.folder / "state"), 3_600_000)
    assert after_a_restart.of(kept) is None
    user = UserFile(site.folder / "state").find("carl")
    assert user is not None
    again = Sessions(site.folder / "state", UserFile(site.folder / "state"), 3_600_000)
    assert again.of(after_a_restart.begin(user)) is not None  # the key is the same one
    assert (site.folder / "state/page-sessions.json").stat().st_mode & 0o777 == 0o600


async def test_of_two_who_sign_out_at_once_neither_stays_signed_in(site: Site) -> None:
    sessions = site.page._sessions
    user = UserFile(site.folder / "state").find("carl")
    assert user is not None
    cookies = [sessions.begin(user) for _ in range(2)]
    first, second = (found[0] for cookie in cookies if (found := sessions.of(cookie)) is not None)
    reached, go_on = threading.Event(), threading.Event()

    class Held(dict[str, int]):
        """What has ended; whoever goes through it the first time is held up in the middle."""

        def items(self) -> Any:
            if not reached.is_set():
                reached.set()
                assert go_on.wait(20)
            return super().items()

    sessions._ended = Held(sessions._ended)
    one = threading.Thread(target=sessions.end, args=(first,))
    two = threading.Thread(target=sessions.end, args=(second,))
    one.start()
    assert reached.wait(20)
    two.start()
    two.join(0.2)
    go_on.set()
    one.join(20)
    two.join(20)
    after_a_restart = Sessions(site.folder / "state", UserFile(site.folder / "state"), 3_600_000)
    for cookie in cookies:
        assert sessions.of(cookie) is None and after_a_restart.of(cookie) is None


async def test_no_more_forms_are_read_at_a_time_than_there_is_room_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes slowly would else hold its connection, and keep others out, for as long as it may."""
    monkeypatch.setattr(server, "BODIES", 1)
    come = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"name="
        await come.wait()

    kept = {"Content-Type": "application/x-www-form-urlencoded"}
    slow = asyncio.ensure_future(site.web.post(f"{site.base}/sign-in", data=slowly(), headers=kept))
    async with asyncio.timeout(20):
        while not site.page._bodies:
            await asyncio.sleep(0.01)
    async with site.web.post(f"{site.base}/sign-in", data=b"name=x", headers=kept) as answer:
        assert answer.status == 503
    come.set()
    assert (await slow).status == 403
    assert (await site.sign_in("carl")).status == 303


async def test_an_operators_certificate_is_let_in_as_far_as_the_configuration_says(site: Site) -> None:
    async with site.stranger("anna") as anna, site.stranger("berta") as berta, site.stranger("frieda") as frieda:
        text = await anna.get("/")
        assert "pool-0000" in text and "pool-0001" in text and "Sign out" not in text
        text = await berta.get("/")
        assert "pool-0000" not in text and "pool-0001" in text
        text = await frieda.get("/", 403)
        assert "pool-0" not in text and "[[operators]]" in text
        await frieda.get("/events?page=pools", 403)
        async with site.stranger("greta") as greta:  # neither is told of the other
            text = await greta.get("/", 403)
            assert "frieda" not in text and "greta has no entry" in text
    host = certificates.issue_host(site.folder / "ca", "bbbbbbbb-0000-4000-8000-000000000009", site.folder / "host")
    async with browser(site.folder, host) as web:
        await Site(site.folder, site.parts, web).get("/", 303)


async def test_every_answer_has_its_headers(site: Site) -> None:
    form = await site.get("/sign-in")
    files = re.findall(r'"(/static/[^"]+)"', form)
    assert len(files) >= 2
    await site.sign_in("carl")
    for path in (*PAGES, "/sign-in", "/nowhere", "/pools/x", "/events", "/static/x.js", *files):
        async with site.web.get(f"{site.base}{path}", allow_redirects=False) as reply:
            assert {name: reply.headers.get(name) for name in headers.ALWAYS} == headers.ALWAYS, path
            private = path not in files
            assert ("no-store" if private else "immutable") in reply.headers["Cache-Control"], path
    assert "unsafe" not in headers.CONTENT and "default-src 'none'" in headers.CONTENT
    for path in ("/", f"/pools/{uuid_of(0)}", "/history", "/alerts"):
        text = await site.get(path)
        assert not re.search(r"<style|<script(?![^>]*src=)|\sstyle=|\son[a-z]+=|javascript:", text), path
        assert not re.search(r'(?:src|href|action)="(?!/(?!/)|\?|#)', text), path  # nothing is loaded from elsewhere


@pytest.mark.parametrize(
    "sent", [b"<script>alert(1)</script>\r\n\r\n", b"GET / HTTP/1.1\r\nX: y\r\n\r\n", b"GET /x\r\n\r\n"]
)
async def test_what_is_no_http_is_answered_with_the_same_headers(site: Site, sent: bytes) -> None:
    """By our server's name, and not by what it is made of; nothing that was sent is repeated."""
    context = ssl.create_default_context(cafile=str(site.folder / "tls/ca.pem"))
    reader, writer = await asyncio.open_connection("127.0.0.1", site.page.port, ssl=context)
    writer.write(sent)
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        told = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        body = await reader.readexactly(int(told["Content-Length"]))
    writer.close()
    assert {name: told.get(name) for name in headers.ALWAYS} == headers.ALWAYS and told["Cache-Control"] == "no-store"
    assert told["Server"] == "poolwarden" and "aiohttp" not in head and b"script" not in body


def rationed(users: Any, now: Callable[[], int] = lambda: 0) -> attempts.SignIns:
    """Each name and address of these tests has a place of its own."""
    made = attempts.SignIns(users, now)
    made._salt = bytes(16)
    return made


class Nobody:
    def right(self, name: str, password: str) -> None:
        return None


async def test_tries_to_sign_in_are_rationed_by_address_and_by_name() -> None:
    now = 0
    sign_ins = rationed(Nobody(), lambda: now)
    for number in range(attempts.IN_A_ROW):
        assert await sign_ins.user(f"name-{number}", "x", "192.0.2.1") is None
    with pytest.raises(attempts.TooMany):
        await sign_ins.user("another", "x", "192.0.2.1")
    with pytest.raises(attempts.TooMany):
        await sign_ins.user("another", "x", "::ffff:192.0.2.1")
    for number in range(attempts.IN_A_ROW):
        assert await sign_ins.user("carl", "x", f"198.51.100.{number}") is None
    with pytest.raises(attempts.TooMany):
        await sign_ins.user("carl", "x", "198.51.100.99")
    for number in range(attempts.IN_A_ROW):  # one customer's addresses are one
        assert await sign_ins.user(f"six-{number}", "x", f"2001:db8::{number:x}") is None
    with pytest.raises(attempts.TooMany):
        await sign_ins.user("six", "x", "2001:db8::ffff")
    now += attempts.EVERY_MS
    assert await sign_ins.user("another", "x", "192.0.2.1") is None


async def test_a_try_that_is_refused_uses_nothing_up() -> None:
    """It costs no hash: whoever has many addresses would have every address refused by tries at one name."""
    sign_ins = rationed(Nobody())
    for number in range(attempts.IN_A_ROW):
        assert await sign_ins.user("carl", "x", f"198.51.100.{number}") is None
    for _ in range(2 * attempts.IN_A_ROW):
        with pytest.raises(attempts.TooMany):
            await sign_ins.user("carl", "x", "192.0.2.1")
    for number in range(attempts.IN_A_ROW):
        assert await sign_ins.user(f"name-{number}", "x", "192.0.2.1") is None
    for _ in range(2 * attempts.IN_A_ROW):
        with pytest.raises(attempts.TooMany):
            await sign_ins.user("dora", "x", "192.0.2.1")
    assert await sign_ins.user("dora", "x", "198.51.100.99") is None


async def test_who_has_signed_in_somewhere_is_not_kept_out_there_by_others(tmp_path: Path, site: Site) -> None:
    sign_ins = rationed(UserFile(site.folder / "state"))
    assert await sign_ins.user("carl", PASSWORD, "192.0.2.7") is not None
    for number in range(attempts.IN_A_ROW):
        with pytest.raises(attempts.TooMany) if number == attempts.IN_A_ROW - 1 else _nothing():
            await sign_ins.user("carl", "x", f"198.51.100.{number}")
    for number in range(attempts.IN_A_ROW - 1):
        assert await sign_ins.user(f"name-{number}", "x", "192.0.2.7") is None
    with pytest.raises(attempts.TooMany):
        await sign_ins.user("name-x", "x", "192.0.2.7")
    assert await sign_ins.user("carl", PASSWORD, "192.0.2.7") is not None


class Guessing:
    """Passwords that are all wrong; each takes ``gate``."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def right(self, name: str, password: str) -> None:
        assert self.gate.wait(20)
        self.tried.append(name)


async def test_no_name_can_be_made_up_that_uses_up_somebodys_own_tries(site: Site) -> None:
    sign_ins = rationed(UserFile(site.folder / "state"))
    assert await sign_ins.user("carl", PASSWORD, "192.0.2.7") is not None
    for made_up in ("carl at 192.0.2.7", "carl\x00192.0.2.7", "('carl', '192.0.2.7')"):
        for number in range(attempts.IN_A_ROW):
            assert await sign_ins.user(made_up, "x", f"198.51.100.{number}") is None
    for _ in range(attempts.IN_A_ROW - 1):
        assert await sign_ins.user("carl", PASSWORD, "192.0.2.7") is not None


async def test_many_names_from_many_addresses_make_no_name_forgotten() -> None:
    """From a /48 somebody has 65,536 sources: he gets no more tries at one name for all of them."""
    guessing = Guessing()
    sign_ins = rationed(guessing)
    for number in range(attempts.IN_A_ROW):
        assert await sign_ins.user("carl", "x", f"2001:db8:0:{number:x}::1") is None
    for number in range(2_000):
        with contextlib.suppress(attempts.TooMany):  # two that share a place share its tries
            await sign_ins.user(f"name-{number}", "x", f"2001:db8:1:{number:x}::1")
    assert len(guessing.tried) > 1_900
    with pytest.raises(attempts.TooMany):
        await sign_ins.user("carl", "x", "2001:db8:0:ffff::1")


async def test_who_is_known_has_a_place_in_a_queue_that_others_keep_full() -> None:
    guessing = Guessing()
    sign_ins = rationed(guessing)
    sign_ins._known[("carl", "192.0.2.7")] = "carl's"
    guessing.gate.clear()
    others = [
        asyncio.ensure_future(sign_ins.user(f"name-{number}", "x", f"198.51.100.{number}"))
        for number in range(attempts.WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(attempts.TooMany, match="at once"):
        await sign_ins.user("another", "x", "198.51.100.99")
    carl = asyncio.ensure_future(sign_ins.user("carl", "x", "192.0.2.7"))
    await asyncio.sleep(0)
    assert not carl.done()
    guessing.gate.set()
    await asyncio.gather(carl, *others)
    assert "carl" in guessing.tried and "another" not in guessing.tried
    assert await sign_ins.user("another", "x", "198.51.100.99") is None  # what had no place was no try


async def test_what_is_rationed_says_when_to_try_again(site: Site) -> None:
    site.page._sign_ins = rationed(UserFile(site.folder / "state"))  # whose time stands, however slow this machine is
    for _ in range(attempts.IN_A_ROW):
        assert (await site.sign_in("carl", "wrong")).status == 403
    answer = await site.sign_in("carl")
    assert answer.status == 429 and answer.headers["Retry-After"] == "30"
    assert any("sign-ins at the page" in text for text in site.parts.service.roster.warnings())


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"name=\xff\xfe", {}),
        (b"name=a", {"Content-Type": "application/x-www-form-urlencoded; charset=nope"}),
        (b"name=a", {"Content-Type": "application/x-www-form-urlencoded; charset=utf-16"}),
        (b"no gzip", {"Content-Encoding": "gzip"}),
        (b"a&" * 4_000, {}),
    ],
)
async def test_a_form_that_none_of_ours_is_is_refused_and_no_fault(
    site: Site, caplog: pytest.LogCaptureFixture, body: bytes, more: dict[str, str]
) -> None:
    kept = {"Content-Type": "application/x-www-form-urlencoded", **more}
    async with site.web.post(f"{site.base}/sign-in", data=body, headers=kept) as answer:
        assert answer.status in (400, 403), await answer.text()
    assert not [line for line in caplog.records if line.exc_info], "nobody fills the log with tracebacks"


async def test_who_tries_without_end_does_not_fill_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with site.web.get(f"{site.base}/sign-in") as reply:
        token = re.search(r'name="token" value="([0-9a-f]+)"', await reply.text())
    assert token is not None
    for _ in range(60):
        form = {"name": "carl", "password": "wrong", "token": token[1]}
        async with site.web.post(f"{site.base}/sign-in", data=form) as answer:
            assert answer.status in (403, 429)
    told = [line for line in caplog.records if "a sign-in as carl" in line.getMessage()]
    assert 10 <= len(told) <= 25


async def test_a_link_from_elsewhere_goes_on_with_the_session_that_the_browser_kept_back(site: Site) -> None:
    text = await site.get(f"/pools/{uuid_of(0)}", headers={"Sec-Fetch-Site": "cross-site"})
    assert f'content="0; url=/pools/{uuid_of(0)}?again=1"' in text and "pool-0" not in text.replace(uuid_of(0), "")
    await site.get(f"/pools/{uuid_of(0)}?again=1", 303, headers={"Sec-Fetch-Site": "cross-site"})


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
