"""A real collector's page through a real failover of the lab: the demo, as somebody follows it in a browser."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0
pytestmark = [pytest.mark.long, pytest.mark.needs("namespaces", "ip", "nft")]


class Browser:
    """Keeps cookies, believes the lab's certificate."""

    def __init__(self, address: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        jar = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), jar)
        self._address = address.rstrip("/")

    def get(self, path: str, **form: str) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        with self._opener.open(f"{self._address}{path}", data, timeout=30) as reply:
            return str(reply.read().decode())


def test_a_failover_is_followed_on_the_page_and_is_there_afterwards() -> None:
    command = [sys.executable, "-m", "poolwarden_lab", "demo", "--page", "--plain"]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        said = ""
        while not (found := re.search(r"The page: (\S+)\n.*password (\S+);", said)):
            line = demo.stdout.readline()
            assert line, said
            said += line
        web = Browser(found[1])
        token = re.search(r'name="token" value="([0-9a-f]+)"', web.get("/sign-in"))
        assert token is not None
        pools = web.get("/sign-in", name="demo", password=found[2], token=token[1], to="/")
        uuid = re.search(r'id="p-([0-9a-f-]+)"', pools)
        assert uuid is not None and "lab" in pools
        pool, seen, until = f"/pools/{uuid[1]}", set[str](), time.monotonic() + LIMIT_S
        number = None
        while time.monotonic() < until:
            text = web.get(f"{pool}?part=main")
            seen |= set(re.findall(r'<li class="step (\w+)"', text))
            number = re.search(r'/failovers/([^"/]+)">Failover', text) or number
            if number is not None and '<span class="good">closed</span>' in text:
                break
            time.sleep(0.5)
        assert number is not None and seen == {"done", "now", "next"}
        story = web.get(f"{pool}/failovers/{number[1]}")
        for kind in ("decided", "proof", "promoted", "closed"):
            assert f'class="kind">{kind}<' in story
        assert story.count("<circle") > 5 and "since 20" in web.get("/")
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=120)
        assert demo.returncode in (0, 130), rest  # 130: Ctrl-C came before the demo's own last look
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.communicate()
