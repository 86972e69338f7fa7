"""The package's whole life in a scratch dom0 (scratch.py runs this inside): installed, streaming, upgraded, erased.

Run as `python life.py FOLDER STAND_IN PACKAGE [NEXT]`; without a next package nothing is upgraded. Prints one JSON
object of what was found at each station; the tests judge it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from confined import confinement

from poolwarden_collector.shell.agents.order_key import load_or_make
from poolwarden_collector.shell.config import certificates

COLLECTOR_LIMIT_S = 40.0


class Dom0:
    """The scratch root, entered by chroot for each command."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(["chroot", self.root, *words], capture_output=True, text=True, check=False)
        return {"status": done.returncode, "said": done.stdout + done.stderr}

    def rpm(self, *words: str) -> dict[str, Any]:
        return self.run("rpm", "--dbpath", "/var/lib/rpm", *words)

    def systemctl(self) -> list[str]:
        """What it was asked since the last time."""
        log = self.root / "var/log/systemctl"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def slots(self) -> dict[str, list[int]]:
        found = sorted((self.root / "var/lib/poolwarden").glob("*"))
        return {path.name: [path.stat().st_ino, path.stat().st_size, path.stat().st_mode & 0o777] for path in found}


def streaming(dom0: Dom0, folder: Path) -> dict[str, Any]:
    """Start the installed agent and a collector; what the collector then knows, and what the agent's processes are."""
    port = 7443
    host = (dom0.root / "etc/xensource-inventory").read_text().split("INSTALLATION_UUID='")[1].split("'")[0]
    certificates.create_ca(folder / "ca")
    certificates.issue_collector(folder / "ca", "scratch", ("127.0.0.1",), folder / "tls")
    bundle = certificates.issue_host(folder / "ca", host, folder / "host")
    for path in (bundle.ca, bundle.cert, bundle.key):
        target = dom0.root / "etc/poolwarden/tls" / path.name
        shutil.copy(path, target)  # with its mode, as the documents say and no step more: the key is root's alone
    (folder / "state").mkdir(mode=0o700)
    pinned = load_or_make(folder / "state").public
    (dom0.root / "etc/poolwarden/tls/order-key").write_text(pinned.hex())
    conf = dom0.root / "etc/poolwarden/agent.conf"
    conf.write_text(
        conf.read_text().replace("#collector = collector.example.com:7443", f"collector = 127.0.0.1:{port}")
    )
    config = folder / "collector.toml"
    config.write_text(
        f'[collector]\nname = "scratch"\nlisten = "127.0.0.1:{port}"\noperator_socket = "c.sock"\nstate_dir = "state"\n'
        '[tls]\nca = "tls/ca.pem"\ncert = "tls/cert.pem"\nkey = "tls/key.pem"\n'
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "poolwarden_collector.shell.main", "--config", str(config)]
    collector = subprocess.Popen(command, env=environment, stderr=(folder / "collector.log").open("w"))
    units = dom0.root / "usr/lib/systemd/system"
    confine = confinement(units / "poolwarden-agent.service", *sorted(units.glob("poolwarden-agent.service.d/*.conf")))

    def enter() -> None:
        os.chroot(dom0.root)
        os.chdir("/")
        confine()

    agent = subprocess.Popen(
        ["/opt/poolwarden/bin/poolwarden-agent"], stderr=(folder / "agent.log").open("w"), preexec_fn=enter
    )
    try:
        known = _heard(folder, environment, host)
        return {"host": known, "processes": _processes(agent.pid), "log": (folder / "agent.log").read_text()[-2000:]}
    finally:
        agent.terminate()
        agent.wait(15)
        collector.terminate()
        collector.wait(15)


