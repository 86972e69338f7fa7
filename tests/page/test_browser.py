"""The page in a real Chromium: at three widths, by the rules of axe-core, without scripts, by keyboard, on paper."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from tests.core.pool import POOL
from tests.shell.many import uuid_of

from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.shell.page import leaving, live, streams, users

from .rig import PASSWORD, Site, paged, two_pools
from .stories import failover_of, healed, renamed, write

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "chromedriver", "axe-core")]
AXE = Path(__file__).resolve().parents[2] / ".node-clients/node_modules/axe-core/axe.min.js"
WIDTHS = ((360, 800), (1280, 900), (3840, 2160))
LIMIT_S = 60.0


class Hosted:
    """A page that is served in a thread of its own while a test drives the browser."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._folder = folder
        self._ready, self._over = threading.Event(), asyncio.Event()
        self.site: Site | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(LIMIT_S) and self.site is not None

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        hostile = renamed(two_pools()[1])
        async with paged(self._folder, (two_pools()[0], hostile, healed().pool)) as site:
            site.user("anna")
            write(site.parts, healed())
            self.site = site
            self._ready.set()
            await self._over.wait()

    @property
    def base(self) -> str:
        assert self.site is not None
        return self.site.base

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        """In the collector's loop."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(LIMIT_S)

    def paused(self, uuid: str, why: str | None) -> None:
        """The pool is paused, or resumed: something else is to be seen."""

        async def change() -> None:
            assert self.site is not None
            pools = self.site.parts.service.roster.pools
            pools[uuid] = replace(pools[uuid], record=replace(pools[uuid].record, paused=why))

        self.do(change())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(LIMIT_S)
        self._loop.close()


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BEAT_S", 0.3)
        patch.setattr(live, "SHARE", 1)
        patch.setattr(users, "_N", 2)  # before each test's own
        found = Hosted(tmp_path_factory.mktemp("page"))
        try:
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="module")
def chromium(hosted: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Signed in as anna."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 "--ignore-certificate-errors", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        sign_in(driver, hosted)
        yield driver
    finally:
        driver.quit()


def sign_in(driver: webdriver.Chrome, hosted: Hosted) -> None:
    driver.get(f"{hosted.base}/sign-in")
    driver.find_element(By.NAME, "name").send_keys("anna")
    driver.find_element(By.NAME, "password").send_keys(PASSWORD + Keys.ENTER)
    until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, "table.pools"))


def until(driver: webdriver.Chrome, condition: Any) -> Any:
    return WebDriverWait(driver, LIMIT_S, poll_frequency=0.05, ignored_exceptions=(Exception,)).until(
        lambda _: condition()
    )


def width(driver: webdriver.Chrome, wide: int, high: int) -> None:
    size = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def media(driver: webdriver.Chrome, kind: str = "", **features: str) -> None:
    told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": told})


def violations(driver: webdriver.Chrome) -> list[str]:
    """What axe-core finds, each with the first place."""
    # By DevTools and not by a script of the page's: its own rules let none in.
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    found = driver.execute_cdp_cmd(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify("
            "r.violations.map(v => v.id + ': ' + v.help + ': ' + v.nodes[0].html.slice(0, 200))))",
            "awaitPromise": True,
        },
    )
    return list(json.loads(found["result"]["value"]))


def pages() -> dict[str, str]:
    return {
        "pools": "/",
        "waiting": f"/pools/{uuid_of(0)}",
        "hostile": f"/pools/{uuid_of(1)}",
        "failover": f"/pools/{POOL}/failovers/{failover_of(healed())}",
        "alerts": "/alerts?everything=1",
        "history": "/history",
        "nothing": "/pools/99999999-0000-4000-8000-000000000000",
    }


def test_nothing_is_wider_than_its_screen_and_no_browser_complains(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get_log("browser")
    for wide, high in WIDTHS:
        width(chromium, wide, high)
        for name, path in pages().items():
            chromium.get(hosted.base + path)
            overflow = chromium.execute_script("return document.scrollingElement.scrollWidth - window.innerWidth")
            assert overflow <= 0, (wide, name, overflow)
            assert not chromium.find_elements(By.CSS_SELECTOR, "b#x, script:not([src])"), name
            if name == "pools" and wide >= 1280:  # no name pushes the others off the screen
                rows = chromium.find_elements(By.CSS_SELECTOR, "table.pools tbody tr")
                assert max(row.size["height"] for row in rows) < 200, wide
    for name in ("pools", "waiting", "failover"):  # and at what lies between them, where tables become cards
        chromium.get(hosted.base + pages()[name])
        for wide in (320, 768, 961, 1024, 1201, 1920):
            width(chromium, wide, 800)
            overflow = chromium.execute_script("return document.scrollingElement.scrollWidth - window.innerWidth")
            assert overflow <= 0, (wide, name, overflow)
    said = [line["message"] for line in chromium.get_log("browser") if "404" not in line["message"]]
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_keep_the_rules_of_accessibility(hosted: Hosted, chromium: webdriver.Chrome, scheme: str) -> None:
    media(chromium, prefers_color_scheme=scheme)
    width(chromium, *(WIDTHS[0] if scheme == "dark" else WIDTHS[1]))
    found = {}
    for name, path in pages().items():
        chromium.get(hosted.base + path)
        found[name] = violations(chromium)
    assert found == {name: [] for name in found}


def test_a_page_follows_the_collector_and_keeps_the_focus(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    width(chromium, *WIDTHS[1])
    chromium.get(f"{hosted.base}/pools/{POOL}")
    chromium.execute_script("window.here = 1; document.getElementById('why').open = true")
    link = chromium.find_element(By.CSS_SELECTOR, "#why summary")
    link.send_keys("")
    hosted.paused(POOL, "works in the cellar")
    try:
        until(chromium, lambda: "works in the cellar" in chromium.find_element(By.TAG_NAME, "main").text)
        assert chromium.execute_script("return window.here === 1 && document.getElementById('why').open")
        assert "PAUSED" in chromium.find_element(By.ID, "news").get_attribute("textContent")
    finally:
        hosted.paused(POOL, None)
    until(chromium, lambda: "works in the cellar" not in chromium.find_element(By.TAG_NAME, "main").text)


def test_who_is_typing_keeps_what_he_types_and_sees_what_changes(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    """A field that was left with the focus in it does not make the page an old one that looks like a new one."""
    width(chromium, *WIDTHS[1])
    chromium.get(f"{hosted.base}/")
    field = chromium.find_element(By.NAME, "name")
    field.send_keys("half of a na")
    hosted.paused(POOL, "works in the attic")
    try:
        until(chromium, lambda: "PAUSED" in chromium.find_element(By.TAG_NAME, "main").text)
        field.send_keys("me")
        assert field.get_attribute("value") == "half of a name" and chromium.switch_to.active_element == field
        assert len(chromium.find_elements(By.CSS_SELECTOR, "main h1")) == 1
        assert len(chromium.find_elements(By.CSS_SELECTOR, "main table.pools")) == 1
    finally:
        hosted.paused(POOL, None)
    until(chromium, lambda: "PAUSED" not in chromium.find_element(By.TAG_NAME, "main").text)


def test_the_keyboard_stays_on_a_link_while_the_page_changes(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(f"{hosted.base}/pools/{POOL}")
    chromium.execute_script("document.querySelector('.facts a[href^=\"/alerts\"]').focus()")
    hosted.paused(POOL, "works on the roof")
    try:
        until(chromium, lambda: "works on the roof" in chromium.find_element(By.TAG_NAME, "main").text)
        assert chromium.switch_to.active_element.text == "alerts"
    finally:
        hosted.paused(POOL, None)


def test_a_failover_that_is_moved_through_goes_on_and_stays_where_it_was_moved_to(
    hosted: Hosted, chromium: webdriver.Chrome
) -> None:
    chromium.get(hosted.base + pages()["failover"])
    ranged = chromium.find_element(By.CSS_SELECTOR, ".range")
    ranged.send_keys(Keys.HOME + Keys.ARROW_RIGHT)
    then = chromium.find_element(By.CSS_SELECTOR, ".then").text
    before = int(ranged.get_attribute("max"))
    assert hosted.site is not None
    last = [entry for entry in healed().journal if entry.failover][-1]
    hosted.do(_committed(hosted.site, replace(last, text="something more")))
    until(chromium, lambda: int(chromium.find_element(By.CSS_SELECTOR, ".range").get_attribute("max")) == before + 1)
    assert ranged.get_attribute("value") == "1" and chromium.find_element(By.CSS_SELECTOR, ".then").text == then
    assert chromium.switch_to.active_element == ranged
    shown = [row for row in chromium.find_elements(By.CSS_SELECTOR, "tr[data-seq]") if row.is_displayed()]
    assert len(shown) == 2
    ranged.send_keys(Keys.END)
    until(chromium, lambda: "something more" in chromium.find_element(By.CSS_SELECTOR, ".then").text)


async def _committed(site: Site, entry: Entry) -> None:
    site.parts.journal.commit(POOL, [entry])


def test_what_cannot_be_shown_anew_is_said_to_be_old(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(f"{hosted.base}/pools/{POOL}")
    assert hosted.site is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaving, "MOST_BYTES", 0)
        hosted.paused(POOL, "works below")
        until(chromium, lambda: "could not show this anew (503): what is shown is old" in link(chromium))
        assert "works below" not in chromium.find_element(By.TAG_NAME, "main").text
    try:
        until(chromium, lambda: "works below" in chromium.find_element(By.TAG_NAME, "main").text)
        until(chromium, lambda: not link(chromium))
    finally:
        hosted.paused(POOL, None)


def link(driver: webdriver.Chrome) -> str:
    return driver.find_element(By.ID, "link").text


def test_not_every_window_takes_one_of_the_browsers_connections(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    """Six that listened would leave none to fetch what has changed."""
    chromium.get(f"{hosted.base}/")
    style = chromium.find_element(By.CSS_SELECTOR, 'link[rel="stylesheet"]').get_attribute("href")
    first = chromium.current_window_handle
    assert hosted.site is not None
    streams_of = hosted.site.page.streams
    until(chromium, lambda: len(streams_of) == 1)
    chromium.switch_to.new_window("tab")
    try:
        until(chromium, lambda: len(streams_of) == 0)  # the other one is hidden
        chromium.get(style)
        held = chromium.execute_async_script(
            "const done = arguments[0]; let left = 4;"
            "for (let n = 0; n < 4; n++) navigator.locks.request('poolwarden-stream-' + n,"
            "() => new Promise((end) => { window['end' + n] = end; left -= 1; if (!left) done('held'); }));"
        )
        assert held == "held"
        chromium.switch_to.window(first)
        chromium.get(f"{hosted.base}/")
        hosted.paused(POOL, "works next door")  # it asks by itself, now and then
        faster = "(() => { const now = performance.now.bind(performance); performance.now = () => now() * 50; })()"
        chromium.execute_script(faster)
        until(chromium, lambda: "PAUSED" in chromium.find_element(By.TAG_NAME, "main").text)
        assert len(streams_of) == 0
    finally:
        hosted.paused(POOL, None)
        for handle in chromium.window_handles:
            if handle != first:
                chromium.switch_to.window(handle)
                chromium.close()
        chromium.switch_to.window(first)


def test_a_page_of_before_an_upgrade_loads_itself_anew(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(f"{hosted.base}/pools/{POOL}")
    chromium.execute_script("window.before = 1")
    assert hosted.site is not None
    mine = hosted.site.page._page_hash
    hosted.site.page._page_hash = "of-another-release"
    try:
        hosted.paused(POOL, "works")
        until(chromium, lambda: chromium.execute_script("return window.before === undefined && document.body"))
    finally:
        hosted.site.page._page_hash = mine
        hosted.paused(POOL, None)


def test_a_page_says_when_it_is_old(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    """By a clock of the browser's that runs fifty times as fast; beats come as fast as before."""
    faster = "(() => { const now = performance.now.bind(performance); performance.now = () => now() * 50; })()"
    added = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": faster})
    try:
        chromium.get(f"{hosted.base}/")
        chromium.execute_cdp_cmd("Network.enable", {})
        link = chromium.find_element(By.ID, "link")
        assert not link.is_displayed()
        chromium.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
        )
        assert hosted.site is not None
        hosted.do(_end(hosted.site))
        until(chromium, lambda: "what is shown is old" in chromium.find_element(By.ID, "link").text)
    finally:
        chromium.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


