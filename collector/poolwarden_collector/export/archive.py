"""An archive of what was gathered: files in a folder first, redacted where that is asked for, then one .tar.gz.

Rules
-----
* Every file is in ``manifest.json`` with its size and SHA-256; the manifest says what was asked for, who made it, from
  which collector, by which versions, and for each decision whether it is made again to the last word.
* Redaction goes over every file and every file's name, after all of them have been read (redaction.py).
* Owner, times and modes in the archive are none of this machine's: the same content gives the same archive.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.as_json import as_object
from poolwarden_collector.cli.errors import CommandError
from poolwarden_collector.core.report.timeline import timeline
from poolwarden_collector.core.state.decision_input import BadInput as Unreadable
from poolwarden_collector.core.state.decision_input import opened, sealed
from poolwarden_collector.export import pages
from poolwarden_collector.export.capsule_contents import members
from poolwarden_collector.export.gathering import Gathered, made_again
from poolwarden_collector.export.redaction import Redaction, learn_all, loads

FORMAT = 1
MANIFEST = "manifest.json"
FACTS = "facts.txt"  # of a capsule: its host's own report
Contents = Callable[[api.KeptCapsule], bytes]


def write_files(folder: Path, gathered: Gathered, contents: Contents, versions: dict[str, str], redact: bool) -> str:
    """Write every file of the archive below ``folder``, the manifest last; the archive's title."""
    capsules = _capsules(gathered, contents)
    redaction = _learned(gathered, capsules) if redact else None
    text = redaction.text if redaction is not None else str
    log = redaction.log if redaction is not None else str
    record = redaction.record if redaction is not None else _as_it_is
    title = text(gathered.asked.title)
    entries = [_entry(entry, text, record) for entry in gathered.entries]
    told = timeline(entries if gathered.asked.pool else [_with_pool(entry) for entry in entries])
    looks = [_look(look, text) for look in gathered.looks]
    failovers = {entry.seq: entry.failover for entry in entries}
    decisions = [
        {"failover": failovers.get(each.seq, ""), **_stored(each.seq, each.stored, redaction)}
        for each in gathered.decisions
    ]
    _lines(folder / "timeline.txt", [title, "", *pages.timeline_text(told)])
    _lines(folder / "timeline.html", pages.timeline_html(title, told, looks))
    _lines(folder / "evidence.txt", pages.evidence_text(looks))
    _json(folder / "evidence.json", [_matrix(look) for look in looks])
    _json(folder / "entries.json", [as_object(entry) for entry in entries])
    _json(folder / "alerts.json", record([as_object(alert) for alert in gathered.alerts]))
    for decision in decisions:
        _json(folder / "decisions" / f"{decision['seq']}.json", decision)
    for host, late in gathered.late.items():
        _json(folder / "late" / f"{text(host)}.json", record(late))
    for path, content in _files(capsules):
        _lines(folder / text(path), (log(line) for line in content.split("\n")))
    _json(folder / "capsules" / "index.json", record([as_object(kept) for kept in gathered.capsules]))
    _lines(folder / "README.txt", pages.readme(title, redact, [text(remark) for remark in gathered.remarks]))
    _json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "asked": record(_as_dict(gathered.asked)),
            "redacted": redact,
            "versions": versions,
            "decisions": {str(each["seq"]): _replays(each) for each in decisions},
            "files": _digests(folder),
        },
    )
    return title


def _as_it_is(value: Any) -> Any:
    return value


def _as_dict(asked: Any) -> dict[str, str]:
    return {name: getattr(asked, name) for name in ("failover", "pool", "since", "until")}


def _learned(gathered: Gathered, capsules: dict[str, bytes]) -> Redaction:
    redaction = Redaction()
    learn_all(redaction, [as_object(gathered.status), _as_dict(gathered.asked)])
    for entry in gathered.entries:
        learn_all(redaction, [as_object(entry)])
    for decision in gathered.decisions:
        learn_all(redaction, [decision.stored["step"], decision.stored["text"]])
        with contextlib.suppress(Unreadable):  # then it is left out (_stored)
            learn_all(redaction, [opened(decision.stored["input"])])
    learn_all(redaction, [as_object(alert) for alert in gathered.alerts])
    learn_all(redaction, [as_object(kept) for kept in gathered.capsules])
    learn_all(redaction, gathered.late.values())
    learn_all(redaction, gathered.remarks)
    for path, content in _files(capsules):
        redaction.learn(path)
        if path.endswith(f"/{FACTS}"):
            redaction.learn_facts(content)
        for line in content.split("\n"):
            redaction.learn(line)
    redaction.settle()
    return redaction


