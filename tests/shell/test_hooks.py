"""Hooks run as real programs: order, retries, limits, who may be run, what is journaled; a collector that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poolwarden_collector.core.catalogue.hosts import HOOK_FAILED
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.config.hooks import HookSettings
from poolwarden_collector.shell.doctor import machine
from poolwarden_collector.shell.doctor.check import FAULT, OK
from poolwarden_collector.shell.hooks import condition, dns_name, hooks, queue_order, trust
from poolwarden_collector.shell.hooks.hooks import Hooks, printable
from poolwarden_collector.shell.hooks.queue_order import ATTEMPTS, ATTEMPTS_BEHIND, after, next_run
from poolwarden_collector.shell.hooks.trust import Hook
from poolwarden_collector.shell.loop import hook_events
from poolwarden_collector.shell.main import main as collectors_commands
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.store.hook_queue import DONE, GIVEN_UP, WAITS, HookEvent, HookRun
from poolwarden_collector.shell.store.journal import Journal, Row

from . import rig as rigged
from .rig import HOSTS, POOL, until, write_config
from .test_hook_events import CHECKER, ONE, TWO
from .test_main import collector
from .test_main import until as until_now

OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
FACTS = {"term": 2, "master": TWO, "old_master": ONE, "failover": None, "alert": None, "text": "host-2 serves"}
PROMOTED = Occasion("promoted", FACTS)
CLOSED = Occasion("closed", FACTS)


@pytest.fixture(autouse=True)
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests stands for root; retries come soon."""
    monkeypatch.setattr(trust, "OWNER", os.geteuid())
    monkeypatch.setattr(queue_order, "FIRST_RETRY_MS", 10)
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(hooks, "_PAUSE_S", 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hooks.d"
    folder.mkdir(mode=0o755)
    return folder


def program(folder: Path, name: str, script: str, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path


def queue(journal: Journal, *occasions: Occasion, pool: str = POOL) -> list[Row]:
    return journal.commit(pool, [Entry(Kind.PROMOTED, "x", {"host": "h"})], (), "lab", occasions)


@contextlib.asynccontextmanager
async def running(state: Path, folder: Path | None, limit_ms: int = 5_000) -> AsyncIterator[tuple[Journal, list[Row]]]:
    journal = Journal(state, "c", ("log",))
    rows: list[Row] = []

    async def write(call: Any, *args: Any) -> Any:
        return call(*args)

    worker = Hooks(journal, lambda: HookSettings(folder, limit_ms), write, rows.extend)
    worker.start()
    commit = journal.commit

    def committed(*given: Any) -> list[Row]:
        found = commit(*given)
        worker.nudge()
        return found

    journal.commit = committed  # type: ignore[method-assign]
    try:
        yield journal, rows
    finally:
        await worker.stop()
        journal.close()


async def idle(journal: Journal) -> None:
    await until(lambda: not journal.hook_events())


# ------------------------------------------------------------------------------------------------ what a hook sees


@pytest.mark.asyncio
async def test_what_a_hook_reads_and_how_it_is_started(tmp_path: Path, folder: Path) -> None:
    secret = "POOLWARDEN_TEST_SECRET"
    os.environ[secret] = "x"
    script = f'cat >{tmp_path}/stdin; env >{tmp_path}/env; pwd >{tmp_path}/pwd; echo "$#" >{tmp_path}/args\n'
    script += f"ps -o sid=,pgid= -p $$ >{tmp_path}/session; echo $$ >>{tmp_path}/session; echo all is well"
    program(folder, "10-look", script)
    try:
        async with running(tmp_path / "s", folder) as (journal, rows):
            queue(journal, PROMOTED)
            await idle(journal)
    finally:
        del os.environ[secret]
    read = json.loads((tmp_path / "stdin").read_text())
    CHECKER.validate(read)
    assert (read["event"], read["id"], read["attempt"], read["collector"]) == ("promoted", 1, 1, "c")
    assert read["pool"] == {"uuid": POOL, "name": "lab"} and read["master"] == TWO and read["old_master"] == ONE
    environment = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert set(environment) <= {"PATH", "LC_ALL", "PYTHONWARNINGS", "PWD", "OLDPWD", "SHLVL", "_"}
    assert (tmp_path / "pwd").read_text() == "/\n" and (tmp_path / "args").read_text() == "0\n"
    assert len(set((tmp_path / "session").read_text().split())) == 1, "a session and a group of its own"
    [row] = rows
    assert row.kind == "hook-ran" and row.pool == POOL
    assert row.text == "hook 10-look ran for promoted: all is well"
    assert json.loads(row.data)["status"] == DONE


@pytest.mark.asyncio
async def test_hooks_run_in_the_order_of_their_names_and_occasions_in_theirs(tmp_path: Path, folder: Path) -> None:
    for name in ("20-b", "10-a"):
        program(folder, name, f'grep -o \'"event": "[a-z]*"\' | sed "s/^/{name} /" >>{tmp_path}/log')
    async with running(tmp_path / "s", folder) as (journal, _):
        queue(journal, PROMOTED, CLOSED)
        await idle(journal)
    lines = [line.split()[::2] for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == [["10-a", '"promoted"'], ["20-b", '"promoted"'], ["10-a", '"closed"'], ["20-b", '"closed"']]


@pytest.mark.asyncio
async def test_without_a_directory_nothing_is_run_and_nothing_is_kept(tmp_path: Path, folder: Path) -> None:
    async with running(tmp_path / "s", None) as (journal, rows):
        queue(journal, PROMOTED)
        await idle(journal)
    assert rows == []


# ------------------------------------------------------------------------------------------------ failing


@pytest.mark.asyncio
async def test_a_failing_hook_is_tried_again_told_and_its_alert_ends_with_its_success(
    tmp_path: Path, folder: Path
) -> None:
    program(folder, "10-fails", f"[ -e {tmp_path}/mended ] && exit 0; echo 'no \x1b[31mserver' >&2; exit 7")
    program(folder, "20-runs", f"echo ran >>{tmp_path}/others")
    async with running(tmp_path / "s", folder) as (journal, rows):
        queue(journal, PROMOTED)
        [alert] = await until(lambda: journal.alerts(open_only=True))
        assert (tmp_path / "others").read_text() == "ran\n", "once, and not held up by the one that fails"
        assert alert["key"] == f"{POOL}/hook-10-fails" and alert["severity"] == "warning" and alert["pool"] == POOL
        assert alert["title"] == "lab: hook 10-fails fails for promoted"
        assert r"exit status 7: no \x1b[31mserver" in alert["body"] and "192.0.2.2" in alert["body"]
        assert json.loads(alert["data"])["message"] == HOOK_FAILED.id
        (tmp_path / "mended").touch()
        await idle(journal)
        assert journal.alerts(open_only=True) == []
        assert [each["state"] for each in journal.alerts()[0]["deliveries"]] == ["firing", "resolved"]
    texts = [row.text for row in rows if "10-fails" in row.text]
    assert texts[0].startswith(r"hook 10-fails failed for promoted: exit status 7: no \x1b[31mserver; it is tried")
    assert "at attempt 3" in texts[1] and len(texts) == 3, "not every attempt is an entry"
    assert "ran for promoted at attempt" in texts[2]
    assert not any("\x1b" in row.text + row.data for row in rows)


@pytest.mark.asyncio
async def test_a_hook_that_hangs_is_killed_with_its_children_and_holds_up_no_other_pool(
    tmp_path: Path, folder: Path
) -> None:
    script = f"grep -q {OTHER} && exit 0; sleep 300 & echo $! >{tmp_path}/child; echo begun >{tmp_path}/begun; wait"
    program(folder, "10-hangs", script)
    async with running(tmp_path / "s", folder, limit_ms=60_000) as (journal, rows):
        queue(journal, PROMOTED)
        await until((tmp_path / "begun").exists)
        queue(journal, PROMOTED, pool=OTHER)
        await until(lambda: [row.pool for row in rows] == [OTHER])
    child = int((tmp_path / "child").read_text())
    await until(lambda: not alive(child))  # with the collector's own end
    async with running(tmp_path / "s", folder, limit_ms=300) as (journal, rows):
        await until(lambda: rows)
        assert "failed for promoted: no result within 0.3 s, killed" in rows[0].text
        child = int((tmp_path / "child").read_text())
        await until(lambda: not alive(child))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.asyncio
async def test_much_output_is_cut_and_a_program_that_cannot_start_is_told(tmp_path: Path, folder: Path) -> None:
    program(folder, "10-talks", "yes '0123456789' | head -c 3000000; printf 'x%.0s' $(seq 9000)")
    (folder / "20-broken").write_text("no program\n")
    (folder / "20-broken").chmod(0o755)
    (folder / "30-nowhere").write_text("#!/nowhere/python\n")
    (folder / "30-nowhere").chmod(0o755)
    async with running(tmp_path / "s", folder) as (journal, rows):
        queue(journal, PROMOTED)
        await until(lambda: len({json.loads(row.data)["hook"] for row in rows}) == 3)
    said = {json.loads(row.data)["hook"]: json.loads(row.data)["said"] for row in rows}
    assert len(said["10-talks"]) <= 500
    assert said["20-broken"] == "20-broken cannot be started: Exec format error", "no shell comes to its help"
    assert said["30-nowhere"].startswith("30-nowhere cannot be started: No such file")


@pytest.mark.asyncio
async def test_the_alert_of_a_hook_that_is_taken_away_is_over(tmp_path: Path, folder: Path) -> None:
    path = program(folder, "10-fails", "exit 1")
    async with running(tmp_path / "s", folder) as (journal, _):
        queue(journal, PROMOTED)
        await until(lambda: journal.alerts(open_only=True))
    path.unlink()  # while no collector runs
    async with running(tmp_path / "s", folder) as (journal, _):
        await until(lambda: not journal.alerts(open_only=True))
        await idle(journal)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_cannot_be_noted_is_not_run_again_without_a_pause(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(folder, "10-counts", f"echo ran >>{tmp_path}/log")
    monkeypatch.setattr(hooks, "_PAUSE_S", 0.5)
    async with running(tmp_path / "s", folder) as (journal, _):
        noted, journal.hook_ran = journal.hook_ran, None  # type: ignore[method-assign, assignment]
        queue(journal, PROMOTED)
        await until((tmp_path / "log").exists)
        await asyncio.sleep(0.2)
        assert (tmp_path / "log").read_text() == "ran\n"
        journal.hook_ran = noted  # type: ignore[method-assign]
        await idle(journal)
    assert (tmp_path / "log").read_text() == "ran\nran\n"


def test_what_is_tried_when() -> None:
    one, two = Hook("a", Path("a")), Hook("b", Path("b"))
    first, second = HookEvent(1, POOL, "promoted", {}), HookEvent(2, POOL, "closed", {})
    assert next_run([first, second], [one, two], 0) == (first, one)
    waits = HookRun(WAITS, 1, 1_000)
    first = HookEvent(1, POOL, "promoted", {}, {"a": waits, "b": HookRun(DONE, 1)})
    assert next_run([first, second], [one, two], 0) == (second, two), "one waits, the other goes on"
    hangs = HookEvent(1, POOL, "promoted", {}, {"a": HookRun(WAITS, 5, -9)})
    assert next_run([hangs, second], [one, two], 0) == (hangs, two), "what was never tried goes first"
    second = HookEvent(2, POOL, "closed", {}, {"b": HookRun(DONE, 1)})
    assert next_run([first, second], [one, two], 0) is None, "never the later one before the earlier"
    assert next_run([first, second], [one, two], 1_000) == (first, one)
    assert next_run([first, second], [one, two], -(10**12)) == (first, one), "a clock that was set back"


def test_how_often_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_order, "FIRST_RETRY_MS", 1_000)
    run, waits = HookRun(), []
    while run.status == WAITS:
        run = after(run, False, True, 0)
        waits.append(run.next_try_ms)
    assert waits[:10] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000]
    assert (run.status, run.attempts) == (GIVEN_UP, ATTEMPTS) and 23 < sum(waits) / 3_600_000 < 25
    run = HookRun(WAITS, ATTEMPTS_BEHIND - 1)
    assert after(run, False, False, 0).status == GIVEN_UP and after(run, False, True, 0).status == WAITS
    assert after(run, True, False, 0) == HookRun(DONE, ATTEMPTS_BEHIND)


@pytest.mark.asyncio
async def test_a_hook_that_was_given_up_gets_another_chance_at_the_next_start(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(folder, "10-fails", f"cat >>{tmp_path}/log; [ -e {tmp_path}/mended ]")
    monkeypatch.setattr(queue_order, "ATTEMPTS", 2)
    async with running(tmp_path / "s", folder) as (journal, rows):
        queue(journal, PROMOTED, CLOSED)
        await idle(journal)
        assert len(journal.alerts(open_only=True)) == 1
        assert [row.text for row in rows if "given up for closed after 2 attempts" in row.text]
    (tmp_path / "mended").touch()
    (tmp_path / "log").unlink()
    async with running(tmp_path / "s", folder) as (journal, rows):
        await until(lambda: rows)
        await idle(journal)
        assert journal.alerts(open_only=True) == []
    assert json.loads((tmp_path / "log").read_text())["event"] == "closed", "the newest of its pool alone"


# ------------------------------------------------------------------------------------------------ who may be run


def test_what_is_run_and_what_is_not(folder: Path, tmp_path: Path) -> None:
    program(folder, "10-good", "")
    program(folder, "20-group", "", 0o775)
    program(folder, "30-others", "", 0o757)
    program(folder, "README", "", 0o644)
    program(folder, ".hidden", "")
    program(folder, "10-good~", "")
    (folder / "40-folder").mkdir()
    (folder / "50-nowhere").symlink_to(tmp_path / "nowhere")
    (folder / "60-linked").symlink_to(program(tmp_path, "elsewhere", ""))
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (folder / "70-open").symlink_to(program(open_to_all, "program", ""))
    (folder / "80-loop").symlink_to(folder / "80-loop")
    os.mkfifo(folder / "90-pipe", 0o755)
    (folder / "95\n").touch()
    found = trust.look(folder)
    refused = {hook.name: hook.refusal for hook in found.hooks}
    assert refused.pop("10-good") == refused.pop("60-linked") == ""
    assert (
        refused.pop("20-group") == f"{folder}/20-group can be written by others than root: chmod go-w {folder}/20-group"
    )
    assert "written by others" in refused.pop("30-others")
    assert refused.pop("50-nowhere").endswith("leads nowhere") and refused.pop("80-loop").endswith("leads nowhere")
    assert refused.pop("70-open").startswith(f"{open_to_all} can be written by others")
    assert refused.pop("90-pipe").endswith("is no file") and refused == {}
    assert len(found.left_out) == 5 and all("\n" not in why for why in found.left_out)
    assert any(f"chmod 755 {folder}/README" in why for why in found.left_out)


def test_a_directory_that_others_can_write_stands_for_its_hooks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(folder, "10-good", "")
    folder.chmod(0o1777)  # the sticky bit keeps others from taking a hook away, not from adding one
    [only] = trust.look(folder).hooks
    assert only.name == "hooks.d" and "can be written by others than root" in only.refusal
    folder.chmod(0o755)
    assert [hook.refusal for hook in trust.look(folder).hooks] == [""]
    assert "there is no directory" in trust.look(folder / "none").hooks[0].refusal


def test_one_that_cannot_be_looked_at_holds_up_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("10-hidden", "20-good"):
        program(folder, name, "")
    resolve = Path.resolve

    def hidden(path: Path, strict: bool = False) -> Path:
        if path.name == "10-hidden":
            raise PermissionError(13, "Permission denied")
        return resolve(path, strict)

    monkeypatch.setattr(Path, "is_dir", lambda path: resolve(path).name == "hooks.d" or hidden(path).is_symlink())
    assert [hook.refusal for hook in trust.look(folder).hooks] == [
        f"{folder}/10-hidden cannot be looked at: Permission denied",
        "",
    ]


@pytest.mark.needs("root")
def test_another_users_hook_is_not_run(folder: Path) -> None:
    path = program(folder, "10-theirs", "")
    os.chown(path, 65534, 65534)
    [hook] = trust.look(folder).hooks
    assert hook.refusal == f"{path} belongs to user 65534: chown root {path}"
    os.chown(folder, 65534, 0)
    [only] = trust.look(folder).hooks
    assert only.refusal == f"{folder} belongs to user 65534: chown root {folder}"


@pytest.mark.asyncio
async def test_a_hook_that_may_not_be_run_is_told_as_one_that_fails_and_never_run(tmp_path: Path, folder: Path) -> None:
    path = program(folder, "10-open", f"echo ran >>{tmp_path}/log", 0o777)
    async with running(tmp_path / "s", folder) as (journal, rows):
        queue(journal, PROMOTED)
        [alert] = await until(lambda: journal.alerts(open_only=True))
        assert f"not run: {path} can be written by others" in alert["body"]
        assert f"hook 10-open failed for promoted: not run: {path} can be written" in rows[0].text
        assert not (tmp_path / "log").exists()
        path.chmod(0o755)
        await idle(journal)
        assert (tmp_path / "log").read_text() == "ran\n" and journal.alerts(open_only=True) == []


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b]0;x\x07\u202eb\n\udcff") == r"a\x1b]0;x\x07\u202eb\n\udcff"


# ------------------------------------------------------------------------------------------------ configuration


def test_the_table_hooks(tmp_path: Path) -> None:
    assert load(write_config(tmp_path)).hooks == HookSettings(None, 30_000)
    config = load(write_config(tmp_path, '[hooks]\ndirectory = "hooks.d"\nlimit = "90s"'))
    assert config.hooks == HookSettings(tmp_path / "hooks.d", 90_000)
    for extra, why in (
        ('limit = "5s"', "directory: is missing"),
        ('directory = "h"\nlimit = "11m"', 'is 660 s; expected a time from "1s" to "10m"'),
        ('directory = "h"\nlimits = "1s"', "limits: is no setting"),
        ("directory = 5", "directory: is the number 5"),
    ):
        with pytest.raises(ConfigError, match=why):
            load(write_config(tmp_path, f"[hooks]\n{extra}"))


def test_check_config_and_doctor_name_what_would_not_run(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(folder, "10-good", "")
    file = write_config(tmp_path, f'[hooks]\ndirectory = "{folder}"')
    done = CliRunner().invoke(collectors_commands, ["check-config", str(file)])
    assert done.exit_code == 0 and done.stdout.endswith("good; 0 fence devices, 1 alert channel, 1 hook\n")
    assert [(check.level, check.text) for check in machine.hooks(folder)] == [
        (OK, f"what is run from {folder}: 10-good")
    ]
    program(folder, "20-open", "", 0o777)
    program(folder, "README", "", 0o644)
    done = CliRunner().invoke(collectors_commands, ["check-config", str(file)])
    assert done.exit_code == 0 and "1 hook\n" in done.stdout
    assert f"warning: hook 20-open is not run: {folder}/20-open can be written by others" in done.stderr
    assert "README" in done.stderr and "is no hook: nobody may execute it" in done.stderr
    assert [check.level for check in machine.hooks(folder)] == [FAULT]
    (folder / "20-open").unlink()
    (folder / "50-dns").symlink_to(program(tmp_path, dns_name.PROGRAM, ""))
    settings = tmp_path / "hook-dns.toml"
    monkeypatch.setattr(condition._of_its_file, "__defaults__", (settings,))
    [fault] = machine.hooks(folder)
    assert fault.level == FAULT and f"hook 50-dns fails: {settings}: cannot be read" in fault.text


# ------------------------------------------------------------------------------------------------ the collector


@pytest.mark.asyncio
async def test_a_step_is_committed_with_its_occasion_whatever_happens_to_hooks(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(hook_events, "occasions", broken)
    async with rigged.running(tmp_path, f'[hooks]\ndirectory = "{folder}"') as rig:
        await rig.agent(HOSTS[0])
        await until(lambda: [row for row in rig.parts.journal.history(POOL) if row.kind == "host-seen"])
        assert rig.parts.journal.hook_events() == []
    assert "hooks are not told of a step: RuntimeError: a mistake of ours" in caplog.text


@pytest.mark.slow
@pytest.mark.needs("root")
def test_a_collector_that_is_killed_runs_the_hook_at_its_next_start(tmp_path: Path, folder: Path) -> None:
    script = f"cat >>{tmp_path}/read; echo >>{tmp_path}/read; [ -e {tmp_path}/mended ] && exit 0; sleep 60"
    program(folder, "10-slow", script)
    write_config(tmp_path)
    journal = Journal(tmp_path / "state", "test")
    journal.begin_epoch()
    queue(journal, PROMOTED)  # and killed right after its commit: no hook has been begun
    os.close(journal._lock_file)
    read = tmp_path / "read"

    def times() -> int:
        return len(read.read_text().splitlines()) if read.exists() else 0

    def still_running() -> list[int]:
        return [int(each.name) for each in Path("/proc").glob("[0-9]*") if str(folder) in command(each)]

    with collector(tmp_path, f'[hooks]\ndirectory = "{folder}"') as killed:
        until_now(lambda: times() == 1, 60)
        killed.end(signal.SIGKILL)  # while it runs
    for each in still_running():
        os.killpg(each, signal.SIGKILL)  # what systemd does with all that a unit leaves behind
    (tmp_path / "mended").touch()
    with collector(tmp_path, f'[hooks]\ndirectory = "{folder}"') as again:
        until_now(lambda: times() == 2, 60)
        until_now(lambda: any("hook 10-slow ran" in row for row in texts(tmp_path)), 60)
        assert again.end() == 0
    first, second = (json.loads(line) for line in read.read_text().splitlines())
    CHECKER.validate(first)
    assert first == second and first["id"] == 1 and first["attempt"] == 1


def command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def texts(folder: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{folder}/state/journal.db?mode=ro", uri=True)) as db:
        return [text for (text,) in db.execute("SELECT text FROM entries")]


@pytest.mark.needs("root")
def test_a_link_of_another_user_on_the_way_says_what_is_run_and_is_refused(folder: Path, tmp_path: Path) -> None:
    others = tmp_path / "home"
    others.mkdir()
    link = others / "current"
    link.symlink_to("/usr/bin/true")
    (folder / "10-own").symlink_to(link)
    [hook] = trust.look(folder).hooks
    assert hook.refusal == "", "a link of root's to a link of root's"
    os.lchown(link, 65534, 65534)
    [hook] = trust.look(folder).hooks
    assert f"{link} is a link of user 65534" in hook.refusal
    os.lchown(link, 0, 0)
    os.chown(others, 65534, 65534)
    [hook] = trust.look(folder).hooks
    assert f"{others} belongs to user 65534" in hook.refusal, "whoever owns the folder can put another link there"
    (folder / "10-own").unlink()
    (folder / "10-own").symlink_to("10-own")
    [hook] = trust.look(folder).hooks
    assert "leads nowhere" in hook.refusal
