"""Backups of a collector that runs, and what a collector on one does; the packaged configuration is a good one."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.agents import order_key
from poolwarden_collector.shell.agents.order_key import load_or_make
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.enrolment import authority_files
from poolwarden_collector.shell.store import backup, telemetry
from poolwarden_collector.shell.store.backup import BackupError, back_up
from poolwarden_collector.shell.store.journal import FILE, Journal

from .rig import POOL, write_config
from .test_main import Collector, run

PACKAGED = Path(__file__).resolve().parents[2] / "packaging/collector/collector.toml"


@pytest.mark.slow
def test_a_running_collectors_journal_is_copied_whole(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    try:
        collector.status()
        done = run("backup", tmp_path / "copies", "--config", tmp_path / "collector.toml")
        assert done.returncode == 0, done.stderr
        (copy, *_) = [Path(line) for line in done.stdout.splitlines()]
        assert copy.name == FILE and copy.stat().st_mode & 0o077 == 0
        with sqlite3.connect(copy) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        collector.process.terminate()
        collector.process.wait(20)


@pytest.mark.slow
def test_before_there_is_telemetry_the_journal_alone_is_a_whole_backup(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    Journal(tmp_path / "state").close()
    done = run("backup", tmp_path / "copies", "--config", config)
    assert done.returncode == 0 and [Path(line).name for line in done.stdout.splitlines()] == [FILE]
    assert done.stderr.startswith("telemetry.db: there is none yet") and done.stderr.count("\n") == 1
    telemetry._open(tmp_path / "state" / telemetry.FILE).conn.close()
    done = run("backup", tmp_path / "copies2", "--config", config)
    assert [Path(line).name for line in done.stdout.splitlines()] == [FILE, "telemetry.db"] and not done.stderr


def test_commits_do_not_begin_a_copy_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a journal of years would never end."""
    monkeypatch.setattr(backup, "_PAGES", 10)
    journal = Journal(tmp_path / "state")
    journal.commit(POOL, [Entry(Kind.POOL_NAMED, "x", {"name": "x", "more": "y" * 3_000}) for _ in range(150)])
    done = threading.Event()

    def copy() -> None:
        back_up(tmp_path / "state", tmp_path / "copy")
        done.set()

    thread = threading.Thread(target=copy)
    thread.start()
    commits = 0
    while not done.is_set() and commits < 2_000:
        journal.commit(POOL, [Entry(Kind.GOODBYE, "x", {"host": "h", "leaves": False})])
        commits += 1
    thread.join()
    journal.close()
    assert 2 < commits < 2_000


def test_a_copy_made_in_the_middle_of_writing_is_of_one_instant(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    journal = Journal(state)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            journal.commit(POOL, (Entry(Kind.POOL_SEEN, f"one {number}"), Entry(Kind.POOL_SEEN, f"two {number}")), ())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [back_up(state, tmp_path / f"copy{n}")[0] for n in range(5)]
    finally:
        stop.set()
        writer.join()
    for copy in copies:
        with sqlite3.connect(copy) as db:
            texts = [text for (text,) in db.execute("SELECT text FROM entries ORDER BY seq")]
        assert len(texts) % 2 == 0 and (not texts or texts[-1].split()[1] == texts[-2].split()[1])


@pytest.mark.slow
def test_a_backup_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is this the collector's state_dir"):
        back_up(tmp_path, tmp_path / "copy")
    done = run("backup", tmp_path / "copies", "--config", write_config(tmp_path))
    assert done.returncode == 1 and "nothing else was changed" in done.stderr and not (tmp_path / "copies").exists()


def test_the_packaged_configuration_is_good_once_its_certificates_are_there(tmp_path: Path) -> None:
    certificates.create_ca(tmp_path / "ca")
    certificates.issue_collector(tmp_path / "ca", "collector", ("127.0.0.1",), tmp_path / "tls")
    authority_files.init(tmp_path / "authority", "collector", ("127.0.0.1",))
    (tmp_path / "packages").mkdir()
    roots = [(tmp_path / name / "ca.pem").read_text() for name in ("ca", "authority")]
    (tmp_path / "tls/ca.pem").write_text("".join(roots))
    text = PACKAGED.read_text()
    file = tmp_path / "collector.toml"
    file.write_text(text.replace("/etc/poolwarden", str(tmp_path)))
    assert load(file).policy.mode == "observe"
    every = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()
    )
    secrets = {
        "bmc-host-1": "password=x",
        "metrics": "password=x",
        "mail": "user=x\npassword=x",
        "slack": "url=json://x",
        "etcd": "password=x",
    }
    shutil.copytree(tmp_path / "tls", tmp_path / "etcd")
    for name, line in secrets.items():
        secret = tmp_path / f"{name}.secret"
        secret.touch(mode=0o600)
        secret.write_text(f"{line}\n")
    every = every.replace("/etc/poolwarden", str(tmp_path)).replace("UUID of the host", POOL)
    file.write_text(every)
    config = load(file)
    assert config.anchors and config.fence and config.operator_listen and config.hooks.directory is not None
    kinds = [name.partition(":")[0] for name in config.alerts.names]
    assert kinds == ["log", "webhook", "mail", "apprise", "alertmanager", "syslog", "journald", "xapi"]
    assert config.metrics is not None and config.metrics.tls is not None and config.metrics.user == "prometheus"
    assert config.store is not None and config.store.etcd.user == "poolwarden"


def test_the_order_key_is_in_it_and_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    Journal(state).close()
    public = load_or_make(state).public
    names = [path.name for path in back_up(state, tmp_path / "copy")]
    assert names == [FILE, order_key.FILE]
    assert (tmp_path / "copy" / order_key.FILE).stat().st_mode & 0o777 == 0o600
    assert load_or_make(tmp_path / "copy").public == public, "hosts that have pinned it go on obeying"


@pytest.mark.slow
def test_the_order_key_is_printed_for_the_hosts_and_never_made_by_asking(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    done = run("order-key", "--config", config)
    assert done.returncode != 0 and "the collector makes it at its start" in done.stderr
    (tmp_path / "state").mkdir(exist_ok=True)
    public = load_or_make(tmp_path / "state").public
    done = run("order-key", "--config", config)
    assert (done.returncode, done.stdout.strip()) == (0, public.hex())
    coming = [run("order-key", "--config", config, "--next") for _ in range(2)]
    assert coming[0].stdout == coming[1].stdout != done.stdout and coming[0].returncode == 0
    assert (tmp_path / "state" / order_key.NEXT).stat().st_mode & 0o777 == 0o600
    assert load_or_make(tmp_path / "state").public == public, "nothing is signed with it yet"
