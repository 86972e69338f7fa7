"""xapi's database file: escapes, which file counts, and every way in which a file could hurt its reader."""

import os
import time

import pytest

from poolwarden_agent.dom0.xapi import database as statedb

from .tree import HOST, OTHER, POOL, database


def vm(uuid, where="OpaqueRef:h1", state="Running", name="web%.1", **flags):
    """One VM row."""
    more = "".join(' %s="%s"' % item for item in sorted(flags.items()))
    return '<row ref="OpaqueRef:%s" uuid="%s" power_state="%s" resident_on="%s" name__label="%s"%s/>' % (
        uuid, uuid, state, where, name, more,
    )  # fmt: skip


def view(tree, text):
    tree.put("var/lib/xcp/state.db", text)
    return statedb.view(str(tree.root))


@pytest.mark.parametrize(
    "value, meant",
    [
        ("a%.b", "a b"),
        ("%t%n%r", "\t\n\r"),
        ("100%%", "100%"),
        ("%%.", "%."),
        ("%%%.", "% "),
        ("%_", "  "),
        ("%", "%"),
        ("%x", "%x"),
        ("plain", "plain"),
    ],
)
def test_escapes(value, meant):
    assert statedb.unescape(value) == meant


def test_placements_are_of_every_guest_that_the_file_knows(tree):
    """A halted one and one on a host without a row are nowhere: xapi adopts them where they run."""
    rows = [
        vm("v1"),
        vm("v2", "OpaqueRef:h2"),
        vm("v3", "OpaqueRef:NULL", state="Paused"),
        vm("v4", "OpaqueRef:NULL", state="Halted"),
        vm("v5", "OpaqueRef:NULL", state="Suspended"),
        vm("v6", is_control_domain="true"),
        vm("v7", is_a_template="true"),
        vm("v8", is_a_snapshot="true"),
        vm("v9", "OpaqueRef:gone", is_a_template="false"),
    ]
    found = view(tree, database(vms="".join(rows)))
    assert found.readable and (found.pool, found.generation, found.rolling_upgrade) == (POOL, 42, False)
    assert [(p.vm, p.host) for p in found.placements] == [
        ("v1", HOST),
        ("v2", OTHER),
        ("v3", ""),
        ("v4", ""),
        ("v5", ""),
        ("v9", ""),
    ]
    assert found.placements[0].name == "web 1"


def test_a_rolling_upgrade_is_seen(tree):
    assert view(tree, database(other_config="(('rolling_upgrade_in_progress' 'true'))")).rolling_upgrade


def test_non_ascii_names(tree):
    assert (
        view(tree, database(vms=vm("v1", name="K\u00f6ln%.\u20ac&#169;"))).placements[0].name
        == "K\u00f6ln \u20ac\u00a9"
    )


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "not"),
        ("no xml", "well-formed"),
        (database()[:-12], "well-formed"),
        (database() + "<x/>", "well-formed"),
        ("<other/>", "not a xapi database"),
        ("<!DOCTYPE x>" + database(), "declaration"),
        ('<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "b">]>' + database(), "declaration"),
        (database().replace("<manifest>", "<!-- --><manifest>"), "declaration"),
        (database().encode("utf-16"), "NUL"),
        (b"\0" * 1000, "NUL"),
    ],
    ids=range(10),
)
def test_what_is_no_database_is_not_readable_and_says_why(tree, text, why):
    found = view(tree, text)
    assert not found.readable and found.placements == () and found.pool == "" and why in found.text and found.text


def bomb():
    entities = '<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">'
    for one, next_one in zip("abcdefghi", "bcdefghij"):
        entities += '<!ENTITY %s "%s">' % (next_one, ("&%s;" % one) * 10)
    return '<?xml version="1.0"?><!DOCTYPE d [%s]>' % entities + database(vms=vm("v1", name="&j;"))


