"""A scratch dom0: the host's /usr with a stub `systemctl` and its Python as /usr/bin/python3, everything else its own.

Run as `unshare -mn --propagation private python scratch.py FOLDER PYTHON COMMAND...`. FOLDER/root is mounted in this
mount namespace alone, so whatever becomes of the test, nothing of it stays. COMMAND runs outside of the root, in a
network namespace that has only a loopback, and enters the root by chroot.
"""

import os
import subprocess
import sys
from pathlib import Path

from poolwarden_lab.xapi.trees import HostTree, make_pool_disks, write_tree

SYSTEMCTL = '#!/bin/sh\necho "$*" >> /var/log/systemctl\n'
DIRECTORIES = ("var/lib/rpm", "var/log", "proc", "dev", "tmp", "usr", "root", "sys/class/dmi/id")


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def make(folder: Path, python: Path, tree: HostTree | None = None, programs: dict[str, str] | None = None) -> None:
    """Lay out and mount FOLDER/root; it is this host of a pool, as it is right before its first start.

    ``python``: named by its version (.../bin/python3.6). ``programs``: scripts of its /usr/bin, by name.
    """
    root, layers = folder / "root", folder / "layers"
    write_tree(tree or make_pool_disks(1, "scratch")[0], root)
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if (own := Path("/", name)).is_symlink():
            (root / name).symlink_to(own.readlink())
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "var/lib/poolwarden").rmdir()
    layers.mkdir()
    mount("-t", "tmpfs", "tmpfs", layers)
    (layers / "upper/bin").mkdir(parents=True)
    (layers / "work").mkdir()
    for name, text in (programs or {"systemctl": SYSTEMCTL}).items():
        (layers / "upper/bin" / name).write_text(text)
        (layers / "upper/bin" / name).chmod(0o755)
    for name in {"python3", python.name} - ({python.name} if python.parent == Path("/usr/bin") else set()):
        (layers / "upper/bin" / name).symlink_to(python)
    mount(
        "-t", "overlay", "overlay", "-o", f"lowerdir=/usr,upperdir={layers}/upper,workdir={layers}/work", root / "usr"
    )
    if python.parent != Path("/usr/bin"):
        home = root / str(python.parents[1]).lstrip("/")
        home.mkdir(parents=True, exist_ok=True)
        mount("--bind", python.parents[1], home)
    mount("-t", "proc", "proc", root / "proc")
    mount("--bind", "/dev", root / "dev")


def main() -> None:
    make(Path(sys.argv[1]), Path(sys.argv[2]))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.execvp(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
