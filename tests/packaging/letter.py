"""docs/installing.md, followed to the letter (test_by_the_letter.py runs this inside scratch roots).

Run as `unshare -mn --propagation private python letter.py FOLDER ARCHIVE PYTHON36 STAND_IN PACKAGE`. The collector's
machine is this one with directories of its own in place of what an installation writes to; `sudo` and `systemctl` are
programs that do what they do there. Where the document has a command it is taken from the document; what an editor does
in it is done here. Prints one JSON object of what was found.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.packaging.life import Dom0

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/installing.md").read_text()
SUDO = """#!/bin/sh
[ "$1" = -u ] || exec "$@"
user=$2; shift 2; exec runuser -u "$user" -- "$@"
"""
# What the unit says: its directories, its user, its command. Restarted by nobody: a collector that dies is seen.
SYSTEMCTL = """#!/bin/sh
[ "$1 $2" != "--quiet is-active" ] || exit 3
[ "$1 $2" = "enable --now" ] || exit 0
install -d -o poolwarden -g poolwarden -m 0755 /run/poolwarden
install -d -o poolwarden -g poolwarden /var/log/poolwarden
setsid runuser -u poolwarden -- $(sed -n s/^ExecStart=//p /usr/local/lib/systemd/system/poolwarden-collector.service) \\
  >/var/log/collector 2>&1 </dev/null &
echo $! >/var/log/collector.pid
"""
WRITTEN = ("/etc", "/opt", "/var/lib", "/var/log", "/run", "/usr/local", "/root", "/home", "/srv")
ADDRESS = "192.0.2.5"
PATIENCE_S = 40.0


def commands(heading: str) -> list[str]:
    """The lines of the document's code blocks below this heading, comments cut."""
    part = re.split(rf"^#+ {re.escape(heading)}$", DOCUMENT, maxsplit=1, flags=re.MULTILINE)[1]
    part = re.split(r"^#+ ", part, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line.strip().partition("  #")[0].strip() for line in part.splitlines() if line.startswith("    ")]
    return [line for line in lines if line and not line.startswith("#")]


def sh(command: str, where: Path = Path("/srv")) -> dict[str, Any]:
    path = "/srv/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment = {**kept, "PATH": path, "HOME": "/root", "USER": "root"}
    done = subprocess.run(
        ["sh", "-c", command], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    return {"command": command, "status": done.returncode, "said": done.stdout + done.stderr}


def own_directories(folder: Path) -> None:
    """This mount namespace's own copy of everything that an installation writes to."""
    layers = folder / "layers"
    layers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layers], check=True)
    for number, place in enumerate(WRITTEN):
        upper, work = layers / f"u{number}", layers / f"w{number}"
        upper.mkdir()
        work.mkdir()
        upper.chmod(Path(place).stat().st_mode & 0o7777)
        words = f"lowerdir={place},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", words, place], check=True)
    # Some machines have the only new enough Python below root's home: here others may go through it.
    Path("/root").chmod(0o711)
    for words in (("link", "set", "lo", "up"), ("address", "add", f"{ADDRESS}/32", "dev", "lo")):
        subprocess.run(["ip", *words], check=True)
    for name, program in (("sudo", SUDO), ("systemctl", SYSTEMCTL)):
        path = Path("/srv/bin", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)


def collector(archive: Path) -> list[dict[str, Any]]:
    """Install and configure it by the document's commands; each with what came of it."""
    shutil.copy(archive, "/srv")
    done = [sh(command) for command in commands("The collector")]
    named = sorted(set(re.findall(r"docs/[a-z]+\.md", "".join(step["said"] for step in done))))
    unpacked = Path("/srv", archive.name.removesuffix(".tar.gz"))
    there = {name: (unpacked / name).exists() for name in named}
    done.append({"command": "named documents", "status": 0, "said": "", "named": there})
    done += [sh(command) for command in commands("Certificates")]
    return done + [sh(command) for command in commands("Configuration and start")[:-1]]


def agent(root: Path, package: Path, stand_in: Path) -> list[dict[str, Any]]:
    """One host by the document: certificate, package, configuration, start."""
    dom0 = Dom0(root)
    uuid = (root / "etc/xensource-inventory").read_text().split("INSTALLATION_UUID='")[1].split("'")[0]
    blocks = commands("The agents")
    issue = sh(blocks[0].replace("UUID", uuid))
    for each in (stand_in, package):
        shutil.copy(each, root / "tmp")
    done = [issue, {"command": "", **dom0.rpm("-i", f"/tmp/{stand_in.name}")}]
    done.append({"command": blocks[1], **dom0.rpm("-i", f"/tmp/{package.name}")})
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (root / "etc/poolwarden/tls" / name).write_bytes(Path("/etc/poolwarden/ca", uuid, name).read_bytes())
        (root / "etc/poolwarden/tls" / name).chmod(Path("/etc/poolwarden/ca", uuid, name).stat().st_mode)
    conf = root / "etc/poolwarden/agent.conf"
    conf.write_text(conf.read_text().replace("#collector = collector.example.com:7443", f"collector = {ADDRESS}:7443"))
    return done


def main() -> None:
    folder, archive, python36, stand_in, package = (Path(word) for word in sys.argv[1:6])
    own_directories(folder)
    found: dict[str, Any] = {"collector": collector(archive)}
    scratch = folder / "dom0"
    scratch.mkdir()
    here = Path(__file__).resolve().parent
    rest = [sys.executable, __file__, "--host", scratch / "root", stand_in, package]
    words = ["unshare", "-m", "--propagation", "private", sys.executable, here / "scratch.py", scratch, python36, *rest]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found["host"] = json.loads(done.stdout) if done.returncode == 0 else [{"status": 1, "said": done.stderr[-2000:]}]
    found["log"] = Path("/var/log/collector").read_text()[-2000:] if Path("/var/log/collector").exists() else ""
    pid = Path("/var/log/collector.pid")
    if pid.exists():
        os.killpg(int(pid.read_text()), 15)
    json.dump(found, sys.stdout)


def host(root: Path, stand_in: Path, package: Path) -> None:
    """Inside the scratch dom0's mounts: the agent, started as its unit does, until `poolwarden status` shows it."""
    done = agent(root, package, stand_in)
    log = root / "tmp/agent.log"
    process = subprocess.Popen(["chroot", root, "/opt/poolwarden/bin/poolwarden-agent"], stderr=log.open("w"))
    try:
        deadline, said = time.monotonic() + PATIENCE_S, sh("poolwarden --json hosts")
        while '"agent_connected": true' not in said["said"] and time.monotonic() < deadline:
            time.sleep(0.2)
            said = sh("poolwarden --json hosts")
        done += [said, sh("poolwarden status")]
        key = root / "etc/poolwarden/tls/key.pem"
        done.append({"command": "key", "status": 0, "said": f"{key.stat().st_mode & 0o777:o} {key.stat().st_uid}"})
        done.append({"command": "agent", "status": 0, "said": log.read_text()[-1500:]})
    finally:
        process.terminate()
        process.wait(15)
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "--host":
        host(*(Path(word) for word in sys.argv[2:5]))
    else:
        main()