@pytest.mark.parametrize("padding", [0, statedb.CHUNK - 23, statedb.CHUNK - 22, statedb.CHUNK - 21])
def test_an_entity_bomb_is_refused_before_it_is_parsed(tree, padding):
    """Also where the chunk ends between ``<`` and ``!``."""
    text = bomb()
    assert not view(tree, text.encode("utf-16")).readable
    head, tail = text[:21], text[21:]
    started = time.process_time()
    found = view(tree, head + " " * padding + tail)
    assert not found.readable and "declaration" in found.text
    assert time.process_time() - started < 1


@pytest.mark.parametrize("short_of", [20, 21, 22, 23])
def test_a_declaration_across_two_chunks_is_seen(tree, short_of):
    text = '<?xml version="1.0"?>' + " " * (statedb.CHUNK - short_of) + "<!DOCTYPE x>" + database()
    assert "declaration" in view(tree, text).text


def test_a_file_beyond_the_bound_is_not_read(tree):
    path = tree.put("var/lib/xcp/state.db", database())
    with path.open("r+b") as file:
        file.truncate(statedb.BIGGEST + 1)
    started = time.process_time()
    assert "larger than 256 MiB" in statedb.view(str(tree.root)).text
    assert time.process_time() - started < 1


def test_a_row_beyond_the_bound_is_refused(tree, monkeypatch):
    monkeypatch.setattr(statedb, "BIGGEST_ROW", 1024 * 1024)
    found = view(tree, database(vms=vm("v1", name="x" * (2 * 1024 * 1024))))
    assert "a row of more than" in found.text


def test_more_rows_than_any_pool_are_refused(tree, monkeypatch):
    monkeypatch.setattr(statedb, "KEPT", 10000)
    assert "more rows" in view(tree, database(vms="".join(vm("v%d" % n) for n in range(100)))).text


def test_attributes_that_nobody_asked_for_are_not_kept(tree):
    big = vm("v1", snapshot_metadata="x" * 100000) + vm("v2", other_config="y" * 100000)
    assert len(view(tree, database(vms=big * 100)).placements) == 200


@pytest.mark.parametrize(
    "text, number",
    [("7", 7), (" 7\n", 7), ("", 0), ("-5", 0), ("x", 0), ("1_0", 0), ("\u00b2", 0), ("9" * 30, 0), ("0x10", 0)],
)
def test_a_generation_is_a_decimal_number(tree, text, number):
    tree.put("var/lib/xcp/state.db.generation", text)
    assert statedb.loads(str(tree.root)) == ("var/lib/xcp/state.db", number)


def test_without_a_generation_it_counts_as_0(tree):
    os.unlink(tree.path("var/lib/xcp/state.db.generation"))
    assert statedb.loads(str(tree.root)) == ("var/lib/xcp/state.db", 0)


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, ("", 0)),
        ({"state": 5}, ("state", 5)),
        ({"state": 5, "gen_metadata": 6}, ("gen_metadata", 6)),
        ({"state": 5, "ha_metadata": 9, "gen_metadata": 6}, ("ha_metadata", 9)),
        ({"state": 5, "restore_db": 4}, ("restore_db", 4)),
        ({"state": 5, "restore_db": 4, "gen_metadata": 5}, ("gen_metadata", 5)),
        ({"restore_db": 4}, ("restore_db", 4)),
        ({"state": 5, "ha_metadata": 5}, ("ha_metadata", 5)),
        ({"state": 5, "ha_metadata": 5, "gen_metadata": 5}, ("ha_metadata", 5)),
        ({"restore_db": 5, "gen_metadata": 5}, ("gen_metadata", 5)),
    ],
)
def test_the_file_that_xapi_would_load(tree, files, expected):
    for name in ("state.db", "state.db.generation"):
        os.unlink(tree.path("var/lib/xcp/" + name))
    for name, generation in files.items():
        tree.put("var/lib/xcp/%s.db" % name, database())
        tree.put("var/lib/xcp/%s.db.generation" % name, str(generation))
    path = "var/lib/xcp/%s.db" % expected[0] if expected[0] else ""
    assert statedb.loads(str(tree.root)) == (path, expected[1])
    assert statedb.view(str(tree.root)).readable is bool(files)
