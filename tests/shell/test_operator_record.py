"""The record of operators' calls, and the part of the configuration that gives them roles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.project.tree import ROOT

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.config.toml_table import ConfigError
from poolwarden_collector.shell.operators import calls
from poolwarden_collector.shell.store import audit
from poolwarden_collector.shell.store.journal import Journal

from .rig import HOSTS, POOL, write_config
from .test_operator_access import OTHER, command, ended, two_pools
from .test_operator_tls import SERVED, caller, operator


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_record_says_who_what_whence_and_what_came_of_it(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "ada")) as stub:
        begun = (await stub.History(pb.HistoryRequest())).entries[-1].at
        request = command("pause", reason="")
        request.reason, request.actor = "new disks\x1b[2J", "mallory"
        assert (await stub.Command(request)).accepted
        assert not (await stub.Command(request)).accepted
        await ended(stub.Command(command("pause", pool="nowhere")))
        trial = pb.TryFenceRequest(host=HOSTS[0], agent="fence_none", parameters={"password": "t0ps3cret"})
        await ended(stub.TryFence(trial))
        [first, again, nowhere, tried] = (await stub.Audit(pb.AuditRequest(since=begun))).entries
        assert (first.actor, first.role, first.method, first.pool_uuid) == ("ada", "admin", "pause", POOL)
        assert "127.0.0.1:" in first.source and first.source.endswith("certificate ada; says it is 'mallory'")
        assert first.reason == "new disks\\x1b[2J"
        assert first.result.startswith("done: ") and first.reason.startswith("new disks")
        assert again.result.startswith("refused (already-paused): ")
        assert nowhere.result.startswith("refused: there is no pool 'nowhere'") and not nowhere.pool_uuid
        assert tried.method == "TryFence" and '"password": "(not kept)"' in tried.request
        assert "t0ps3cret" not in str(tried)
        assert [e.method for e in (await stub.Audit(pb.AuditRequest(pool="gold", limit=1))).entries] == ["TryFence"]
        assert not (await stub.Audit(pb.AuditRequest(until=begun[:4].replace("2", "1") + begun[4:]))).entries


@pytest.mark.slow
@pytest.mark.asyncio
async def test_who_goes_on_and_on_does_not_fill_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REFUSALS", 3)
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "vera")) as stub:
        for _ in range(10):
            await ended(stub.Command(command("pause")))
        assert len(rig.parts.journal.calls(None, "", "", 0)) == 3
        ledger = rig.parts.operators._ledger
        ledger._allowed._left = {}  # a while later
        await ended(stub.Command(command("resume")))
        last = rig.parts.journal.calls(None, "", "", 0)[-1]
        assert last["method"] == "resume" and "and 7 refused calls before it" in last["result"]


def test_a_record_goes_after_400_days_and_not_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", 2)
    journal = Journal(tmp_path)
    called = audit.Called("ada", "here", "admin", "pause", "{}")
    rows = [journal.call_begins(called) for _ in range(5)]
    old, young = "2020-01-01T00:00:00.000Z", audit.clock.text_of(audit.clock.wall_ms() - 399 * 86_400_000)
    with journal._reading() as db:
        for row in rows:
            db.execute("UPDATE audit SET at = ? WHERE id = ?", [young if row == rows[-1] else old, row])
    journal._prune_calls_at = 0
    journal.call_begins(called)
    assert [row["id"] for row in journal.calls(None, "", "", 0)] == [rows[2], rows[3], rows[4], rows[4] + 1]
    journal.call_begins(called)
    assert len(journal.calls(None, "", "", 0)) == 5, "the next part goes an hour later"
    journal.close()


def test_a_call_that_was_cut_off_has_a_record_without_a_result(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    row = journal.call_begins(audit.Called("ada", "here", "admin", "pause", "{}"))
    assert journal.calls(None, "", "", 0)[0]["result"] == ""
    journal.call_ended(row, POOL, "done")
    journal.call_ended(row, OTHER, "something else")
    assert [(each["pool"], each["result"]) for each in journal.calls(None, "", "", 0)] == [(POOL, "done")]
    journal.close()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ('role = "viewer"', "expected one of: name"),
        ('name = "ada"\nuser = "anna"\nrole = "viewer"', "2 of name, user and group"),
        ('name = "a b"\nrole = "viewer"', "is 'a b'"),
        ('name = "poolwarden"\nrole = "viewer"', "is 'poolwarden'"),
        ('user = "root"\nrole = "viewer"', "root has every right"),
        ('user = ""\nrole = "viewer"', "is ''"),
        ('name = "ada"', "role: is missing"),
        ('name = "ada"\nrole = "boss"', "viewer, operator, admin"),
        ('name = "ada"\nrole = "viewer"\npools = []', "names none"),
        ('name = "ada"\nrole = "viewer"\npools = ["gold"]', "is no UUID"),  # its master could call it so
        ('name = "ada"\nrole = "viewer"\npool = ["gold"]', "no setting that is known"),
    ],
)
def test_an_entry_that_is_wrong_is_refused_by_name(tmp_path: Path, block: str, said: str) -> None:
    with pytest.raises(ConfigError, match="operators 1") as error:
        load(write_config(tmp_path, f"[[operators]]\n{block}"))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_open_door_is_said_and_a_closed_one_is_not(tmp_path: Path) -> None:
    bare = load(write_config(tmp_path, collector=SERVED))
    assert "every operator's certificate has every right" in bare.operators.remarks(bare.operator_listen)[0]
    assert not load(write_config(tmp_path)).operators.remarks("")
    with pytest.raises(ConfigError, match="some of confirm-fenced"):
        load(write_config(tmp_path, collector='second_person = ["pause"]'))
    two = f'[pools."{POOL}"]\nname = "x"\n[pools."{OTHER}"]\nname = "x"\n'
    with pytest.raises(ConfigError, match="is the name of 2 pools"):
        load(write_config(tmp_path, f'{two}[[operators]]\nname = "a"\nrole = "viewer"\npools = ["x"]'))


def test_what_the_documents_show_is_read(tmp_path: Path) -> None:
    page = (ROOT / "docs/operators.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        own, _, rest = block.partition("[collector]\n")
        config = load(write_config(tmp_path, own, collector=rest))
        assert config.operators.entries or config.operators.second_person or config.operator_group
    shipped = (ROOT / "packaging/collector/collector.toml").read_text()
    for name in ("operator_group", "second_person"):
        [line] = re.findall(rf"^#({name} = .*)$", shipped, re.MULTILINE)
        load(write_config(tmp_path, collector=line))
    entries = re.findall(r"^#(\[\[operators\]\]\n(?:#\w.*\n)+)", shipped, re.MULTILINE)
    assert len(load(write_config(tmp_path, "".join(entries).replace("\n#", "\n"))).operators.entries) == 3
