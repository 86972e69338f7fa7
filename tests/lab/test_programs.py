"""Supervision by systemd's rule, the webhook receiver, places, and how a story is judged."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.shell.alerts.channels.log import alert_log_trouble
from poolwarden_lab.demo.stories import STORIES, judge, phases
from poolwarden_lab.processes.configuration import collector_config, write_fence_agent
from poolwarden_lab.processes.lab_policy import SHORTENED, headline, policy_settings
from poolwarden_lab.processes.operator_link import Entry, unready
from poolwarden_lab.processes.places import PlaceError, make_places
from poolwarden_lab.processes.supervisor import Program
from poolwarden_lab.processes.webhook import Webhook


def program(tmp_path: Path, code: str, **more: object) -> Program:
    command = [sys.executable, "-u", "-c", code]
    return Program(command, tmp_path / "log", environment=dict(os.environ), restart_delay_s=0.02, **more)


async def until(condition, limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


SLEEP = "import time; print('up'); time.sleep(60)"


class TestProgram:
    def test_exit_123_and_a_kill_restart_it_exit_0_does_not(self, tmp_path):
        async def story():
            counted = program(
                tmp_path,
                f"import os; p = {str(tmp_path / 'n')!r}; n = os.path.exists(p); open(p, 'w'); exit(0 if n else 123)",
            )
            await counted.start()
            await until(lambda: counted.state == "inactive")
            assert counted.starts == 2
            assert counted.last_code == 0

            killed = program(tmp_path, SLEEP)
            await killed.start()
            first = killed.pid
            assert killed.send(signal.SIGKILL)
            await until(lambda: killed.pid not in (0, first))
            await killed.kill()
            assert killed.state == "inactive"

        asyncio.run(story())

    def test_stop_is_term_then_kill_and_takes_descendants(self, tmp_path):
        async def story():
            code = (
                "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                f"p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(p.pid); time.sleep(60)"
            )
            stubborn = program(tmp_path, code, stop_limit_s=0.2)
            await stubborn.start()
            await until(lambda: (tmp_path / "log").read_text().count("\n") >= 2)
            family = [process.pid for process in stubborn.family()]
            assert len(family) == 2
            await stubborn.stop()
            await until(
                lambda: (
                    not any(
                        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
                        for pid in family
                    )
                )
            )
            assert stubborn.starts == 1

        asyncio.run(story())

    def test_a_kill_while_a_restart_is_under_way_wins(self, tmp_path):
        """Power that is cut while systemctl restarts xapi must not find xapi running afterwards."""

        async def story():
            slow = program(
                tmp_path,
                "import signal, time; signal.signal(signal.SIGTERM, lambda *a: (time.sleep(0.3), exit(0)));"
                "print('up'); time.sleep(60)",
            )
            await slow.start()
            await until(lambda: "up" in (tmp_path / "log").read_text())
            restart = asyncio.create_task(slow.restart())
            await asyncio.sleep(0.05)
            await slow.kill()
            await restart
            assert (slow.pid, slow.state, slow.starts) == (0, "inactive", 1)

        asyncio.run(story())

    def test_restart_gives_another_process(self, tmp_path):
        async def story():
            seen: list[tuple[str, int]] = []
            one = program(
                tmp_path,
                SLEEP,
                started=lambda pid: seen.append(("up", pid)),
                ended=lambda pid: seen.append(("gone", pid)),
            )
            await one.start()
            await one.restart()
            await one.kill()
            assert [word for word, _ in seen] == ["up", "gone", "up", "gone"]
            assert seen[0][1] != seen[2][1]

        asyncio.run(story())


def test_the_webhook_keeps_what_it_refused_and_what_it_took():
    def post(port: int, body: bytes) -> int:
        headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/alerts", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    async def story():
        import socket

        webhook, listener = Webhook(), socket.create_server(("127.0.0.1", 0))
        await webhook.start(listener)
        webhook.refuse = 2
        body = json.dumps({"title": "x" * 100_000}).encode()
        codes = [await asyncio.to_thread(post, listener.getsockname()[1], body) for _ in range(3)]
        assert codes == [503, 503, 200]
        assert [item.key for item in webhook.deliveries] == ["k1"] * 3
        assert [item.status for item in webhook.deliveries] == codes
        await webhook.stop()

    asyncio.run(story())


class TestPlaces:
    def test_a_lab_in_tmp_leaves_nothing(self):
        places = make_places(None)
        assert "_" not in str(places.trees)
        assert len(str(places.tree("h64"))) < 30
        places.clean(keep_home=False)
        assert not places.home.exists()

    def test_a_directory_that_does_not_suit_trees_gets_another_for_them(self, tmp_path):
        home = tmp_path / "my_lab"
        places = make_places(home)
        assert places.home == home
        assert places.trees != home
        assert "_" not in str(places.trees)
        (home / "collector.toml").write_text("x")
        places.clean(keep_home=True)
        assert not places.trees.exists()
        assert (home / "collector.toml").exists()
        places.clean(keep_home=False)
        assert not home.exists()

    def test_bad_directories_are_refused_with_the_reason(self, tmp_path):
        with pytest.raises(PlaceError, match="too long"):
            make_places(tmp_path / ("x" * 120))
        (tmp_path / "something").touch()
        with pytest.raises(PlaceError, match="not empty"):
            make_places(tmp_path)


class TestPolicy:
    def test_only_waiting_is_shortened(self):
        assert not {"reading_gap", "suspect_after", "vanished_after", "report_interval"} & set(SHORTENED)

    def test_the_headline_names_every_difference_with_its_default(self):
        line = headline(policy_settings(), 10)
        assert line.startswith("lab policy: ")
        assert "patience 12 s (default 100 s)" in line
        assert line.endswith("xapi's clock 10x")
        assert line.count("(default") == len(SHORTENED)

    def test_the_configuration_that_is_written_is_accepted(self, tmp_path):
        from poolwarden_collector.core.model.policy import Policy
        from poolwarden_collector.shell.config.config import load
        from poolwarden_lab.processes import certificates
        from poolwarden_lab.processes.configuration import FenceEntry, lab_parameters

        host = "5c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a10"
        issued = certificates.issue(tmp_path / "tls", [host], {"lab": "10.99.0.2"})
        assert set(issued[host]) == {"ca.pem", "cert.pem", "key.pem"}
        text = collector_config(
            home=tmp_path,
            tls=tmp_path / "tls" / certificates.COLLECTOR_DIRECTORY,
            listen="10.99.0.2:8443",
            socket=tmp_path / "c.sock",
            anchors=["10.99.0.1:7"],
            policy={**policy_settings(), "collector_probe": False, "min_survivors": 1},
            fences=[FenceEntry(host, "bmc-h1", lab_parameters("10.99.0.101", 9623))],
            fence_agent=write_fence_agent(tmp_path, Path("/x/fence_lab.py")),
            webhook="http://10.99.0.2:8080/alerts",
        )
        (tmp_path / "collector.toml").write_text(text)
        config = load(tmp_path / "collector.toml")
        assert config.policy == Policy(**policy_settings(), collector_probe=False)
        assert config.fence[0].parameters["password"] == "s3cret"
        assert "s3cret" not in text
        assert config.alerts.log and not alert_log_trouble(config.alerts.log)


def entry(kind: str, at: int = 0, **data: object) -> Entry:
    return Entry(at, "", at, 1, 1, "", kind, "poolwarden", kind, data)


class TestJudge:
    def test_signs_must_come_in_order(self):
        story = STORIES["bmc-lies"]
        disputed, off = entry("verdict", verdict="FenceDisputed"), entry("power-reading", power="off")
        assert len(judge(story, [off, disputed]).seen) == 2
        assert len(judge(story, [disputed, off]).seen) == 1

    def test_a_forbidden_entry_breaks_the_story_at_once(self):
        assert "promote-intent" in judge(STORIES["bmc-lies"], [entry("promote-intent")]).broken
        assert "asked" in judge(STORIES["power"], [entry("asked")]).broken

    def test_one_reading_is_not_two(self):
        story = STORIES["power"]
        seen = judge(story, [entry("verdict", verdict="MasterVanished"), entry("power-reading", power="off")])
        assert seen.missing == story.must[2:]

    def test_a_reading_may_come_before_the_verdict_and_a_promotion_may_not(self):
        story = STORIES["power"]
        off, vanished = entry("power-reading", power="off"), entry("verdict", verdict="MasterVanished")
        assert judge(story, [off, vanished, off]).missing == story.must[3:]
        assert "promoted" in {sign.kind for sign in judge(story, [entry("promoted"), vanished, off, off]).missing}

    @pytest.mark.parametrize("name", STORIES)
    def test_no_story_forbids_what_it_needs(self, name):
        story = STORIES[name]
        assert not {sign.kind for sign in story.must} & set(story.never)

    def test_phases_are_differences_of_journal_stamps(self):
        story = [
            entry("verdict", 8_000, verdict="MasterVanished"),
            entry("power-reading", 8_100, power="off"),
            entry("power-reading", 11_200, power="off"),
            entry("proof", 11_300),
            entry("promote-intent", 11_400),
            entry("promoted", 14_000),
            entry("closed", 16_500),
        ]
        assert [ms for _, ms in phases(STORIES["power"], story, 0)] == [8_000, 100, 3_200, 100, 2_600, 2_500]


def test_a_pool_is_waited_for_until_every_member_can_witness_the_masters_loss() -> None:
    """A fault that comes before would leave the silence uncorroborated: no story could go on."""
    probe = api.ProbeStatus(target_uuid="m", outcome="answered")
    hosts = [
        api.HostStatus(host_uuid="m", name="h1", agent_connected=True, fence_device="bound"),
        api.HostStatus(host_uuid="s", name="h2", agent_connected=True, fence_device="bound", probes=[probe]),
    ]
    pool = api.PoolStatus(verdict="Healthy", master_uuid="m", hosts=hosts)
    assert unready(pool, 2) == "h2 cannot witness the master's loss: not yet answered by its xapi"
    pool.hosts[1].probes[0].counts = True
    assert unready(pool, 2) == ""
