"""`poolwarden export`: one archive of all that is known, replayable, redacted over every file if that is asked for."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.core.pool import POOL, Guarded

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.main import run
from poolwarden_collector.cli.pages.journal import COPIED
from poolwarden_collector.core.state.decision_input import opened
from poolwarden_collector.export.archive import write_files
from poolwarden_collector.export.capsule_contents import BIGGEST, members
from poolwarden_collector.export.gathering import Asked, Decision, Gathered
from poolwarden_collector.export.redaction import Redaction, learn_all
from poolwarden_collector.shell.operators import replies
from poolwarden_collector.shell.store.journal import Journal

from .conftest import Said
from .fake_collector import HOSTS, FakeCollector, a_host, serve, socket_of
from .test_json import held_against

Call = Callable[..., Said]
HOSTILE = 'h<script>alert(1)</script>\u202e"&'
NAMES = ("gold-customer", "host-a.example.com", "payroll-vm", "anna.b", "SERIAL77")
ADDRESSES = ("192.0.2.77", "fd00:1234::77", "0c:c4:7a:11:22:33")
LOG = f"Nov 30 02:00:00 host-a xapi: (ntp.example.com) payroll-vm of GOLD-CUSTOMER on {' '.join(ADDRESSES)}"


def capsule(**texts: str) -> bytes:
    """A capsule as an agent writes one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in texts.items():
            data = gzip.compress(text.encode())
            about = tarfile.TarInfo(name.replace("_", ".") + ".gz")
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return file.getvalue()


class Records(FakeCollector):
    """What a real journal holds of a failover, and one capsule."""

    def __init__(self, journal: Journal, capsules: dict[tuple[str, str], bytes]) -> None:
        super().__init__()
        self.journal, self.bytes = journal, capsules
        self.kept = [self._kept(*key) for key in capsules]
        self.fails_capsules = False

    def _kept(self, host: str, name: str) -> api.KeptCapsule:
        data = self.bytes[host, name]
        digest = hashlib.sha256(data).hexdigest()
        return api.KeptCapsule(id=name, host_uuid=host, host_name="host-a", pool_uuid=POOL, sha256=digest,
                               size_bytes=len(data), at="2026-11-30T02:00:00.000Z", trigger="order")  # fmt: skip

    def History(self, request: api.HistoryRequest, context: grpc.ServicerContext) -> api.HistoryReply:  # noqa: N802
        rows = self.journal.history(request.pool, 0, 10_000, request.failover)
        return api.HistoryReply(entries=[replies.history_entry(row, NAMES[0]) for row in rows])

    def Decision(self, request: api.DecisionRequest, context: grpc.ServicerContext) -> api.DecisionReply:  # noqa: N802
        row = self.journal.decision(request.id)
        assert row is not None
        return replies.decision(row)

    def ListCapsules(  # noqa: N802
        self, request: api.ListCapsulesRequest, context: grpc.ServicerContext
    ) -> api.ListCapsulesReply:
        if self.fails_capsules:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "of an older version")
        return api.ListCapsulesReply(capsules=self.kept)

    def ReadCapsule(  # noqa: N802
        self, request: api.ReadCapsuleRequest, context: grpc.ServicerContext
    ) -> Iterator[api.CapsuleBytes]:
        data = self.bytes[request.host_uuid, request.id]
        yield from (api.CapsuleBytes(data=data[at : at + 100]) for at in range(0, len(data), 100))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    g = Guarded()
    g.cut_power()
    g.run(120_000)
    kept = Journal(tmp_path_factory.mktemp("state"))
    kept.commit(POOL, g.journal)
    yield kept
    kept.close()


