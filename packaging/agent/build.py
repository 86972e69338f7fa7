"""Builds the agent's RPM: `make rpm` or `build.py [--abi 3.6] [--out DIR] [--sign KEYID]`; prints the package's path.

Rules
-----
* Everything is staged as it will lie on the host, and rpmbuild only packs it. The wheels are those of the ABI's lock
  (packaging/agent-cp36.lock), by hash, and are never committed.
* The same commit gives the same bytes: times are the commit's, byte code is compiled after them with a fixed hash seed,
  and the host's name is not in it. pyc files name their source's time, so times are set first.
* Byte code needs an interpreter of that very ABI here; without one there is no package, rather than a slower one.
* A package of 3.11 or 3.12 starts by that very name (/usr/bin/python3.11): `python3` may become another one there, and
  then neither the agent nor the boot gate would start. Its unit is confined further by a drop-in (newer/).
* `google` is a namespace package in protobuf's wheel. A regular `google` in a dom0 would win over it, so it becomes a
  regular one here.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(HERE.parent))
HOME = "opt/poolwarden"
OLDEST = "3.6"
DISTRIBUTIONS = {"3.6": "xs8", "3.11": "xs9", "3.12": "el10"}
PLATFORMS = (
    "manylinux2014_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2010_x86_64",
    "manylinux_2_12_x86_64",
    "manylinux1_x86_64",
)
UNWANTED = re.compile(
    r"(^|/)(tests?|__pycache__)/|\.(pth|pyi|proto|c|h)$|-nspkg|/RECORD$|/(WHEEL|top_level\.txt)$"
    r"|psutil/_ps(aix|bsd|osx|sunos|windows)\.py$"
)
LICENCES = re.compile(r"\.dist-info/(?:licenses/)?(LICENSE[^/]*|METADATA)$", re.IGNORECASE)
# What is put where, with its mode; everything else is 0644.
FILES = {
    "poolwarden-agent": (f"{HOME}/bin/poolwarden-agent", 0o755),
    "poolwarden-gate": (f"{HOME}/bin/poolwarden-gate", 0o755),
    "poolwarden-agent.service": ("usr/lib/systemd/system/poolwarden-agent.service", 0o644),
    "poolwarden-boot.service": ("usr/lib/systemd/system/poolwarden-boot.service", 0o644),
    "50-poolwarden-agent.preset": ("usr/lib/systemd/system-preset/50-poolwarden-agent.preset", 0o644),
    "xapi.service.d/50-poolwarden.conf": ("usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf", 0o644),
    "agent.conf": ("etc/poolwarden/agent.conf", 0o640),
    "policy.conf": ("etc/poolwarden/policy.conf", 0o600),
    "bugtool/poolwarden.xml": ("etc/xensource/bugtool/poolwarden.xml", 0o644),
    "bugtool/poolwarden/stuff.xml": ("etc/xensource/bugtool/poolwarden/stuff.xml", 0o644),
}
# In addition where systemd is newer than dom0's 219.
NEWER_FILES = {
    "newer/poolwarden-agent.service.d/50-newer.conf": (
        "usr/lib/systemd/system/poolwarden-agent.service.d/50-newer.conf",
        0o644,
    ),
}
# What somebody needs who sits in dom0 with no other screen; their links to other pages name the archive instead.
DOCUMENTS = ("deciding", "limits", "local-policy", "operating", "runbook", "verify-on-real-hosts", "xencenter-and-xo")
LINK = re.compile(r"\[([^\]]+)\]\(([a-z-]+)\.md(?:#[a-z-]*)?\)")
EMPTY = ("etc/poolwarden/tls", "var/lib/poolwarden", "var/lib/poolwarden/evidence")


def fail(text: str) -> NoReturn:
    print(f"poolwarden: {text}", file=sys.stderr)
    sys.exit(1)


def main() -> None:
    """Build one package."""
    parser = argparse.ArgumentParser(description="Builds the agent's RPM.")
    parser.add_argument("--abi", default=OLDEST, choices=list(DISTRIBUTIONS), help="dom0's Python (default: 3.6)")
    parser.add_argument("--out", type=Path, default=ROOT / "build/rpm", help="where it is put (default: build/rpm)")
    parser.add_argument("--release", default="1", help="the package's release (default: 1)")
    parser.add_argument(
        "--sign", default="", metavar="KEYID", help="sign it with this GPG key (packaging/agent/sign.py)"
    )
    given = parser.parse_args()
    if shutil.which("rpmbuild") is None:
        fail("rpmbuild is not here; install it (Debian: apt-get install rpm)")
    out: Path = given.out.resolve()
    stage = out / f"stage-{given.abi}"
    if stage.exists():
        shutil.rmtree(stage)
    python = interpreter(given.abi)
    put_own(stage, given.abi)
    put_wheels(stage, fetch(given.abi))
    bill = put_bill(stage, given.abi)
    settle(stage, python, given.abi)
    package = pack(stage, out, given.abi, given.release)
    package.with_name(f"{package.name}.cdx.json").write_text(bill)
    if given.sign:
        subprocess.run([sys.executable, HERE / "sign.py", given.sign, package], stdout=subprocess.DEVNULL, check=True)
    print(package)


def interpreter(abi: str) -> str:
    """A Python of exactly this version."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    finder = subprocess.run(
        [ROOT / "packaging/develop/find-python", abi], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if finder.returncode:
        fail(f"no Python {abi} is here to compile the agent for it; install one (pyenv install {abi})")
    return finder.stdout.strip()


