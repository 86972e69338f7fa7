"""The collector as an administrator gets it: the archive, its `install` program in a scratch root, and what runs then.

Only what the archive holds and its lock names is used: a clean environment, nothing of this repository on the path. The
agent that attaches is the repository's own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.tree import HOST, Agent, Tree

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "packaging/collector/build.py"
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | {
    name: value for name, value in os.environ.items() if name.startswith("PIP_")
}


def run(*words: object, status: int = 0, **more: Any) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, env={**CLEAN, **more}, cwd="/"
    )
    assert done.returncode == status, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def archive(folder: Path, epoch: int = 1_700_000_000) -> Path:
    return Path(run(sys.executable, BUILD, "--out", folder, SOURCE_DATE_EPOCH=str(epoch)).strip())


@pytest.fixture(scope="module")
def short() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pwi"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def installer(short: Path) -> Path:
    """The unpacked archive's program."""
    with tarfile.open(archive(short / "build")) as packed:
        packed.extractall(short / "unpacked", filter="data")
    (found,) = (short / "unpacked").glob("*/install")
    return found


@pytest.fixture(scope="module")
def root(short: Path, installer: Path) -> Path:
    """A scratch root with a collector, installed by the documented command, configured, with certificates."""
    root = short / "r"
    said = run(installer, "--root", root, "--python", sys.executable)
    assert "is installed. Next: docs/installing.md" in said
    share = root / "usr/local/share"
    for completes in ("bash-completion/completions/poolwarden", "zsh/site-functions/_poolwarden"):
        assert "_POOLWARDEN_COMPLETE" in (share / completes).read_text()
    assert (share / "man/man1/poolwarden-fence-test.1").is_file()
    assert (share / "man/man1/poolwarden-collector-reload.1").is_file()
    command = root / "opt/poolwarden-collector/bin/poolwarden-collector"
    run(command, "init-ca", short / "ca")
    run(command, "issue-collector", short / "ca", "scratch", "127.0.0.1", "--out", short / "tls")
    run(command, "issue-host", short / "ca", HOST, "--out", short / "host")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (root / "etc/poolwarden/collector.toml").write_text(
        f'[collector]\nname = "scratch"\nlisten = "127.0.0.1:{port}"\noperator_socket = "{short}/c.sock"\n'
        f'state_dir = "{root}/var/lib/poolwarden"\n[tls]\nca = "{short}/tls/ca.pem"\ncert = "{short}/tls/cert.pem"\n'
        f'key = "{short}/tls/key.pem"\n[alerts]\nlog = "-"\n'
    )
    return root


def programs(root: Path) -> Path:
    return root / "opt/poolwarden-collector/bin"


def until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(what)