@pytest.fixture
def records(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    whole = capsule(xensource_log=LOG, facts_txt='name: "payroll-vm"\n')
    fake = Records(journal, {(HOSTS[0], "0" * 32): whole})
    pool = api.PoolStatus(pool_uuid=POOL, name=NAMES[0], lost_vms=[api.LostVm(vm_uuid=HOSTS[2], name=NAMES[2])])
    pool.hosts.extend([a_host(1, name=NAMES[1], address=ADDRESSES[0]), a_host(2, name="host-b")])
    pool.hosts[0].machine.serial = NAMES[4]
    fake.status = api.StatusReply(collector_name="watch-1", version="0.1.0", pools=[pool])
    alert = api.Alert(key="k", pool_uuid=POOL, title=f"{HOSTILE} of {NAMES[2]}", raised_at="2026-01-01T00:00:00Z")
    alert.taken.by = NAMES[3]
    alert.deliveries.add(sink="mail:night", state="sent", attempts=2)
    fake.alerts = [alert]
    server, _ = serve(fake, socket_of(tmp_path))
    monkeypatch.setenv("POOLWARDEN_COLLECTOR", socket_of(tmp_path))
    yield fake
    server.stop(None).wait(5)


UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
FAILOVER = f"{POOL[:8]}-1.2"


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = {}
        for member in tar:
            assert member.isreg() and member.name.startswith("poolwarden-export/") and ".." not in member.name
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read()
    return found


def inputs(files: dict[str, bytes]) -> list[str]:
    """What is inside of the stored inputs."""
    found = [json.loads(data)["input"] for name, data in files.items() if name.startswith("decisions/")]
    return [json.dumps(opened(each)) for each in found]


def decisions(files: dict[str, bytes]) -> list[str]:
    return [name.rpartition("/")[2].removesuffix(".json") for name in files if name.startswith("decisions/")]


def test_one_archive_holds_all_of_a_failover_and_its_decisions_are_made_again_from_it(
    records: Records, tmp_path: Path, poolwarden: Call
) -> None:
    out = tmp_path / "f.tar.gz"
    said = poolwarden("export", FAILOVER, "--out", str(out))
    assert said.status == 0, said.err
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.sock", "f.tar.gz"], "nothing is left beside it"
    files = unpacked(out)
    manifest = json.loads(files["manifest.json"])
    assert {each["name"] for each in manifest["files"]} == set(files) - {"manifest.json"}
    for each in manifest["files"]:
        assert hashlib.sha256(files[each["name"]]).hexdigest() == each["sha256"]
    assert manifest["redacted"] is False and manifest["versions"]["collector"] == "0.1.0"
    assert manifest["decisions"] and set(manifest["decisions"].values()) == {"the same"}
    timeline = files["timeline.txt"].decode()
    assert "decided" in timeline and "promoted" in timeline and "poolwarden replay" in timeline
    for number in decisions(files):
        again = poolwarden("replay", number, "--archive", str(out))
        assert again.status == 0 and "the same, to the last word" in again.out
    assert poolwarden("replay", FAILOVER, "--archive", str(out)).status == 0
    [first] = [each for each in json.loads(files["evidence.json"]) if "MasterVanished" in each["title"]][:1]
    assert first["matrix"] and all(isinstance(by, dict) for by in first["matrix"].values())
    [alert] = json.loads(files["alerts.json"])
    assert alert["deliveries"][0]["sink"] == "mail:night"
    assert files[f"capsules/{HOSTS[0]}/{'0' * 32}/xensource.log"].decode() == LOG + "\n"
    assert "THIS-FILE" in files["README.txt"].decode()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_html_holds_no_script_loads_nothing_and_shows_hostile_names_as_text(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poolwarden: Call
) -> None:
    really = replies.history_entry

    def hostile(row: Any, name: str) -> api.HistoryEntry:
        entry = really(row, name)
        entry.text, entry.actor = HOSTILE, HOSTILE
        return entry

    monkeypatch.setattr(replies, "history_entry", hostile)
    assert poolwarden("export", "--since", "2020-01-01", "--out", str(tmp_path / "o.tar.gz")).status == 0
    files = unpacked(tmp_path / "o.tar.gz")
    assert f"{NAMES[0]}: {HOSTILE[:10]}" in files["timeline.txt"].decode(), "of several pools each line says which"
    html = files["timeline.html"].decode()
    tags = Tags()
    tags.feed(html)
    ids = [about["id"] for _, about in tags.seen if "id" in about]
    assert len(ids) == len(set(ids)) > 10
    assert not [tag for tag, _ in tags.seen if tag in ("script", "img", "link", "iframe", "form", "object", "base")]
    assert not [about for _, about in tags.seen for key in about if key.startswith("on") or key == "src"]
    assert {about["href"][0] for tag, about in tags.seen if tag == "a" and about["href"]} <= {"#"}
    assert "h&lt;script&gt;" in html and "\u202e" not in html
    assert "\u202e" not in files["timeline.txt"].decode() + files["evidence.txt"].decode()


@pytest.mark.slow
def test_redacted_no_name_address_or_uuid_is_in_any_file_and_decisions_are_still_made_again(
    records: Records, tmp_path: Path, poolwarden: Call
) -> None:
    plain, out = tmp_path / "p.tar.gz", tmp_path / "r.tar.gz"
    assert poolwarden("export", FAILOVER, "--out", str(plain)).status == 0
    assert poolwarden("export", FAILOVER, "--redact", "--out", str(out)).status == 0
    before, files = unpacked(plain), unpacked(out)
    uuids = {found.decode() for data in before.values() for found in UUID.findall(data)}
    assert len(uuids) >= 4
    everything = "\n".join([*files, *(data.decode() for data in files.values()), *inputs(files)])
    known = re.findall(r'"name": "([^"]{2,})"', "\n".join(inputs(before)))
    short = {name.partition(".")[0] for name in (*NAMES, *known)} - {"xapi", "agent"}
    for secret in (*NAMES, *ADDRESSES, *uuids, *short, FAILOVER, "GOLD-CUSTOMER", "example.com"):
        assert not re.search(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", everything, re.I), secret
    manifest = json.loads(files["manifest.json"])
    assert manifest["redacted"] and set(manifest["decisions"].values()) == {"the same"}
    for number in decisions(files):
        assert poolwarden("replay", number, "--archive", str(out)).status == 0
    log = next(data.decode() for name, data in files.items() if name.endswith("xensource.log"))
    name = re.search(r"xapi: \(ntp.name-\d+\) (name-\d+) of (name-\d+) on", log)
    assert name is not None and name[1] in files["alerts.json"].decode(), "the same everywhere"


def test_what_cannot_be_had_is_said_in_the_archive(records: Records, tmp_path: Path, poolwarden: Call) -> None:
    records.fails_capsules = True
    told = poolwarden("export", FAILOVER, "--json", "--out", str(tmp_path / "a.tar.gz"))
    held_against("export", told.json)
    assert any("capsules are not here" in remark for remark in told.json["remarks"])
    records.fails_capsules = False
    records.kept[0].sha256 = "0" * 64
    assert poolwarden("export", FAILOVER, "--out", str(tmp_path / "b.tar.gz")).status == 0
    assert b"is damaged" in unpacked(tmp_path / "b.tar.gz")["README.txt"]


def test_mistakes(records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    there.write_text("keep me")
    nothing = str(tmp_path / "x")
    for words, said in (
        (["export", "--out", nothing], "give a failover's id or --since"),
        (["export", FAILOVER, "--since", "2h", "--out", nothing], "give a failover's id or --since"),
        (["export", FAILOVER, "--until", "2h", "--out", nothing], "--until goes with --since"),
        (["export", "nothing", "--out", nothing], "no failover 'nothing'"),
        (["export", FAILOVER, "--out", str(there)], "is there already"),
        (["export", FAILOVER, "--out", str(tmp_path / "no/where")], "cannot be written"),
        (["replay", "1", "--archive", str(there)], "cannot be read as an archive"),
        (["replay", "1", "--archive", str(there), "--journal", str(there)], "exclude each other"),
    ):
        assert run(words) == 2, words
        assert said in capsys.readouterr().err
    assert there.read_text() == "keep me" and not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------------------ its parts


@pytest.mark.slow
def test_a_capsule_of_whoever_unpacks_only_what_an_agent_writes() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in (("../../x.gz", tarfile.REGTYPE), ("link.gz", tarfile.SYMTYPE), ("dev.gz", tarfile.CHRTYPE)):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "/etc/passwd"
            tar.addfile(about)
        bomb = gzip.compress(b"\0" * (BIGGEST + 9))
        for name, data in {"bomb.gz": bomb, "bad.gz": b"no gzip", "a.log.gz": gzip.compress(b"good")}.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    found = dict(members(file.getvalue()))
    assert found["a.log"] == "good" and len(found["bomb"]) == BIGGEST
    assert all("/" not in name and not name.startswith(".") for name in found)
    assert len([name for name in found if name.endswith(".remark")]) == 5
    assert "cannot be read" in dict(members(b"no tar"))["capsule.remark"]
    assert len(list(members(file.getvalue()[:700]))) >= 1


def head_of(size: bytes, kind: bytes = b"0", **more: bytes) -> bytes:
    """A head of a tar's member as nobody but who means harm writes it; ``more``: bytes at these offsets."""
    head = bytearray(tarfile.TarInfo("a.gz").tobuf(tarfile.GNU_FORMAT))
    head[124:136], head[156:157] = size.ljust(12, b"\0"), kind
    for place, data in more.items():
        head[int(place[2:]) : int(place[2:]) + len(data)] = data
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def pax(**said: str) -> bytes:
    """A pax header (IEEE Std 1003.1) that says this of the member behind it."""
    records = b""
    for name, value in said.items():
        line = f" {name.replace('__', '.')}={value}\n"
        length = len(line) + len(str(len(line) + 2))
        records += f"{length}{line}".encode()
    return head_of(b"%011o" % len(records), b"x") + records.ljust(512, b"\0")


TERABYTE = b"\x80" + (1 << 40).to_bytes(11, "big")


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(head_of(b"0", b"S", at386=b"0" * 11 + b"\0" + b"0" * 11 + b"\0", at483=TERABYTE), id="sparse"),
        pytest.param(
            pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize=str(1 << 40))
            + head_of(b"%011o" % 512) + b"1\n0\n0\n".ljust(512, b"\0"),
            id="sparse by a pax header",
        ),
        pytest.param(pax(size="9" * 40) + head_of(b"0"), id="a size that no file has"),
        pytest.param(pax(size="-5000") + head_of(b"0"), id="a size below nothing"),
        pytest.param(head_of(b"\xff" * 12), id="below nothing, in another form"),
        pytest.param(head_of(b"\x80\x7f" + b"\xff" * 10), id="too big, in another form"),
        pytest.param(head_of(b"77777777777"), id="bigger than what is there"),
        pytest.param(pax(comment="x") * 3_000 + head_of(b"0"), id="headers of headers"),
        pytest.param(head_of(b"0", at345=b"../.."), id="a folder before its name"),
        pytest.param(head_of(b"0") * 200, id="many of one name"),
        pytest.param(head_of(b"0")[:300], id="cut off"),
        pytest.param(b"", id="nothing"),
    ],
)  # fmt: skip
def test_whatever_a_host_hands_over_as_a_capsule_an_export_goes_on(made: bytes) -> None:
    good = gzip.compress(b"good")
    whole = head_of(b"%011o" % len(good)) + good.ljust(512, b"\0") + made + bytes(1024)
    found = list(members(whole))
    assert found[0] == ("a", "good"), "what comes before it is there"
    assert len(found) <= 66 and sum(len(text) for _, text in found) < 10_000
    assert not made or [name for name, _ in found if name.endswith(".remark")], "and what is left out is said"
    assert list(members(made)), "also where it is all that there is"


