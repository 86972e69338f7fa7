"""Each story of the demo, played as a user plays it: its exit status, its lines, and that they are the journal's.

Most take 20 s to a minute: they are of the long tier. `make test` plays the first one, with agents on Python 3.6.
"""

import json
import os
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab_rig import LAB, lab_environment, left_behind

from poolwarden_lab.demo.stories import STORIES
from poolwarden_lab.processes.bmc import chassis, fronts

pytestmark = [pytest.mark.needs("namespaces", "ip", "nft"), pytest.mark.long]
FACTOR = "20"


@dataclass
class Played:
    code: int
    text: str
    record: dict
    left: set[str]


def play(where: Path, *words: str) -> Played:
    where.mkdir()
    record = where.with_suffix(".json")
    done = subprocess.run(
        [*LAB, "demo", "--plain", "--time-factor", FACTOR, "--json", str(record), *words],
        env={**lab_environment(), "TMPDIR": str(where)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    content = json.loads(record.read_text()) if record.exists() else {}
    record.unlink(missing_ok=True)
    left = left_behind(where)
    where.rmdir()
    return Played(done.returncode, done.stdout, content, left)


BY_MEMBERS = ("--fault", "power", "--bmc", "ipmi", "--via-members")
SPOILED = ("--fault", "power", "--bmc-fault", "lies-on")
CLOSED_80 = ("--https-only",)
IPV6 = ("--ipv6",)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """All stories, three at a time: they mostly wait."""
    with ThreadPoolExecutor(3) as pool:
        runs: dict[str, Future[Played]] = {}
        for number, name in enumerate(STORIES):
            runs[name] = pool.submit(play, Path(f"/tmp/ps{os.getpid()}x{number}"), "--fault", name)
        runs["spoiled"] = pool.submit(play, Path(f"/tmp/ps{os.getpid()}x99"), *SPOILED)
        runs["https-only"] = pool.submit(play, Path(f"/tmp/ps{os.getpid()}x97"), *CLOSED_80)
        runs["ipv6"] = pool.submit(play, Path(f"/tmp/ps{os.getpid()}x96"), *IPV6)
        if not fronts.lacking("ipmi"):
            keep = ("--keep", str(tmp_path_factory.mktemp("kept") / "by-members"))
            runs["by-members"] = pool.submit(play, Path(f"/tmp/ps{os.getpid()}x98"), *BY_MEMBERS, *keep)
        yield lambda name: runs[name].result()


@pytest.mark.parametrize("name", STORIES)
def test_the_story_ends_as_it_must(played, name):
    story = played(name)
    assert story.code == 0, story.text
    assert f"OK: {STORIES[name].outcome}" in story.text
    assert not story.left


@pytest.mark.parametrize("name", STORIES)
def test_every_line_of_it_is_in_the_journal_and_the_other_way_round(played, name):
    story = played(name)
    shown = [line.split(None, 2)[2] for line in story.text.splitlines() if line.startswith("T+") and len(line) > 28]
    fault = story.record["fault_mono_ms"]
    journal = [entry for entry in story.record["entries"] if entry["mono_ms"] >= fault]
    lines = [line for line in story.text.splitlines() if line.startswith("T+")]
    assert shown
    for entry in journal:
        assert any(entry["kind"] in line and entry["text"] in line for line in lines), entry
    assert story.record["ok"] is True


@pytest.mark.parametrize("name", [name for name, story in STORIES.items() if not story.heals])
def test_nobody_is_promoted_where_nobody_may_be(played, name):
    kinds = {entry["kind"] for entry in played(name).record["entries"]}
    assert not kinds & {"promote-intent", "promoted", "decided"} - ({"decided"} if name == "bmc-lies" else set())


@pytest.mark.parametrize("name", [name for name, story in STORIES.items() if story.heals])
def test_one_failover_with_one_candidate_and_an_alert_that_says_all(played, name):
    story = played(name)
    promotions = [entry for entry in story.record["entries"] if entry["kind"] == "promote-intent"]
    assert len(promotions) == 1
    alert = next(item for item in story.record["deliveries"] if item["data"].get("new_master"))
    assert alert["data"]["old_master"] == "lab-h1"
    assert alert["data"]["address"] in story.text
    assert alert["data"]["proof"] == ("human" if name == "bmc-unreachable" else "power")
    assert alert["data"]["durations_ms"]
    assert alert["pool"]["name"] == "lab"


def test_hosts_with_https_only_end_the_same_way(played):
    story = played("https-only")
    assert story.code == 0 and f"OK: {STORIES['power'].outcome}" in story.text, story.text
    assert not story.left


def test_a_pool_of_ipv6_addresses_ends_the_same_way(played):
    story = played("ipv6")
    assert story.code == 0 and f"OK: {STORIES['power'].outcome}" in story.text, story.text
    assert "fd00:99::1" in story.text and "10.99.0." not in story.text
    assert not story.left


@pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool")
def test_where_the_collector_reaches_no_bmc_two_members_read_it_each_once(played):
    story = played("by-members")
    assert story.code == 0, story.text
    proof = next(entry for entry in story.record["entries"] if entry["kind"] == "proof")
    (device,) = proof["data"]["facts"]["readings"]
    assert device["first"]["through"] != device["second"]["through"] and not story.left


@pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool")
def test_a_bmcs_password_is_in_no_file_that_a_collector_or_an_agent_has_written(played, tmp_path_factory):
    story = played("by-members")
    assert chassis.PASSWORD not in story.text + json.dumps(story.record)
    (home,) = tmp_path_factory.getbasetemp().glob("kept0/by-members")
    places = {path.relative_to(home).parts[0] for path in home.rglob("*") if holds(path, chassis.PASSWORD.encode())}
    assert places == {"bmc.secret", "fronts"}, "the operator's own file, and ipmi_sim's"
    assert {"state", "logs"} <= {path.name for path in home.iterdir()}


def holds(path: Path, secret: bytes) -> bool:
    return path.is_file() and secret in path.read_bytes()


def test_power_loss_is_silence_for_every_witness(played):
    entries = played("power").record["entries"]
    verdict = next(e for e in entries if e["data"].get("verdict") == "MasterVanished")
    witnesses = [line["text"] for line in verdict["data"]["evidence"] if line["witness"].endswith("probe")]
    assert len(witnesses) == 3  # two members and the collector
    assert not [text for text in witnesses if "refused" in text]


def test_it_says_how_it_differs_from_production(played):
    text = played("power").text
    assert "patience 12 s (default 100 s)" in text
    assert f"xapi's clock {FACTOR}x" in text


def test_the_blocked_story_names_the_blocker_and_runs_confirm_fenced_itself(played):
    text = played("bmc-unreachable").text
    assert "BLOCKED_NEEDS_HUMAN" in text
    assert "$ poolwarden confirm-fenced lab-h1" in text
    assert text.index("BLOCKED_NEEDS_HUMAN") < text.index("$ poolwarden confirm-fenced") < text.index("promote-intent")


def test_a_bmc_that_lies_in_the_plain_story_makes_it_fail_with_a_plain_reason(played):
    story = played("spoiled")
    assert story.code == 1
    assert "FAILED: this must not happen in this story: asked" in story.text
    assert story.record["ok"] is False
    assert not story.left


def test_it_heals_at_xapis_own_pace_too(short_tmp):
    story = play(short_tmp / "s", "--fault", "power", "--time-factor", "1")
    assert story.code == 0, story.text