def _heard(folder: Path, environment: dict[str, str], host: str) -> Any:
    """The host as the collector shows it once its agent is heard; the last answer where that does not come."""
    cli = [sys.executable, "-m", "poolwarden_collector.cli.main", "--collector", f"unix:{folder}/c.sock", "--json"]
    deadline, said = time.monotonic() + COLLECTOR_LIMIT_S, ""
    while time.monotonic() < deadline:
        done = subprocess.run(
            [*cli, "host", "show", host], env=environment, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        if done.returncode == 0:
            return json.loads(done.stdout)
        time.sleep(0.2)
    return said


def _processes(pid: int) -> list[dict[str, Any]]:
    """The agent's two processes: user, privileges and whether gRPC's library is mapped."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for each in [str(pid), *children]:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{each}/status").read_text().splitlines() if ":\t" in line
        )
        maps = Path(f"/proc/{each}/maps").read_text()
        user = {"uid": int(status["Uid"].split()[0]), "groups": status.get("Groups", "").split()}
        user |= {"capabilities": int(status["CapEff"], 16), "seccomp": int(status["Seccomp"])}
        user |= {"core": [int(word) for word in _limits(each)["Max core file size"].split()[:2]]}
        found.append(
            {
                **user,
                "grpc": "cygrpc" in maps,
                "psutil": "/vendor/psutil/" in maps,
                "libsodium": "/vendor/nacl/" in maps,
                "python": Path(f"/proc/{each}/exe").readlink().name,
            }
        )
    return found


def _limits(pid: str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:26].strip(): line[26:] for line in lines}


def upgrade(dom0: Dom0, second: Path, found: dict[str, Any]) -> None:
    before = dom0.slots()
    # As after a version that had no policy.conf, on a host that runs fence agents for others.
    policy, conf = dom0.root / "etc/poolwarden/policy.conf", dom0.root / "etc/poolwarden/agent.conf"
    found["policy"] = [policy.read_text(), policy.stat().st_mode & 0o777]
    policy.unlink()
    conf.write_text(conf.read_text() + "fence_agents = /usr/sbin/fence_ipmilan\n")
    found["upgrade"] = dom0.rpm("-U", f"/tmp/{second.name}")
    found["asked_at_upgrade"], found["same_slots"] = dom0.systemctl(), dom0.slots() == before
    found["conf_kept"] = "collector = 127.0.0.1:7443" in (dom0.root / "etc/poolwarden/agent.conf").read_text()
    found["policy_after"] = policy.read_text()


def main() -> None:
    folder, stand_in, first, *later = (Path(word) for word in sys.argv[1:])
    dom0 = Dom0(folder / "root")
    for package in (stand_in, first, *later):
        (dom0.root / "tmp" / package.name).write_bytes(package.read_bytes())
    found: dict[str, Any] = {"without": dom0.rpm("-i", "--test", f"/tmp/{first.name}")}
    found["stand_in"] = dom0.rpm("-i", f"/tmp/{stand_in.name}")
    found["install"] = dom0.rpm("-i", f"/tmp/{first.name}")
    found["verify"] = dom0.rpm("-V", "poolwarden-agent")
    found["asked_at_install"], found["slots"] = dom0.systemctl(), dom0.slots()
    found["user"] = dom0.run("getent", "passwd", "poolwarden")
    found["trial"] = dom0.run("poolwarden-agent", "verify", "--report", "/tmp/report")
    report = dom0.root / "tmp/report"
    found["report"] = report.read_text() if report.exists() else ""
    found["unconfigured"] = dom0.run("/usr/sbin/poolwarden-agent")
    found["streaming"] = streaming(dom0, folder)
    dom0.systemctl()  # the agent has looked at xapi.service
    for second in later:
        upgrade(dom0, second, found)
    latch = dom0.root / "var/lib/poolwarden/latch"
    free = latch.read_bytes()
    latch.write_bytes(b"hold".ljust(len(free) - 1) + b"\n")
    found["erase_held"] = dom0.rpm("-e", "poolwarden-agent")
    found["asked_at_erase_held"] = dom0.systemctl()
    latch.write_bytes(free)
    found["erase"] = dom0.rpm("-e", "poolwarden-agent")
    found["asked_at_erase"] = dom0.systemctl()
    found["left"] = sorted(
        str(path.relative_to(dom0.root))
        for place in ("opt", "etc/poolwarden", "var/lib/poolwarden", "usr/lib/systemd/system", "usr/sbin")
        for path in (dom0.root / place).rglob("*poolwarden*" if place.startswith("usr") else "*")
        if not path.is_dir()
    )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
