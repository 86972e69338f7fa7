"""A pool added, upgraded and removed by one command each, over real sshds (test_pool_by_ssh.py runs this inside).

Run as `unshare -mn --propagation private python pool_life.py FOLDER PYTHON36 STAND_IN FIRST SECOND`. Each host is a
scratch dom0 in a network namespace of its own with a real sshd, the real rpm and its scriptlets, the packaged agent
and the lab's xapi; `xe` and `systemctl` are programs that do what they do there. The collector is the real one.
Prints one JSON object of what was found at each station.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.packaging import scratch

from poolwarden_lab.processes.network import Namespaces
from poolwarden_lab.xapi.trees import HostTree, make_pool_disks

PATIENCE_S = 60.0
# systemd as far as the package and the commands use it: one unit, started by hand or by `restart`.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> /var/log/systemctl
pid=$(cat /run/agent.pid 2>/dev/null)
alive() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
[ "$1 $2" != "is-active firewalld" ] || { echo inactive; exit 3; }
case "$1" in
  is-active) if alive; then echo active; else echo inactive; exit 3; fi ;;
  try-restart) alive || exit 0 ;;
esac
case "$1" in
  stop|restart|try-restart)
    if alive; then kill "$pid"; while alive; do sleep 0.05; done; fi
    rm -f /run/agent.pid ;;
esac
case "$1" in
  start|restart|try-restart)
    setsid /opt/poolwarden/bin/poolwarden-agent >>/var/log/daemon.log 2>&1 </dev/null &
    echo $! > /run/agent.pid ;;
esac
exit 0
"""
XE = """#!/bin/sh
case "$1" in
  pool-list) cat /etc/xe-pool-list ;;
  host-list) cat /etc/xe-host-list ;;
  *) echo "Unknown command: $1" >&2; exit 1 ;;
esac
"""
SSHD = """Port 22
ListenAddress {address}
HostKey /etc/ssh/key
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
LogLevel VERBOSE
"""