def test_what_stands_for_something_keeps_order_and_form_and_is_the_same_for_the_same() -> None:
    redaction = Redaction()
    texts = "b0000000-0000-4000-8000-000000000001 a0000000-0000-4000-8000-000000000001 10.0.0.9 10.0.0.10 127.0.0.1"
    redaction.learn(texts)
    redaction.learn_record({"name": "web.a", "hosts": [{"name": "web"}], "actor": "x", "generation": 5, "word": "down"})
    redaction.settle()
    b, a, nine, ten, home = redaction.text(texts).split()
    assert a < b and a.startswith("00000001-0000-8000-8000") and (nine, ten) == ("198.18.0.1", "198.18.0.2")
    assert home == "127.0.0.1"
    assert redaction.text("WEB web.a web.example.com webinar sweb x") == (
        "name-0001 name-0002 name-0001 webinar sweb x"
    )
    assert redaction.text("a0000000-1.2: down at 12:03:04, version 8.3.0") == (
        "00000001-1.2: down at 12:03:04, version 8.3.0"
    )
    packed = ["C", "Thing", {"name": "web", "kind": ["E", "Word", "web"], "by": ["D", ["web", 1]]}]
    assert (
        redaction.record(packed)[2]["kind"] == ["E", "Word", "web"]
        and redaction.record(packed)[2]["name"] == "name-0001"
    )


