"""docs/collectors.md as an administrator follows it: its commands on three real members with TLS and users."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.shell.rig import write_config

from poolwarden_collector.shell.main import main
from poolwarden_collector.shell.store.journal import Journal

from .clusters import PATH
from .test_migration import Single

PAGE = Path(__file__).resolve().parents[2] / "docs/collectors.md"
PASSWORDS = {"root": "r00t-password", "poolwarden": "a-password"}


def block(name: str) -> str:
    """The page's lines that are run."""
    found = re.search(rf"<!-- run: {name} -->\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, name
    return found[1]


class Site:
    """Three members on loopback addresses of this test's own, and two collectors' configurations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pid = os.getpid()
        self.net = f"127.{pid // 250 % 200 + 20}.{pid % 250 + 1}."
        self.members: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "PATH": PATH}
        for name, password in PASSWORDS.items():
            (folder / f"{name}.password").write_text(f"{password}\n")

    def here(self, text: str) -> str:
        """The page's text with this test's addresses and folders."""
        text = text.replace("192.0.2.", self.net).replace("/var/lib/etcd", str(self.folder))
        return text.replace("/etc/poolwarden/etcd", f"{self.folder}/etcd-ca/hall-a")

    def shell(self, script: str) -> str:
        """What it said."""
        words, around = ["sh", "-eu", "-c", script], {"cwd": self.folder, "env": self.environment}
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, **around)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return str(done.stdout + done.stderr)

    def run(self, line: str, wrong: bool = False) -> str:
        """A line of the collector's command; what it said."""
        name, *words = shlex.split(line)
        assert name == "poolwarden-collector"
        done = CliRunner().invoke(main, words)
        assert (done.exit_code != 0) is wrong, f"{line}: {done.output} {done.exception}"
        return done.output

    def start(self, state: str = "") -> None:
        """Its members, each with the page's environment; ``state``: below which folders, if not the page's."""
        page = self.here(block("member"))
        for number in (1, 2, 3):
            text = "\n".join(
                line if line.startswith("ETCD_INITIAL_CLUSTER=") else line.replace(".21:", f".2{number}:")
                for line in page.replace("ETCD_NAME=etcd1", f"ETCD_NAME=etcd{number}").splitlines()
            )
            text = text.replace("/etc/etcd/tls", f"{self.folder}/etcd-ca/etcd{number}")
            text = text.replace(f"{self.folder}/collectors", f"{self.folder}/data{state}{number}")
            told = dict(line.split("=", 1) for line in text.splitlines())
            told |= {"ETCD_UNSAFE_NO_FSYNC": "true", "ETCD_LOG_LEVEL": "error", "ETCD_LOGGER": "zap"}
            with (self.folder / f"etcd{number}.log").open("ab") as log:
                etcd = shutil.which("etcd", path=PATH)
                assert etcd is not None
                self.members.append(subprocess.Popen([etcd], env={**os.environ, **told}, stdout=log, stderr=log))

    def restore(self, state: str) -> None:
        """Each member's part of the page's restore."""
        for number in (1, 2, 3):
            line = self.here(block("restore")).replace("--name etcd1", f"--name etcd{number}")
            line = re.sub(r"(advertise-peer-urls \S+\.2)1:", rf"\g<1>{number}:", line)
            self.shell(line.replace(f"{self.folder}/collectors", f"{self.folder}/data{state}{number}"))

    def stop(self) -> None:
        for member in self.members:
            member.kill()
            member.wait()
        self.members.clear()

    def exports(self) -> str:
        return "\n".join(line for line in self.here(block("users")).splitlines() if line.startswith("export "))

    def etcdctl(self, words: str) -> str:
        return self.shell(f"{self.exports()}\netcdctl {words}")

    def until_healthy(self) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                self.etcdctl("endpoint health")
                return
            except AssertionError:
                assert time.monotonic() < end
                time.sleep(0.1)

    def configured(self, name: str) -> Path:
        """One collector's file, with the page's [store]."""
        found = re.search(r"\[store\]\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert found is not None
        folder = self.folder / name
        folder.mkdir()
        secret = folder / "etcd.secret"
        secret.touch(mode=0o600)
        secret.write_text(f"password={PASSWORDS['poolwarden']}\n")
        store = self.here(found[1].replace("/etc/poolwarden/etcd.secret", str(secret)))
        return write_config(folder, f"[store]\n{store}", collector=f'operator_listen = "127.0.0.1:0"\n#{name}')


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.slow
@pytest.mark.needs("etcd", "etcdctl")
def test_the_page_from_its_beginning_to_its_end(site: Site) -> None:
    # Here connections between members come from 127.0.0.1, and members look at where they come from.
    for line in re.sub(r"( etcd\d .*)", r"\1 127.0.0.1", site.here(block("certificates"))).splitlines():
        site.run(line)
    site.start()
    site.until_healthy()
    site.shell(site.here(block("users")))
    one = site.configured("hall-a")
    config = f"--config {one}"
    single = Single(one.parent, "state").filled()
    before = single.records()
    single.journal.close()
    # There.
    assert "2 pools" in site.run(f"poolwarden-collector store to-etcd --dry-run {config}")
    assert "no order key is known" in site.run(f"poolwarden-collector store to-etcd {config}", wrong=True)
    assert "same in every field" in site.run(f"poolwarden-collector store to-etcd --pinned {config}")
    assert "generation: 1" in site.run(f"poolwarden-collector store show {config}")
    # Copies.
    copies = site.run(f"poolwarden-collector backup copies {config}").split()
    site.shell(f"{site.exports()}\n{site.here(block('snapshot'))}")
    # A role without the prefix, and a wrong password, are told apart from an etcd that is away.
    root = f"--user root:{PASSWORDS['root']}"
    site.etcdctl(f"{root} role revoke-permission collectors --prefix=true poolwarden/")
    assert "does not let" in site.run(f"poolwarden-collector store show {config}", wrong=True)
    site.etcdctl(f"{root} role grant-permission collectors --prefix=true readwrite poolwarden/")
    # etcd's own snapshot put back.
    site.stop()
    site.restore("restored")
    site.start("restored")
    site.until_healthy()
    said = site.run(f"poolwarden-collector store show {config}")
    assert "generation: 1" in said and "pools: 2" in said
    assert "the generation is 2" in site.run(f"poolwarden-collector generation raise --yes {config}")
    # A new etcd from a collector's copy.
    site.stop()
    site.start("new")
    site.until_healthy()
    site.shell(site.here(block("users")))
    assert "this etcd has none of them" in site.run(f"poolwarden-collector store to-etcd {config}", wrong=True)
    copy = next(each for each in copies if each.endswith("etcd.copy"))
    assert "with --yes" in site.run(f"poolwarden-collector store restore {copy} {config}", wrong=True)
    assert "the generation is 2" in site.run(f"poolwarden-collector store restore {copy} --yes {config}")
    # A generation that a person raises.
    said = site.run(f"poolwarden-collector generation raise {config}", wrong=True)
    assert "generation 2 becomes 3" in said and "nothing was changed" in said
    assert "the generation is 3" in site.run(f"poolwarden-collector generation raise --yes {config}")
    # And back.
    assert "2 pools" in site.run(f"poolwarden-collector store to-sqlite --dry-run {config}")
    assert "same in every field" in site.run(f"poolwarden-collector store to-sqlite {config}")
    single.journal = Journal(one.parent / "state")
    assert single.records() == before
    single.journal.close()