async def _end(site: Site) -> None:
    site.page.streams.end()


def test_without_scripts_a_reload_shows_the_state_and_everything_is_reached(
    hosted: Hosted, chromium: webdriver.Chrome
) -> None:
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get(f"{hosted.base}/")
        assert chromium.find_elements(By.CSS_SELECTOR, 'head noscript meta, head meta[http-equiv="refresh"]')
        chromium.find_element(By.NAME, "name").send_keys("pool-0000" + Keys.ENTER)
        until(chromium, lambda: "1 to 1 of 1" in chromium.find_element(By.TAG_NAME, "main").text)
        chromium.find_element(By.LINK_TEXT, "pool-0000").click()
        until(chromium, lambda: "MASTER LOST" in chromium.find_element(By.TAG_NAME, "main").text)
        chromium.get(hosted.base + pages()["failover"])
        assert not chromium.find_element(By.CSS_SELECTOR, ".range").is_displayed()
        rows = len([row for row in chromium.find_elements(By.CSS_SELECTOR, "tr[data-seq]") if row.is_displayed()])
        chromium.find_element(By.LINK_TEXT, "earlier").click()
        shown = lambda: [row for row in chromium.find_elements(By.CSS_SELECTOR, "tr[data-seq]") if row.is_displayed()]  # noqa: E731
        until(chromium, lambda: len(shown()) == rows - 1)
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_failover_is_moved_through_by_keys(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(hosted.base + pages()["failover"])
    ranged = chromium.find_element(By.CSS_SELECTOR, ".range")
    assert ranged.is_displayed()
    ranged.send_keys(Keys.HOME)
    rows = chromium.find_elements(By.CSS_SELECTOR, "tr[data-seq]")
    until(chromium, lambda: [row.is_displayed() for row in rows] == [True] + [False] * (len(rows) - 1))
    assert "decided" in chromium.find_element(By.CSS_SELECTOR, ".then").text
    ranged.send_keys(Keys.ARROW_RIGHT)
    until(chromium, lambda: [row.is_displayed() for row in rows][:3] == [True, True, False])


def test_the_keyboard_reaches_the_content_first_and_then_each_pool(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(f"{hosted.base}/")
    chromium.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert chromium.switch_to.active_element.text == "to the content"
    chromium.switch_to.active_element.send_keys(Keys.ENTER)
    for _ in range(40):
        chromium.switch_to.active_element.send_keys(Keys.TAB)
        if chromium.switch_to.active_element.text == "pool-0000":
            break
    chromium.switch_to.active_element.send_keys(Keys.ENTER)
    until(chromium, lambda: chromium.current_url.endswith(uuid_of(0)))


def test_paper_has_the_state_and_no_controls(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(f"{hosted.base}/pools/{uuid_of(0)}")
    media(chromium, "print")
    try:
        assert not chromium.find_element(By.CSS_SELECTOR, "header nav").is_displayed()
        assert chromium.find_element(By.CSS_SELECTOR, ".headline").is_displayed()
    finally:
        media(chromium)


def test_who_signs_out_is_out(hosted: Hosted, chromium: webdriver.Chrome) -> None:
    chromium.get(f"{hosted.base}/")
    with contextlib.suppress(Exception):
        chromium.find_element(By.CSS_SELECTOR, "header button").click()
    until(chromium, lambda: chromium.current_url.endswith("/sign-in"))
    chromium.get(f"{hosted.base}/pools/{uuid_of(0)}")
    assert "/sign-in" in chromium.current_url and "pool-0000" not in chromium.page_source
    assert violations(chromium) == []
    sign_in(chromium, hosted)
