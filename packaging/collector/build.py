"""Builds what a collector is installed from: `make collector`; prints the archive's path.

One tar.gz: the wheel, the lock of what it runs on, a bill of materials, unit, example configuration, the `install`
program, manual pages, what monitoring reads, and all of docs, whose pages link to each other. Nothing of it needs this
repository any more. The same commit gives the same bytes: times, owners and order are fixed.
"""

import argparse
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOCK = ROOT / "packaging/collector-runtime.lock"
sys.path.append(str(HERE.parent))
SOURCES = ("collector", "protos", "pyproject.toml", "README.md", "LICENSE")
LEFT_OUT = ("agent", "lab")  # the one has a package of its own, the other is for developers
MONITORING = ROOT / "packaging/monitoring"  # rules for Prometheus with their tests, a dashboard for Grafana
FOLDERS = {ROOT / "docs": "docs/", MONITORING: "monitoring/"}
OTHERS = (
    HERE / "install",
    HERE / "poolwarden-collector.service",
    HERE / "collector.toml",
    LOCK,
    ROOT / "LICENSE",
)


def commit_time() -> int:
    """The commit's time, s since the epoch; from SOURCE_DATE_EPOCH where it is given."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    found = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode:
        sys.exit("poolwarden: this is no git checkout; set SOURCE_DATE_EPOCH to the release's time")
    return int(found.stdout)


def wheel(out: Path, epoch: int) -> Path:
    """Build the wheel from a copy, so that no build leaves anything in the sources."""
    copy = out / "sources"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in LEFT_OUT:
        (copy / name).mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    for name in SOURCES:
        source = ROOT / name
        shutil.copytree(source, copy / name, ignore=unwanted) if source.is_dir() else shutil.copy(source, copy / name)
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    command += ["--no-build-isolation", f"--wheel-dir={out}", str(copy)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    if subprocess.run(command, env=environment, check=False).returncode:
        sys.exit("poolwarden: the wheel could not be built")
    shutil.rmtree(copy)
    (found,) = out.glob("*.whl")
    return found


def man_pages(out: Path, version: str, epoch: int) -> list[Path]:
    """One manual page for each command of both programs, from this tree's commands."""
    from man_pages import pages

    sys.path[:0] = [str(ROOT / "collector"), str(ROOT / "protos")]
    from poolwarden_collector.cli.main import poolwarden
    from poolwarden_collector.shell.main import main

    folder = out / "man"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = pages(poolwarden, version, epoch) | pages(main, version, epoch, "poolwarden-collector")
    for name, text in made.items():
        (folder / name).write_text(text)
    return sorted(folder.iterdir())


def bill(out: Path, version: str, epoch: int) -> Path:
    """What the collector is made of (CycloneDX)."""
    from sbom import document

    path = out / "sbom.cdx.json"
    path.write_text(document("poolwarden-collector", version, LOCK, epoch))
    return path


def pack(name: str, files: list[Path], out: Path, epoch: int) -> Path:
    """A tar.gz in which nothing tells where or when it was made."""
    target, plain = out / f"{name}.tar.gz", io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path in sorted(files, key=lambda each: each.name):
            folder = "man/" if path.suffix == ".1" else FOLDERS.get(path.parent, "")
            item = tarfile.TarInfo(f"{name}/{folder}{path.name}")
            item.size, item.mtime, item.mode = path.stat().st_size, epoch, 0o755 if path.name == "install" else 0o644
            with path.open("rb") as stream:
                archive.addfile(item, stream)
    target.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    return target


def main() -> None:
    """Build one archive."""
    parser = argparse.ArgumentParser(description="Builds the collector's archive.")
    parser.add_argument("--out", type=Path, default=ROOT / "build/collector", help="where (default: build/collector)")
    out: Path = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):
        old.unlink()
    docs = [path for form in ("*.md", "*.schema.json", "*.png", "*.svg") for path in (ROOT / "docs").glob(form)]
    version, epoch = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"], commit_time()
    files = [
        wheel(out, epoch),
        bill(out, version, epoch),
        *OTHERS,
        *docs,
        *MONITORING.iterdir(),
        *man_pages(out, version, epoch),
    ]
    print(pack(f"poolwarden-collector-{version}", files, out, epoch))


if __name__ == "__main__":
    main()