OWN = "1a2b3c4d-5e6f-4a1b-8c2d-3e4f5a6b7c8d"
STANDS = "00000001--0000--8000--8000--000000000001"
DOUBLED, UNDERSCORES, BARE = (OWN.replace("-", between) for between in ("--", "_", ""))


@pytest.mark.parametrize(
    ("record", "line", "shown"),
    [
        ({"text": "first\nfd00:1::7 second"}, "fd00:1::7", "2001:db8::1"),
        ({"text": "first\tfd00:1::7"}, "connect to fd00:1::7: refused", "connect to 2001:db8::1: refused"),
        ({"text": "peer:fd00:1::7"}, "peer:fd00:1::7 [fd00:1::7]:443", "peer:2001:db8::1 [2001:db8::1]:443"),
        ({"text": f"\f{OWN}"}, OWN, "00000001-0000-8000-8000-000000000001"),
        ({"sr": OWN}, f"/dev/mapper/XSLocalEXT--{DOUBLED}-{DOUBLED}", f"/dev/mapper/XSLocalEXT--{STANDS}-{STANDS}"),
        ({"sr": OWN}, f"vhd_{UNDERSCORES.upper()}", f"vhd_{STANDS.replace('--', '_')}"),
        ({"sr": OWN}, f"id={BARE};", f"id={STANDS.replace('-', '')};"),
        ({"text": f"/dev/mapper/VG--{DOUBLED}"}, OWN, "00000001-0000-8000-8000-000000000001"),
        ({"mac": "0c:c4:7a:11:22:33"}, "0C-C4-7A-11-22-33 0cc47a112233", "02-00-00-00-00-01 020000000001"),
        ({"serial": "4711081512"}, "serial 4711081512, 17 of 4711", "serial name-0001, 17 of 4711"),
        ({"bmc_address": "bmc7.corp.test"}, "bmc7.corp.test is not resolved", "name-0001 is not resolved"),
        ({"name": "Zürich & Co"}, "Z\\u00fcrich & Co, zürich &amp; co", "name-0001, name-0001"),
        ({"name": "Zürich & Co"}, "Z%C3%BCrich%20%26%20Co, Zu\u0308rich & Co", "name-0001, name-0001"),
        ({"name": "Is 'i' there"}, "\u0131s '\u0130' there", "name-0000"),
        ({"name": "payroll"}, "payroll-web1 x_payroll payrolls", "name-0001-web1 x_name-0001 payrolls"),
        ({"names": ["E", "payroll"]}, "payroll", "name-0001"),
        ({"collector": "watch-fra"}, "watch-fra has it", "name-0001 has it"),
        ({"assigner": "watch-fra"}, "watch-fra has it", "name-0001 has it"),
        ({"accepted_by": "Anna"}, "anna said yes", "name-0001 said yes"),
        ({"device": "ilo-fra1"}, "read OFF by ilo-fra1", "read OFF by name-0001"),
        ({"unplugged_srs": ["gold lun"]}, "without gold lun", "without name-0001"),
        ({"where": "nas7:/srv/payroll"}, "nas7:/srv/payroll, nas7", "name-0002:name-0001, name-0002"),
        ({"where": "[fd00::7]:/srv/payroll"}, "[fd00::7]:/srv/payroll", "[2001:db8::1]:name-0001"),
        ({"iscsi_targets": ["iqn.2001-05.com.test:gold"]}, "at iqn.2001-05.com.test:gold", "at name-0001"),
        (["C", "LocalRepository", {"running": ["T", "payroll"]}], "payroll", "name-0001"),
        (["C", "LocalRepository", {"others": ["T", "payroll"]}], "payroll", "name-0001"),
        (["C", "RoleFacts", {"running": ["E", "Role", "payroll"]}], "payroll", "payroll"),
        ({"text": "to anna.b@corp.test"}, "by anna.b of corp.test", "by name-0001 of name-0002"),
        ({"text": "to root@corp.test"}, "root, corp.test", "root, name-0001"),
        ({"text": "getty@tty1.service"}, "getty@tty1.service", "getty@tty1.service"),
        ({"text": "192.0.2.7"}, "ip-192-0-2-7 192_0_2_7 2026-11-30-02", "ip-198-18-0-1 198_18_0_1 2026-11-30-02"),
    ],
)  # fmt: skip
def test_what_is_replaced_is_replaced_in_every_form(record: dict[str, Any], line: str, shown: str) -> None:
    redaction = Redaction()
    learn_all(redaction, [record])
    redaction.settle()
    assert redaction.log(line) == shown