def _capsules(gathered: Gathered, contents: Contents) -> dict[str, bytes]:
    """Where each is put, and its bytes."""
    found: dict[str, bytes] = {}
    for kept in gathered.capsules:
        try:
            data = contents(kept)
        except CommandError as error:
            gathered.remarks.append(f"capsule {kept.id} of host {kept.host_uuid} is not here: {error}")
            continue
        if hashlib.sha256(data).hexdigest() != kept.sha256:
            gathered.remarks.append(f"capsule {kept.id} of host {kept.host_uuid} is damaged: its digest does not fit")
        found[f"capsules/{kept.host_uuid}/{kept.id}"] = data
    return found


def _files(capsules: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """The files in them; unpacked each time anew, for together they may be big."""
    for place, data in capsules.items():
        for name, text in members(data):
            yield f"{place}/{name}", text


def _entry(entry: api.HistoryEntry, text: Callable[[str], str], record: Callable[[Any], Any]) -> api.HistoryEntry:
    shown = api.HistoryEntry()
    shown.CopyFrom(entry)
    data = loads(entry.data)
    shown.data = json.dumps(record(data), ensure_ascii=False) if data is not None else text(entry.data)
    for name in ("pool_uuid", "pool_name", "failover", "actor", "text", "collector"):
        setattr(shown, name, text(getattr(entry, name)))
    return shown


def _with_pool(entry: api.HistoryEntry) -> api.HistoryEntry:
    """Of several pools each line says which."""
    named = api.HistoryEntry()
    named.CopyFrom(entry)
    named.text = f"{entry.pool_name or entry.pool_uuid}: {entry.text}" if entry.pool_uuid else entry.text
    return named


def _look(look: pages.Look, text: Callable[[str], str]) -> pages.Look:
    facts = tuple(
        pages.Fact(text(f.subject), text(f.value), f.age_ms, text(f.witness), text(f.text)) for f in look.facts
    )
    return pages.Look(look.seq, look.at, text(look.title), facts)


def _matrix(look: pages.Look) -> dict[str, Any]:
    matrix: dict[str, dict[str, Any]] = {}
    for fact in look.facts:
        told = {"value": fact.value, "age_ms": fact.age_ms, "text": fact.text}
        matrix.setdefault(fact.subject, {}).setdefault(fact.witness, []).append(told)
    return {"seq": look.seq, "at": look.at, "title": look.title, "matrix": matrix}


def _stored(seq: int, stored: dict[str, Any], redaction: Redaction | None) -> dict[str, Any]:
    if redaction is None:
        return {"seq": seq, **stored}
    try:
        given = sealed(redaction.record(opened(stored["input"])))
    except Unreadable:
        given = ""  # nobody can say what is in it
    step = [redaction.text(line) for line in stored["step"]]
    return {"seq": seq, **stored, "input": given, "step": step, "text": redaction.text(stored["text"])}


def _replays(decision: dict[str, Any]) -> str:
    made = made_again(decision)
    return "cannot be read by this version" if made is None else "differs" if made.differs else "the same"


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")


def _digests(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append({"name": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": digest})
    return found


def pack(folder: Path, out: Path, top: str) -> None:
    """Everything below ``folder`` as one archive in which ``top`` is the folder of all. Raises OSError."""
    with (
        out.open("xb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        out.chmod(0o600)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            about = tarfile.TarInfo(f"{top}/{path.relative_to(folder)}")
            about.size, about.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(about, content)


def decision_in(archive: Path, wanted: str) -> dict[str, Any] | None:
    """A stored decision of an archive by its number, or a failover's last one; None: it has none.

    Raises OSError, tarfile.TarError, EOFError or ValueError for what is no archive of ours.
    """
    found: dict[str, Any] | None = None
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = member.name.split("/")
            if not member.isreg() or len(parts) != 3 or parts[1] != "decisions":
                continue
            file = tar.extractfile(member)
            stored = json.loads(file.read() if file is not None else b"")
            if wanted in (str(stored["seq"]), stored["failover"]) and (found is None or stored["seq"] > found["seq"]):
                found = stored
    return found
