"""What a package is made of, as CycloneDX 1.5 (ECMA-424) JSON, from the lock that it was built from.

`document` is called by both builds. The same commit gives the same bytes: the time is the commit's, the serial number
is made of the contents. A component of the agent is the one wheel that is packed, with its hash. A component of the
collector is what its `install` program fetches: every file that the lock accepts.
"""

import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.UUID("6d6f3b0e-3c53-4b44-9f0e-0d2a5f3f7c11")


def components(lock: Path) -> list[dict[str, Any]]:
    """One for each line of a lock, by name."""
    found = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock.read_text()):
        if pinned := _PINNED.match(block):
            hashes = [{"alg": "SHA-256", "content": digest} for digest in _HASH.findall(block)]
            found.append(_library(pinned[1], pinned[2], hashes))
    return sorted(found, key=lambda item: str(item["name"]))


def _library(name: str, version: str, hashes: list[dict[str, str]]) -> dict[str, Any]:
    canonical = re.sub(r"[-_.]+", "-", name).lower()  # packaging.python.org, "Names and normalization"
    purl = f"pkg:pypi/{canonical}@{version}"
    made = {"type": "library", "bom-ref": purl, "name": canonical, "version": version, "purl": purl}
    if len(hashes) == 1:
        return {**made, "hashes": hashes}
    page = f"https://pypi.org/project/{canonical}/{version}/"
    return {**made, "externalReferences": [{"type": "distribution", "url": page, "hashes": hashes}]}


def document(name: str, version: str, lock: Path, epoch: int) -> str:
    """The bill of materials of one package; ``epoch``: s, the commit's time."""
    parts = components(lock)
    own = {
        "type": "application",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "component": own},
        "components": parts,
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body, sort_keys=True))
    return json.dumps({**body, "serialNumber": f"urn:uuid:{serial}"}, indent=1, sort_keys=True) + "\n"