def test_a_list_that_looks_like_a_value_of_the_core_is_replaced_like_any_other() -> None:
    redaction = Redaction()
    learn_all(redaction, [{"name": "payroll", "hosts": {"Host-A": OWN}, "host_name": "Host-A"}])
    redaction.settle()
    told = {"vms": ["B", "payroll"], "words": ["E", "payroll", OWN], "hosts": {"Host-A": 1}, "payroll": 2}
    told_again = redaction.record(told)
    assert told_again["vms"] == ["B", "name-0002"] and told_again["words"][1:] == ["name-0002", redaction.text(OWN)]
    assert told_again["hosts"] == {"name-0001": 1} and told_again["payroll"] == 2, "a field's name is none of theirs"


def test_a_name_that_only_a_hosts_own_facts_have_is_replaced_in_all_files() -> None:
    facts = """installation {
  repositories {
    name: "gold \\"lun\\""
    running_vms: "payroll"
    uuid: "no-name"
  }
  where: "nas7:/srv/x"
}
memory {
  biggest {
    name: "stunnel"
  }
}
words: "cut off"""
    redaction = Redaction()
    redaction.learn_facts(facts)
    redaction.settle()
    line = 'stunnel of payroll-web at gold "lun", nas7; no-name, cut off'
    assert redaction.log(line) == "stunnel of name-0004-web at name-0002, name-0003; no-name, cut off"


