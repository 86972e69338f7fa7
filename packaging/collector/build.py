"""Builds what a collector is installed from: `make collector`; prints the archive's path.

One tar.gz: the wheel, the lock of what it runs on, unit, example configuration, the `install` program and the documents
that it names. Nothing of it needs this repository any more. The same commit gives the same bytes: times, owners and
order are fixed.
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
SOURCES = ("collector", "protos", "pyproject.toml", "README.md", "LICENSE")
LEFT_OUT = ("agent", "lab")  # the one has a package of its own, the other is for developers
OTHERS = (
    HERE / "install",
    HERE / "poolwarden-collector.service",
    HERE / "collector.toml",
    ROOT / "packaging/collector-runtime.lock",
    ROOT / "LICENSE",
)
DOCS = ("installing", "operating", "safety", "fencing")  # what `install` and these pages themselves name


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


def pack(name: str, files: list[Path], out: Path, epoch: int) -> Path:
    """A tar.gz in which nothing tells where or when it was made."""
    target, plain = out / f"{name}.tar.gz", io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path in sorted(files, key=lambda each: each.name):
            folder = "docs/" if path.parent == ROOT / "docs" else ""
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
    docs = [ROOT / f"docs/{name}.md" for name in DOCS]
    version, epoch = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"], commit_time()
    print(pack(f"poolwarden-collector-{version}", [wheel(out, epoch), *OTHERS, *docs], out, epoch))


if __name__ == "__main__":
    main()
