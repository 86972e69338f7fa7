"""What each package is made of is written with it: every locked part, by name and version as an audit asks for them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packaging.conftest import ROOT

sys.path.append(str(ROOT / "packaging"))
from sbom import document

LOCKS = {"poolwarden-agent": "agent-cp36.lock", "poolwarden-collector": "collector-runtime.lock"}


def held(text: str, name: str) -> dict[str, Any]:
    """A bill that a reader of CycloneDX 1.5 takes, as an object."""
    bill: dict[str, Any] = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", bill["serialNumber"]
    )
    lock = (ROOT / "packaging" / LOCKS[name]).read_text()
    pinned = {(found[0].lower(), found[1]) for found in re.findall(r"^([\w.-]+)==([^\s\\]+)", lock, re.M)}
    assert {(part["name"], part["version"]) for part in bill["components"]} == {
        (re.sub("[-_.]+", "-", found), version) for found, version in pinned
    }
    digests = re.findall(r'"content": "([0-9a-f]{64})"', text)
    assert sorted(digests) == sorted(re.findall("sha256:([0-9a-f]{64})", lock))
    references = {part["bom-ref"] for part in bill["components"]}
    assert set(bill["dependencies"][0]["dependsOn"]) == references and len(references) == len(bill["components"])
    assert bill["metadata"]["component"]["name"] == name
    return bill


@pytest.mark.parametrize("name", LOCKS)
def test_a_bill_names_every_locked_part_with_its_hashes(name: str) -> None:
    lock = ROOT / "packaging" / LOCKS[name]
    text = document(name, "1.2.3", lock, 1_700_000_000)
    bill = held(text, name)
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert document(name, "1.2.3", lock, 1_700_000_000) == text
    assert json.loads(document(name, "1.2.4", lock, 1_700_000_000))["serialNumber"] != bill["serialNumber"]


def test_every_lock_is_one_that_an_audit_takes() -> None:
    """Exact versions, each with a hash, nothing else: what pip-audit --require-hashes --disable-pip reads."""
    for lock in (ROOT / "packaging").glob("*.lock"):
        for block in re.split(r"\n(?=[A-Za-z0-9])", lock.read_text().strip()):
            lines = [
                line.rstrip(" \\") for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")
            ]
            assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s]+( *;.*)?", lines[0]), (lock.name, lines[0])
            assert len(lines) > 1 and all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", line) for line in lines[1:]), (
                lock
            )


@pytest.mark.needs("rpmbuild")
def test_it_is_in_the_agents_package_and_beside_it(package: Path, tmp_path: Path) -> None:
    beside = package.with_name(f"{package.name}.cdx.json").read_text()
    held(beside, "poolwarden-agent")
    unpacked = subprocess.run(["rpm2cpio", package], stdout=subprocess.PIPE, check=True).stdout
    inside = "./opt/poolwarden/licenses/sbom.cdx.json"
    subprocess.run(["cpio", "-id", "--quiet", inside], cwd=tmp_path, input=unpacked, check=True)
    assert (tmp_path / inside).read_text() == beside
