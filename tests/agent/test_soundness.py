"""Could xapi load a database: what is a fault, what xapi mends itself, and what is not known."""

import pytest

from poolwarden_agent.core.soundness import Soundness
from poolwarden_agent.dom0.xapi import database as statedb

from .tree import database

NETWORK = '<row ref="OpaqueRef:n" uuid="n"/>'
WHOLE = {
    "PIF": '<row ref="OpaqueRef:pif" VLAN_master_of="OpaqueRef:v" bond_slave_of="OpaqueRef:b" network="OpaqueRef:n"'
    ' management="true"/><row ref="OpaqueRef:pif2" VLAN_master_of="OpaqueRef:NULL" bond_slave_of=""/>',
    "VLAN": '<row ref="OpaqueRef:v" tagged_PIF="OpaqueRef:pif" untagged_PIF="OpaqueRef:pif2"/>',
    "Bond": '<row ref="OpaqueRef:b" master="OpaqueRef:pif2"/>',
    "network": NETWORK,
}


def with_tables(**tables):
    rows = dict(WHOLE, **tables)
    text = "".join('<table name="%s">%s</table>' % each for each in sorted(rows.items()))
    return database().replace('<table name="VM">', text + '<table name="VM">')


def view(tree, text):
    tree.put("var/lib/xcp/state.db", text)
    return statedb.view(str(tree.root))


@pytest.mark.parametrize("text", [database(), with_tables(), database(vms='<row ref="OpaqueRef:v1" uuid="v1"/>')])
def test_a_whole_database_is_sound(tree, text):
    found = view(tree, text)
    assert found.readable and found.sound is True and found.unsound == ""


@pytest.mark.parametrize(
    "tables, named",
    [
        ({"VLAN": ""}, "missing row: VLAN OpaqueRef:v, which a PIF names as its VLAN_master_of"),
        ({"Bond": ""}, "missing row: Bond OpaqueRef:b"),
        ({"network": ""}, "missing row: network OpaqueRef:n"),
        ({"PIF": ""}, "missing row: PIF OpaqueRef:pif"),
        ({"VM_metrics": '<row uuid="m"/>'}, "a row of VM_metrics has no reference"),
    ],
)
def test_a_row_that_is_missing_is_named(tree, tables, named):
    found = view(tree, with_tables(**tables))
    assert found.readable and found.sound is False and named in found.unsound


@pytest.mark.parametrize(
    "table", ["PBD", "VBD", "VIF"], ids=lambda name: name
)  # xapi removes these itself (ocaml/xapi/db_gc_util.ml)
def test_what_xapi_mends_itself_is_no_fault(tree, table):
    row = '<row ref="OpaqueRef:x" host="OpaqueRef:gone" SR="OpaqueRef:gone" VM="OpaqueRef:gone" VDI="OpaqueRef:gone"/>'
    assert view(tree, with_tables(**{table: row})).sound is True


@pytest.mark.parametrize("value", ["", "x", "-1"])
def test_a_manifest_without_a_number_is_a_fault(tree, value):
    found = view(
        tree, database().replace('key="generation_count" value="42"', 'key="generation_count" value="%s"' % value)
    )
    assert found.sound is False and "generation_count" in found.unsound


def test_a_database_without_its_pool_is_a_fault(tree):
    text = database()
    start, end = text.index('<table name="pool">'), text.index("</database>")
    assert "no row of the pool" in view(tree, text[:start] + text[end:]).unsound


@pytest.mark.parametrize(
    "text",
    ["", database()[:-12], database()[: len(database()) // 2], b"\0" * 1000, database()[:-20].encode() + b"\0" * 20],
    ids=range(5),
)
def test_what_the_disk_left_broken_is_not_sound(tree, text):
    found = view(tree, text)
    assert not found.readable and found.sound is False and found.unsound == found.text


@pytest.mark.parametrize("text", ["<!DOCTYPE x>" + database(), database().replace("<manifest>", "<!-- --><manifest>")])
def test_what_is_refused_unread_is_not_known(tree, text):
    found = view(tree, text)
    assert not found.readable and found.sound is None and found.unsound == ""


def test_a_disk_that_fails_behind_the_fault_leaves_it_not_known(tree, monkeypatch):
    """Nothing is called malformed before all of it was read."""

    def fails(_file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(statedb, "_to_the_end", fails)
    assert view(tree, "<database><x").sound is None
    assert view(tree, b"<database>\0").sound is None


def test_a_missing_file_is_not_known(tree):
    tree.path("var/lib/xcp/state.db")
    (tree.root / "var/lib/xcp/state.db").unlink()
    assert statedb.view(str(tree.root)).sound is None


@pytest.mark.slow
def test_more_rows_than_any_pool_has_say_nothing_of_references():
    seen = Soundness()
    seen.pair("generation_count", "1")
    seen.row("pool", {"ref": "p"})
    for n in range(100002):
        seen.row("PIF", {"ref": str(n), "VLAN_master_of": "OpaqueRef:gone"})
    assert seen.faults() == ()