def fetch(abi: str) -> list[Path]:
    """The wheels of the ABI's lock, checked by hash; kept below build/ and fetched once."""
    tag = "cp" + abi.replace(".", "")
    lock = ROOT / f"packaging/agent-{tag}.lock"
    if not lock.exists():
        fail(f"there is no {lock.relative_to(ROOT)}")
    wanted = lock.read_text().count("==")
    folder = ROOT / f"build/wheels-{tag}"
    if len(list(folder.glob("*.whl"))) != wanted or _older(folder, lock):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        target = [f"--platform={platform}" for platform in PLATFORMS] + [
            f"--abi={a}" for a in (_abi(tag), "abi3", "none")
        ]
        command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
        command += [
            "--only-binary=:all:",
            "--require-hashes",
            f"--python-version={abi}",
            "--implementation=cp",
            *target,
        ]
        done = subprocess.run([*command, f"--dest={folder}", "-r", str(lock)], check=False)
        if done.returncode:
            shutil.rmtree(folder)
            fail(f"the wheels of {lock.name} could not be fetched")
    return sorted(folder.glob("*.whl"))


def _older(folder: Path, lock: Path) -> bool:
    return min(path.stat().st_mtime for path in folder.glob("*.whl")) < lock.stat().st_mtime


def _abi(tag: str) -> str:
    return tag + "m" if tag == "cp36" else tag


def put_own(stage: Path, abi: str) -> None:
    """The agent, the contract's stubs, and the files of this directory."""
    for name, (where, mode) in (FILES if abi == OLDEST else {**FILES, **NEWER_FILES}).items():
        target = stage / where
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / name, target)
        target.chmod(mode)
    for package in (ROOT / "agent/poolwarden_agent", ROOT / "protos/poolwarden"):
        for source in sorted(package.rglob("*.py")):
            if source.name.startswith(("operator_pb2", "enrolment_pb2")):
                continue  # the agent never speaks to operators
            target = stage / HOME / "lib" / source.relative_to(package.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    if abi != OLDEST:
        starter = stage / FILES["poolwarden-agent"][0]
        starter.write_text(starter.read_text().replace("#!/usr/bin/python3 ", f"#!/usr/bin/python{abi} ", 1))
    licences = stage / HOME / "licenses"
    licences.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", licences / "poolwarden.LICENSE")
    put_documents(stage / HOME / "doc")
    for folder in EMPTY:
        (stage / folder).mkdir(parents=True)
    link = stage / "usr/sbin/poolwarden-agent"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"/{HOME}/bin/poolwarden-agent")