def test_whose_journal_an_entry_stands_in_is_a_name(tmp_path: Path) -> None:
    entry = api.HistoryEntry(seq=7, kind="verdict", text="Healthy, says watch-fra", data="{}", collector="watch-fra")
    alert = api.Alert(key="k", title="t", body="told by WATCH-FRA", raised_at="2026-01-01", collector="watch-muc")
    found = Gathered(Asked(since="2026-01-01"), api.StatusReply(), [entry], [], [alert], [], {})
    write_files(tmp_path, found, lambda _: b"", {}, redact=True)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or not re.search("watch-(fra|muc)", path.read_text(), re.I), path
    assert json.loads((tmp_path / "entries.json").read_text())[0]["collector"].startswith("name-")


def test_what_came_with_a_pool_is_said_to_have_been_recorded_before(tmp_path: Path) -> None:
    """Its time in the journal is that of its coming."""
    told = [
        api.HistoryEntry(seq=seq, at="2026-01-01T00:00:00Z", kind="verdict", text=text, data="{}", copied=seq == 1)
        for seq, text in ((1, "came <with> it"), (2, "seen here"))
    ]
    write_files(
        tmp_path,
        Gathered(Asked(pool=POOL), api.StatusReply(), told, [], [], [], {}),
        lambda _: b"",
        {},
        redact=False,
    )
    for name, text in (("timeline.txt", "came <with> it"), ("timeline.html", "came &lt;with&gt; it")):
        page = (tmp_path / name).read_text()
        assert page.count(COPIED) == 1 and f"{text} {COPIED}" in page


def test_a_decision_that_this_version_cannot_read_is_left_out_of_a_redacted_archive(tmp_path: Path) -> None:
    stored = {"input": "no such input", "step": ["decided: payroll"], "text": "payroll", "at": "", "kind": "decided"}
    entry = api.HistoryEntry(seq=7, kind="decided", text="payroll", data='{"name": "payroll", "replay": 7}')
    found = Gathered(Asked(since="2026-01-01"), api.StatusReply(), [entry], [Decision(7, stored, None)], [], [], {})
    write_files(tmp_path, found, lambda _: b"", {}, redact=True)
    assert json.loads((tmp_path / "decisions/7.json").read_text())["input"] == ""
    assert "payroll" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