class Host:
    """One scratch dom0 with its sshd and xapi."""

    def __init__(self, folder: Path, tree: HostTree, node: str, network: Namespaces, python36: Path) -> None:
        self.tree, self.node, self.root, self._network = tree, node, folder / "root", network
        folder.mkdir()
        scratch.make(folder, python36, tree, {"systemctl": SYSTEMCTL, "xe": XE})
        self.processes: list[subprocess.Popen[bytes]] = []

    def inside(self, *words: str) -> list[str]:
        return [*self._network.launcher(self.node), "chroot", str(self.root), *words]

    def run(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(self.inside(*words), capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    def start(self, operators_key: str, hosts: list[HostTree], pool: str) -> None:
        root = self.root
        for name in ("run/sshd", "etc/ssh", "root/.ssh", "run/lock"):
            (root / name).mkdir(parents=True, exist_ok=True)
        with (root / "etc/passwd").open("a") as file:
            file.write("sshd:x:74:74::/run/sshd:/sbin/nologin\n")
        (root / "root/.rpmmacros").write_text("%_dbpath /var/lib/rpm\n")  # Debian's rpm has it elsewhere
        (root / "root/.ssh/authorized_keys").write_text(operators_key)
        (root / "etc/ssh/sshd_config").write_text(SSHD.format(address=self.tree.address))
        key = root / "etc/ssh/key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (root / "etc/xe-pool-list").write_text(
            f"uuid ( RO)          : {pool}\n    name-label ( RW): lab\n        master ( RO): {hosts[0].uuid}\n\n\n"
        )
        (root / "etc/xe-host-list").write_text(
            "".join(
                f"uuid ( RO)          : {each.uuid}\n    name-label ( RW): {each.name}\n"
                f"       address ( RO): {each.address}\n\n\n"
                for each in hosts
            )
        )
        self._begin(self.inside("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"), "sshd")
        xapi = [sys.executable, "-m", "poolwarden_lab.xapi", "--root", str(root)]
        xapi += ["--address", self.tree.address, "--tls-address", "0.0.0.0", "--time-factor", "10"]
        self._begin(
            [*self._network.launcher(self.node), *xapi, "--tls-address", "0.0.0.0", "--time-factor", "10"], "xapi"
        )

    def _begin(self, command: list[str], name: str) -> None:
        with (self.root.parent / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def agent_pid(self) -> int:
        """Of the agent that runs; 0: none does."""
        try:
            pid = int((self.root / "run/agent.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return 0
        return pid

    def facts(self) -> dict[str, Any]:
        tls = self.root / "etc/poolwarden/tls"
        files = {path.name: f"{path.stat().st_mode & 0o777:o}" for path in sorted(tls.glob("*"))}
        _, shown = self.run("openssl", "x509", "-in", "/etc/poolwarden/tls/cert.pem", "-noout", "-text")
        return {
            "package": self.run("rpm", "-q", "poolwarden-agent")[1],
            "files": files,
            "uris": [word.removeprefix("URI:") for word in shown.replace(",", " ").split() if word.startswith("URI:")],
            "running": bool(self.agent_pid()),
            "pid": self.agent_pid(),
            "state": sorted(path.name for path in (self.root / "var/lib/poolwarden").glob("*")),
            "left": sorted(path.name for path in (self.root / "tmp").glob("poolwarden-agent*")),
        }

    def log(self) -> str:
        log = self.root / "var/log/daemon.log"
        return log.read_text()[-1500:] if log.exists() else ""

    def stop(self) -> None:
        if pid := self.agent_pid():
            os.kill(pid, 9)
        for process in self.processes:
            process.kill()
            process.wait()


class World:
    """The collector, the operator, and the hosts."""

    def __init__(self, folder: Path, network: Namespaces, package: Path) -> None:
        self.folder, self._network = folder, network
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(folder)}
        self.packages = folder / "packages"
        self.packages.mkdir()
        shutil.copy(package, self.packages)
        self._collector: subprocess.Popen[bytes] | None = None
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id"], check=True)
        (folder / "ssh_config").write_text(
            f"IdentityFile {folder}/id\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "StrictHostKeyChecking accept-new\n"
        )

    def program(self, module: str, *words: object) -> list[str]:
        return [*self._network.launcher("collector"), sys.executable, "-m", module, *map(str, words)]

    def collector(self) -> None:
        folder, shell = self.folder, "poolwarden_collector.shell.main"
        made = self.program(shell, "enrolment", "init", folder / "authority", "10.99.0.2", "--name", "lab")
        subprocess.run(made, env=self.environment, check=True, capture_output=True)
        tls = folder / "authority/collector"
        files = "".join(f'{name} = "{tls / name}.pem"\n' for name in ("ca", "cert", "key"))
        config = folder / "collector.toml"
        config.write_text(
            f'anchors = ["10.99.0.11:22", "10.99.0.12:22"]\n[collector]\nname = "lab"\nlisten = "10.99.0.2:7443"\n'
            f'operator_socket = "{folder}/c.sock"\nstate_dir = "{folder}/state"\n[tls]\n{files}'
            f'[enrolment]\nlisten = "10.99.0.2:7444"\nauthority = "{folder}/authority"\npackages = "{self.packages}"\n'
            '[policy]\nmode = "observe"\n'
        )
        with (folder / "collector.log").open("wb") as log:
            command = self.program(shell, "--config", config)
            self._collector = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        until(lambda: (folder / "c.sock").exists(), lambda: (folder / "collector.log").read_text())

    def poolwarden(self, *words: str, ssh: bool = True) -> dict[str, Any]:
        options = ["--", "-F", str(self.folder / "ssh_config")] if ssh else []
        command = self.program(
            "poolwarden_collector.cli.main", "--collector", f"unix:{self.folder}/c.sock", *words, *options
        )
        begun = time.monotonic()
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return {"status": done.returncode, "out": done.stdout, "err": done.stderr, "s": time.monotonic() - begun}

    def healthy(self, pool: str) -> bool:
        said = self.poolwarden("--json", "status", pool, ssh=False)
        return said["status"] == 0 and json.loads(said["out"])["pools"][0]["verdict"] == "Healthy"

    def stop(self) -> None:
        if self._collector is not None:
            self._collector.terminate()
            self._collector.wait(20)


def until(found: Callable[[], Any], why: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        if time.monotonic() > deadline:
            raise AssertionError(why())
        time.sleep(0.2)


def life(world: World, hosts: list[Host], pool: str, stand_in: Path, second: Path, found: dict[str, Any]) -> None:
    """Each station's findings go into ``found``."""
    master, member = hosts
    target = f"root@{master.tree.address}"

    def dom0(host: Host) -> None:  # what a real one provides, for rpm
        shutil.copy(stand_in, host.root / "tmp")
        assert host.run("rpm", "-i", f"/tmp/{stand_in.name}")[0] == 0

    dom0(member)
    found.update(pool=pool, uuids=[host.tree.uuid for host in hosts])
    found["nobody asked"] = world.poolwarden("pool", "add", target)
    assert "--yes" in found["nobody asked"]["err"]
    found["other mode"] = world.poolwarden("pool", "add", target, "--mode", "auto", "--yes")
    found["untouched"] = [host.facts() for host in hosts]
    found["first"] = world.poolwarden("pool", "add", target, "--mode", "observe", "--yes")
    found["after first"] = [host.facts() for host in hosts]
    dom0(master)
    found["second"] = world.poolwarden("pool", "add", target, "--yes")
    assert found["second"]["status"] == 0
    found["after second"] = [host.facts() for host in hosts]
    found["third"] = world.poolwarden("pool", "add", target)
    until(lambda: world.healthy(pool), lambda: str(world.poolwarden("explain", pool, ssh=False)))
    shutil.copy(second, world.packages)
    found["upgrade"] = world.poolwarden("pool", "upgrade", "lab", "--yes")
    found["after upgrade"] = [host.facts() for host in hosts]
    found["again"] = world.poolwarden("pool", "upgrade", "lab")
    kept = {host.node: (host.root / "etc/poolwarden/tls/key.pem").read_bytes() for host in hosts}
    found["remove"] = world.poolwarden("pool", "remove", "lab", "--yes", "--reason", "given back")
    found["after remove"] = [host.facts() for host in hosts]
    found["status"] = world.poolwarden("--json", "status", "lab", ssh=False)
    found["keys"] = len(set(kept.values()))
    found["history"] = world.poolwarden("history", "lab", ssh=False)["out"]


def main() -> None:
    folder, python36, stand_in, first, second = (Path(word) for word in sys.argv[1:6])
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    network = Namespaces(2)
    trees = make_pool_disks(2, "lab", addresses=[network.address("h1"), network.address("h2")])
    pool = next(line for line in (trees[0].files["var/lib/xcp/state.db"].decode().split('<table name="pool">')[1:]))
    pool = pool.split('uuid="')[1].split('"')[0]
    hosts = [Host(folder / f"h{n}", tree, f"h{n}", network, python36) for n, tree in enumerate(trees, 1)]
    world = World(folder, network, first)
    found: dict[str, Any] = {}
    try:
        for host in hosts:
            host.start((folder / "id.pub").read_text(), trees, pool)
        world.collector()
        life(world, hosts, pool, stand_in, second, found)
    except BaseException:
        logs = [*(host.log() for host in hosts), (folder / "collector.log").read_text()[-2000:]]
        print(json.dumps(found, indent=1)[-6000:], *logs, sep="\n", file=sys.stderr)
        raise
    finally:
        world.stop()
        for host in hosts:
            host.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