def put_documents(folder: Path) -> None:
    """The pages of ``DOCUMENTS``; a link to one that is not there becomes its name."""

    def link(found: re.Match[str]) -> str:
        if found[2] in DOCUMENTS:
            return found[0]
        name = f"{found[2]}.md"
        return f"{name} of the collector's archive" if found[1] == name else f"{found[1]} ({name} of the archive)"

    folder.mkdir(parents=True)
    for name in DOCUMENTS:
        (folder / f"{name}.md").write_text(LINK.sub(link, (ROOT / f"docs/{name}.md").read_text()))


def put_wheels(stage: Path, wheels: list[Path]) -> None:
    """Unpack what runs, and keep each licence."""
    vendor = stage / HOME / "vendor"
    for wheel in wheels:
        name = wheel.name.split("-")[0]
        with zipfile.ZipFile(wheel) as archive:
            for item in sorted(archive.namelist()):
                found = LICENCES.search(item)
                if found:
                    (stage / HOME / "licenses" / f"{name}.{found[1]}").write_bytes(archive.read(item))
                elif ".dist-info/" not in item and not item.endswith("/") and not UNWANTED.search(item):
                    target = vendor / item
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(item))
    (vendor / "google/__init__.py").write_text("")


def put_bill(stage: Path, abi: str) -> str:
    """What the package is made of (CycloneDX), inside of it; the same is put beside it."""
    from sbom import document

    text = document(
        "poolwarden-agent", version(), ROOT / f"packaging/agent-cp{abi.replace('.', '')}.lock", commit_time()
    )
    (stage / HOME / "licenses" / "sbom.cdx.json").write_text(text)
    return text


def version() -> str:
    """This tree's."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def settle(stage: Path, python: str, abi: str) -> None:
    """Modes, times, byte code: in this order."""
    epoch = commit_time()
    for path in stage.rglob("*"):
        if path.is_symlink():
            continue
        if path.is_dir():
            path.chmod(0o755)
        elif path.stat().st_mode & 0o777 not in (0o755, 0o640, 0o600):
            path.chmod(0o755 if path.suffix == ".so" else 0o644)
        os.utime(path, (epoch, epoch))
    # Without SOURCE_DATE_EPOCH every Python makes pycs that name their source's time, which rpm keeps; with it a newer
    # one makes pycs that name its hash, and would read and hash each source at each start.
    environment = {"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"]}
    for part in ("lib", "vendor"):
        command = [python, "-m", "compileall", "-q", "-f", "-d", f"/{HOME}/{part}", str(stage / HOME / part)]
        if subprocess.run(command, env=environment, check=False).returncode:
            fail(f"the agent's {part} does not compile with Python {abi}")
    for path in sorted(stage.rglob("*"), reverse=True):
        if not path.is_symlink():
            os.utime(path, (epoch, epoch))


def commit_time() -> int:
    """The commit's time, s since the epoch; from SOURCE_DATE_EPOCH where it is given (an archive has no commit)."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    found = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode:
        fail("this is no git checkout; set SOURCE_DATE_EPOCH to the release's time")
    return int(found.stdout)


def pack(stage: Path, out: Path, abi: str, release: str) -> Path:
    """Run rpmbuild; the package's path."""
    defines = {
        "_topdir": str(out / "top"),
        "_rpmdir": str(out),
        "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "agent_version": version(),
        "agent_release": release,
        "pyabi": abi,
        "pydist": DISTRIBUTIONS[abi],
        "stage": str(stage),
    }
    command = ["rpmbuild", "-bb", "--quiet", "--target=x86_64-linux"]
    for name, value in defines.items():
        command += ["--define", f"{name} {value}"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(commit_time()), "LC_ALL": "C", "TZ": "UTC"}
    log = out / "rpmbuild.log"
    out.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        done = subprocess.run(
            [*command, str(HERE / "poolwarden-agent.spec")], env=environment, stdout=said, stderr=said
        )
    if done.returncode:
        print(log.read_text(), file=sys.stderr)
        fail("rpmbuild failed")
    return out / f"poolwarden-agent-{version()}-{release}.{DISTRIBUTIONS[abi]}.x86_64.rpm"


if __name__ == "__main__":
    main()
