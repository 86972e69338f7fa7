"""Writes the lock files: exact versions with the hashes of the public files that they install from.

Rules for all of them:
 * Local pip configuration is switched off, so the hashes are those of the public files. Nothing about this machine or
   an index gets into a lock.
 * A lock is installed with --require-hashes; a package that is not in it is not installed.

`collector.lock` (collector, lab, tools) is resolved by pip-compile from pyproject.toml, with every extra of `dev` and
with what the editable installation is built by.

`collector-runtime.lock` is the part of it that a collector runs on: what its installation installs.

`redfish-emulator.lock` is sushy-tools' Redfish emulator for tests and the lab, in an environment of its own.

`clients.lock` is a XenAPI client that wants Python 3.12, for tests of the lab's xapi, in an environment of its own.

The agent's locks, one for each Python of a dom0:
 * dom0 of XCP-ng 8.3 and XenServer 8 has CPython 3.6 on glibc 2.17, x86_64. pip's resolver is no help there: current
   tools do not run on 3.6 and 3.6's own pip is offered packages that are too new. So every version is named here by
   hand, nothing is resolved, and the lock is installed with `--no-deps --only-binary=:all: --require-hashes`.
 * Only wheels, and only the wheel that a Python 3.6 on Linux x86_64 takes: one hash for each package.

Theory of the versions: grpcio 1.48.2 and protobuf 3.19.6 are the last with wheels for CPython 3.6; psutil 7.2.2 has one
wheel for CPython 3.6 and all later ones (cp36-abi3), built for glibc 2.12; PyNaCl 1.5.0 is the last with a wheel for
CPython 3.6 (cp36-abi3, with its own libsodium), and cffi 1.15.1 the last that it runs on there; pip 21.3.1 is the last
for 3.6 and is needed at all because the bundled 18.1 does not know manylinux2014.

XenServer 9 has CPython 3.11 and XCP-ng 9 CPython 3.12. Their locks have the collector's versions, so that the agent's
tests in .venv run on what is packed for them, and the wheels for glibc 2.17 as well, because nobody has said which one
XenServer 9 has. grpcio needs no six since 1.53, and typing-extensions since 1.76.

Run by `make locks` with a Python that has a current pip and pip-tools; it downloads some 40 MB.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RUNTIME = (
    "cffi==1.15.1",
    "grpcio==1.48.2",
    "protobuf==3.19.6",
    "psutil==7.2.2",
    "PyNaCl==1.5.0",
    "six==1.17.0",
    "XenAPI==26.21.1",
)
TEST = (
    "attrs==22.2.0",
    "importlib-metadata==4.8.3",
    "iniconfig==1.1.1",
    "packaging==21.3",
    "pluggy==1.0.0",
    "py==1.11.0",
    "pyparsing==3.0.9",
    "pytest==7.0.1",
    "tomli==1.2.3",
    "typing-extensions==4.1.1",
    "zipp==3.6.0",
)
BOOTSTRAP = ("pip==21.3.1",)
LOCKS = {
    "agent-cp36.lock": RUNTIME,
    "agent-cp36-test.lock": TEST,
    "agent-cp36-bootstrap.lock": BOOTSTRAP,
}
# Versions are those of collector.lock.
NEWER = {"agent-cp311.lock": "3.11", "agent-cp312.lock": "3.12"}
NEWER_RUNTIME = ("cffi", "grpcio", "protobuf", "psutil", "PyNaCl", "typing-extensions", "XenAPI")
REDFISH_EMULATOR = ("sushy-tools==2.2.0", "bcrypt")  # bcrypt: its password file
CLIENT = "async-xenapi==1.0.5"
CLIENTS_NEED = ("aiohttp",)
PLATFORMS = (
    "manylinux2014_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2010_x86_64",
    "manylinux_2_12_x86_64",
    "manylinux1_x86_64",
)
DOM0 = "3.6.8"


def public_environment() -> dict[str, str]:
    """This process's environment without pip settings that could bring in files other than the public ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name == "PIP_CERT"}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def download(requirement: str, folder: Path, python: str = DOM0) -> Path:
    """Fetch the wheel of `NAME==VERSION` that this Python on Linux x86_64 takes into an empty folder.

    Raises subprocess.CalledProcessError where there is none, or no network.
    """
    tag = "cp" + "".join(python.split(".")[:2])
    abis = (f"{tag}m" if tag == "cp36" else tag, "abi3", "none")
    target = [f"--platform={platform}" for platform in PLATFORMS] + [f"--abi={abi}" for abi in abis]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += [f"--python-version={python}", "--implementation=cp", *target, f"--dest={folder}", requirement]
    subprocess.run(command, env=public_environment(), check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def lock_line(requirement: str, python: str = DOM0) -> str:
    """One entry of a lock: the pinned requirement with the sha256 of its wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(requirement, Path(folder), python)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{requirement} \\\n    --hash=sha256:{digest}\n"


def lock_collector(lock: Path, root: Path) -> None:
    """Resolve pyproject.toml; versions of the present lock are kept where they fit (to renew them, delete it first)."""
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    command += ["--strip-extras", "--no-header", "--no-annotate", "--extra=dev", "--build-deps-for=editable"]
    subprocess.run(
        [*command, f"--output-file={lock}", "pyproject.toml"], cwd=root, env=public_environment(), check=True
    )
    print(f"packaging/{lock.name}: {lock.read_text().count('==')} packages")


def lock_collector_runtime(lock: Path, whole: Path, root: Path) -> None:
    """What pyproject.toml asks for without extras, in the very versions of the whole lock."""
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    command += ["--strip-extras", "--no-header", "--no-annotate", f"--constraint={whole}"]
    subprocess.run(
        [*command, f"--output-file={lock}", "pyproject.toml"], cwd=root, env=public_environment(), check=True
    )
    print(f"packaging/{lock.name}: {lock.read_text().count('==')} packages")


def lock_by_itself(lock: Path, requirements: tuple[str, ...]) -> None:
    """Resolve these alone; versions of the present lock are kept where they fit."""
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    command += ["--strip-extras", "--no-header", "--no-annotate", f"--output-file={lock}", "-"]
    wanted = "\n".join(requirements).encode()
    subprocess.run(command, env=public_environment(), input=wanted, check=True)
    print(f"packaging/{lock.name}: {lock.read_text().count('==')} packages")


def lock_agent(lock: Path, requirements: Sequence[str], python: str = DOM0) -> None:
    """Each of these requirements with the one wheel that this Python takes, by name."""
    ordered = sorted(requirements, key=_canonical)
    lock.write_text("".join(lock_line(requirement, python) for requirement in ordered))
    print(f"packaging/{lock.name}: {len(ordered)} packages")


def pinned(names: Sequence[str], lock: Path) -> list[str]:
    """These names as `NAME==VERSION` with the versions of a lock. Raises KeyError for one that it does not have."""
    found = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)", lock.read_text(), re.MULTILINE))
    return [f"{name}=={found[_canonical(name)]}" for name in names]


def _canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name.lower())


def lock_clients(lock: Path) -> None:
    """async-xenapi is for a newer Python than the one that resolves: its own line is made apart from what it needs."""
    lock_by_itself(lock, CLIENTS_NEED)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--no-cache-dir", "--python-version=3.12", f"--dest={folder}", CLIENT]
        subprocess.run(command, env=public_environment(), check=True)
        (wheel,) = Path(folder).glob("*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(lock.read_text() + f"{CLIENT} \\\n    --hash=sha256:{digest}\n")


def main() -> None:
    """Rewrite the lock files beside this script."""
    here = Path(__file__).resolve().parent
    lock_collector(here / "collector.lock", here.parent)
    lock_collector_runtime(here / "collector-runtime.lock", here / "collector.lock", here.parent)
    lock_by_itself(here / "redfish-emulator.lock", REDFISH_EMULATOR)
    lock_clients(here / "clients.lock")
    for name, requirements in LOCKS.items():
        lock_agent(here / name, requirements)
    for name, python in NEWER.items():
        lock_agent(here / name, pinned(NEWER_RUNTIME, here / "collector.lock"), python)


if __name__ == "__main__":
    main()