@pytest.fixture
def running(root: Path, short: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The installed collector, as the unit starts it."""
    config = root / "etc/poolwarden/collector.toml"
    with (short / "log").open("ab") as log:
        command = [programs(root) / "poolwarden-collector", "--config", config]
        collector = subprocess.Popen(command, env=CLEAN, stdout=log, stderr=log, cwd="/")
    try:
        until(lambda: (short / "c.sock").exists() or collector.poll() is not None, "no operator socket")
        assert collector.poll() is None, (short / "log").read_text()
        yield collector
    finally:
        collector.terminate()
        collector.wait(20)


def hosts(root: Path, short: Path) -> list[dict[str, Any]]:
    said = run(programs(root) / "poolwarden", "--collector", f"unix:{short}/c.sock", "--json", "hosts")
    return list(json.loads(said)["hosts"])


def test_the_same_commit_gives_the_same_bytes(short: Path, installer: Path) -> None:
    again = archive(short / "again")
    assert again.read_bytes() == (short / "build" / again.name).read_bytes()


def test_what_it_is_made_of_is_in_it(installer: Path) -> None:
    assert json.loads((installer.parent / "sbom.cdx.json").read_text())["bomFormat"] == "CycloneDX"


def test_every_document_is_in_it(installer: Path) -> None:
    packed = {path.name: path.read_bytes() for path in (installer.parent / "docs").iterdir()}
    assert packed == {path.name: path.read_bytes() for path in (ROOT / "docs").iterdir()}


def test_what_monitoring_reads_is_in_it(installer: Path) -> None:
    packed = {path.name for path in (installer.parent / "monitoring").iterdir()}
    assert packed == {"poolwarden.rules.yml", "poolwarden.rules.test.yml", "grafana-dashboard.json"}


def test_what_is_installed_is_the_lock_and_the_wheel_alone(root: Path) -> None:
    listed = json.loads(run(programs(root) / "python", "-m", "pip", "list", "--format=json"))
    lock = (ROOT / "packaging/collector-runtime.lock").read_text()
    pinned = {line.split("==")[0].lower() for line in lock.splitlines() if "==" in line}
    found = {item["name"].lower().replace("_", "-") for item in listed}
    assert found - {"pip", "setuptools"} == (pinned | {"poolwarden"}) - {"pip"}
    packages = {path.name for path in (programs(root).parent / "lib").glob("python3*/site-packages/poolwarden*")}
    assert {name for name in packages if "dist-info" not in name} == {"poolwarden", "poolwarden_collector"}
    said = run(programs(root) / "poolwarden", "lab", "demo", status=2)
    assert "the lab is not installed here" in said and said.count("\n") <= 2
    assert not pinned & {"pytest", "mypy", "ruff", "hypothesis"}


def test_configuration_and_unit_are_where_they_belong(root: Path) -> None:
    assert (root / "etc/poolwarden/collector.toml.example").read_bytes() == BUILD.with_name(
        "collector.toml"
    ).read_bytes()
    unit = (root / "usr/local/lib/systemd/system/poolwarden-collector.service").read_text()
    assert (
        "ExecStart=/opt/poolwarden-collector/bin/poolwarden-collector --config /etc/poolwarden/collector.toml" in unit
    )
    assert str((root / "usr/local/bin/poolwarden").readlink()) == "/opt/poolwarden-collector/bin/poolwarden"
    assert (root / "etc/poolwarden/hooks.d").stat().st_mode & 0o777 == 0o755
    hook = root / "usr/local/bin/poolwarden-hook-dns"
    assert str(hook.readlink()) == "/opt/poolwarden-collector/bin/poolwarden-hook-dns"
    assert "Keep a DNS name" in run(programs(root) / "poolwarden-hook-dns", "--help")
    assert (root / "var/lib/poolwarden").stat().st_mode & 0o777 == 0o700


@pytest.mark.needs("root")
def test_the_shipped_hook_may_be_linked_to(root: Path, short: Path) -> None:
    """By the link in docs/hooks.md; what is said of it then is its own file's, which nobody has written yet."""
    link, config = root / "etc/poolwarden/hooks.d/50-dns", short / "with-hooks.toml"
    link.symlink_to(programs(root) / "poolwarden-hook-dns")
    told = f'[hooks]\ndirectory = "{link.parent}"\n'
    config.write_text((root / "etc/poolwarden/collector.toml").read_text() + told)
    said = run(programs(root) / "poolwarden-collector", "check-config", config)
    assert "warning: hook 50-dns fails: /etc/poolwarden/hook-dns.toml: cannot be read" in said
    said = run(link, "check", status=2)
    assert (
        said.startswith("poolwarden-hook-dns: /etc/poolwarden/hook-dns.toml: cannot be read")
        and "Traceback" not in said
    )


@pytest.mark.needs("openssl")
def test_an_agent_attaches_a_backup_is_taken_and_an_upgrade_keeps_what_was_known(
    root: Path, short: Path, installer: Path, running: subprocess.Popen[bytes]
) -> None:
    config = root / "etc/poolwarden/collector.toml"
    assert "good; 0 fence devices" in run(programs(root) / "poolwarden-collector", "check-config", config)
    tree = Tree(short / "h1")
    for name in ("ca.pem", "cert.pem", "key.pem"):
        tree.put(f"etc/poolwarden/tls/{name}", (short / "host" / name).read_bytes())
    port = config.read_text().split('listen = "127.0.0.1:')[1].split('"')[0]
    tree.put("etc/poolwarden/agent.conf", f"[agent]\ncollector = 127.0.0.1:{port}\n")
    agent = Agent(tree).start()
    try:
        until(lambda: any(host["agent_connected"] for host in hosts(root, short)), "the agent never attached")
    except AssertionError as error:
        raise AssertionError(f"{error}: {agent.said()} {(short / 'log').read_text()}") from error
    finally:
        agent.stop()
    until(lambda: (root / "var/lib/poolwarden/telemetry.db").exists(), "no telemetry")
    copied = run(programs(root) / "poolwarden-collector", "backup", short / "copies", "--config", config).split()
    assert [Path(path).name for path in copied] == ["journal.db", "telemetry.db", "order-key.pem"]

    kept, before = config.read_text(), (root / "opt/poolwarden-collector").readlink()
    said = run(installer, "--root", root, "--python", sys.executable)
    assert "is installed and not running" in said  # systemd is not spoken to below a scratch root
    assert config.read_text() == kept and (root / "opt/poolwarden-collector").readlink() != before
    assert list((root / "var/lib/poolwarden/before-upgrade").glob("*/journal.db"))
    assert (root / "opt" / before).is_dir(), "the way back is gone"
    running.terminate()
    running.wait(20)
    again = subprocess.Popen(
        [programs(root) / "poolwarden-collector", "--config", config], env=CLEAN, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        until(lambda: (short / "c.sock").exists(), "the new version does not start")
        assert [host["host_uuid"] for host in hosts(root, short)] == [HOST], "the journal was not taken over"
    finally:
        again.terminate()
        again.wait(20)


def test_a_version_that_refuses_the_configuration_changes_nothing(root: Path, installer: Path) -> None:
    config, before = root / "etc/poolwarden/collector.toml", (root / "opt/poolwarden-collector").readlink()
    kept = config.read_text()
    config.write_text(kept + "\n[nonsense]\nx = 1\n")
    try:
        said = run(installer, "--root", root, "--python", sys.executable, status=1)
    finally:
        config.write_text(kept)
    assert "Nothing was changed" in said and (root / "opt/poolwarden-collector").readlink() == before
    assert len(list((root / "opt/poolwarden-collector.d").iterdir())) <= 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--python", "/bin/false"), "/bin/false is no Python 3.11 or newer"),
        (("--nonsense",), "unknown option --nonsense"),
    ],
)
def test_a_mistake_is_one_line(installer: Path, short: Path, words: tuple[str, ...], said: str) -> None:
    found = run(installer, "--root", short / "none", *words, status=1)
    assert said in found and found.count("\n") == 1 and not (short / "none/opt").exists()


def test_removing_leaves_what_was_learnt(root: Path, installer: Path) -> None:
    run(installer, "--root", root, "--remove")
    assert not (root / "opt/poolwarden-collector").exists()
    assert (root / "etc/poolwarden/collector.toml").exists()
    assert (root / "var/lib/poolwarden/journal.db").exists()
