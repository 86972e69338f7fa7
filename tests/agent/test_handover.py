"""Database handover on real files: what is read, what is placed, and what a crash leaves."""

import hashlib
import os
import subprocess

import pytest

from poolwarden_agent.core import orders
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.dom0.xapi import database
from poolwarden_agent.dom0.xapi import database_transfer as module
from poolwarden_agent.dom0.xapi.database_transfer import GENERATION, PLACED, TEMPORARY, Handover

from . import tree as trees
from .tree import POOL

STATE_DB = "var/lib/xcp/state.db"
CONTENT = trees.database().encode().ljust(10240)
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hands(tree):
    """The hands on a tree whose state.db is CONTENT."""
    tree.put(STATE_DB, CONTENT)
    return Handover(str(tree.root))


def piece(offset, size, sha256=SUM, generation=77):
    return Piece(generation, len(CONTENT), offset, size, sha256, False)


def place(hands, sizes=(4096, 4096, 2048), **changes):
    offset, acts = 0, []
    for size in sizes:
        acts.append(hands.place(piece(offset, size, **changes), CONTENT[offset : offset + size], POOL))
        offset += size
    return acts


def read_all(hands, limit):
    found, offset = [], 0
    while True:
        item = hands.read("", offset, limit)
        assert not item.text, item.text
        if not item.chunk:
            return found
        found.append(item)
        offset += len(item.chunk)


# ---------------------------------------------------------------------------------------------- reading


def test_the_file_that_would_be_loaded_is_read_whole(tree, hands):
    found = read_all(hands, 4096)
    assert b"".join(item.chunk for item in found) == CONTENT and len(found) == 3
    assert {item[:3] + (item.sha256,) for item in found} == {(STATE_DB, 42, len(CONTENT), SUM)}
    tree.put("var/lib/xcp/gen_metadata.db", b"newer")
    tree.put("var/lib/xcp/gen_metadata.db.generation", "43")
    assert hands.read("", 0, 10).chunk == b"newer"
    assert hands.read(STATE_DB, 0, 10).chunk == CONTENT[:10], "a path that was named is kept to"


@pytest.mark.parametrize("path", ["etc/shadow", "../etc/shadow", "/etc/shadow", "var/lib/xcp/local.db", "x"])
def test_no_other_file_is_ever_read(hands, path):
    item = hands.read(path, 0, 100)
    assert not item.chunk and "no database file" in item.text


def test_a_file_that_is_another_one_by_its_next_piece_is_said(tree, hands):
    assert hands.read("", 0, 4096).chunk
    tree.put(STATE_DB, CONTENT)  # xapi flushes: the same bytes, another file
    item = hands.read("", 4096, 4096)
    assert not item.chunk and "another file" in item.text
    assert read_all(hands, 4096)
    tree.put(STATE_DB + ".generation", "43")
    item = hands.read(STATE_DB, 4096, 4096)
    assert not item.chunk and item.generation == 43


def test_a_file_that_changes_under_the_read_is_said(tree, hands, monkeypatch):
    real = module._checksum

    def slow(file):
        digest = real(file)
        with open(tree.path(STATE_DB), "ab") as appended:
            appended.write(b"more")
        return digest

    monkeypatch.setattr(module, "_checksum", slow)
    item = hands.read("", 0, 4096)
    assert not item.chunk and "changed" in item.text


def test_the_checksum_is_computed_once(hands, monkeypatch):
    real, sums = module._checksum, []
    monkeypatch.setattr(module, "_checksum", lambda file: (sums.append(1), real(file))[1])
    read_all(hands, 1000)
    assert len(sums) == 1


def test_a_missing_or_huge_file_is_not_read(tree, hands, monkeypatch):
    monkeypatch.setattr(database, "BIGGEST", 100)
    assert "more than is handed over" in hands.read("", 0, 10).text
    os.unlink(tree.path(STATE_DB))
    assert "there is no database file" in hands.read("", 0, 10).text
    assert "cannot be read" in hands.read(STATE_DB, 0, 10).text


# ---------------------------------------------------------------------------------------------- placing


def test_pieces_become_the_file_that_xapi_would_load(tree, hands):
    acts = place(hands)
    assert [act.outcome for act in acts] == [orders.DONE] * 3
    assert (tree.root / PLACED).read_bytes() == CONTENT and tree.text(GENERATION) == "77"
    assert not os.path.exists(tree.path(TEMPORARY)) and hands.placed() == 77
    assert database.loads(str(tree.root)) == (PLACED, 77)
    assert sorted(os.listdir(tree.path("var/lib/xcp"))) == [
        "local.db", "restore_db.db", "restore_db.db.generation", "state.db", "state.db.generation"
    ]  # fmt: skip


def test_nothing_has_its_name_before_it_is_whole_and_has_its_generation(tree, hands, monkeypatch):
    real, seen = os.rename, []

    def rename(source, target):
        seen.append((os.path.basename(target), tree.text(GENERATION) if target.endswith(".db") else ""))
        assert not os.path.exists(tree.path(PLACED))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    place(hands)
    assert seen == [("restore_db.db.generation", ""), ("restore_db.db", "77")]


@pytest.mark.parametrize("dies_at", ["restore_db.db.generation", "restore_db.db"])
def test_cut_off_before_a_rename_there_is_no_restore_db_and_the_last_piece_comes_again(
    tree, hands, monkeypatch, dies_at
):
    real = os.rename

    def rename(source, target):
        if os.path.basename(target) == dies_at:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        place(hands)
    assert hands.placed() is None and database.loads(str(tree.root)) == (STATE_DB, 42)
    monkeypatch.undo()
    again = hands.place(piece(8192, 2048), CONTENT[8192:], POOL)
    assert again.outcome == orders.DONE and (tree.root / PLACED).read_bytes() == CONTENT


def test_what_is_not_what_was_sent_is_thrown_away(tree, hands):
    assert place(hands, sha256="0" * 64)[-1].outcome == orders.FAILED
    assert hands.placed() is None and not os.path.exists(tree.path(TEMPORARY))


def test_a_missing_piece_is_said_and_a_repeated_one_is_harmless(tree, hands):
    assert hands.place(piece(0, 4096), CONTENT[:4096], POOL).outcome == orders.DONE
    act = hands.place(piece(8192, 2048), CONTENT[8192:], POOL)
    assert act.outcome == orders.FAILED and "a piece is missing" in act.text
    for _ in range(2):
        assert hands.place(piece(4096, 4096), CONTENT[4096:8192], POOL).outcome == orders.DONE
    assert hands.place(piece(8192, 2048), CONTENT[8192:], POOL).outcome == orders.DONE
    assert (tree.root / PLACED).read_bytes() == CONTENT


def test_a_first_piece_clears_what_was_placed_before(tree, hands):
    place(hands)
    hands.place(piece(0, 4096, generation=78), CONTENT[:4096], POOL)
    assert hands.placed() is None and not os.path.exists(tree.path(GENERATION))


def test_a_later_piece_without_its_first_is_no_file(tree, hands):
    assert hands.place(piece(4096, 4096), CONTENT[4096:8192], POOL).outcome == orders.FAILED
    assert not os.path.exists(tree.path(TEMPORARY))


def test_the_file_goes_before_its_generation(tree, hands, monkeypatch):
    place(hands)
    real, gone = os.unlink, []
    monkeypatch.setattr(os, "unlink", lambda path: (real(path), gone.append(os.path.basename(path))))
    assert hands.remove().outcome == orders.DONE and hands.remove().outcome == orders.DONE
    monkeypatch.undo()
    assert gone == ["restore_db.db", "restore_db.db.generation"] and hands.placed() is None


def test_a_disk_that_refuses_is_said(tree, hands, monkeypatch):
    place(hands)

    def refuses(_path):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", refuses)
    assert hands.remove().outcome == orders.FAILED and hands.placed() == 77
    assert hands.place(piece(0, 4096), CONTENT[:4096], POOL).outcome == orders.FAILED
    monkeypatch.undo()


def test_a_database_is_gone_for_good_before_its_generation_goes(hands, monkeypatch):
    """After a power cut in between xapi would load it with generation 0."""
    place(hands)
    done, unlink = [], os.unlink
    with monkeypatch.context() as watched:
        watched.setattr(os, "unlink", lambda path: (unlink(path), done.append(os.path.basename(path))))
        watched.setattr(hands, "_sync_directory", lambda: done.append("sync"))
        assert hands.remove().outcome == orders.DONE
    names = [os.path.basename(PLACED), "sync", os.path.basename(GENERATION), "sync"]
    assert done == names


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_leaves_no_restore_db(short):
    where = short / "var" / "lib" / "xcp"
    where.mkdir(parents=True)
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(where)], stderr=subprocess.DEVNULL):
        pytest.skip("no tmpfs here")
    try:
        hands = Handover(str(short))
        acts = place(hands)
        assert orders.FAILED in [act.outcome for act in acts] and hands.placed() is None
        assert hands.remove().outcome == orders.DONE and os.listdir(str(where)) == []
    finally:
        subprocess.check_call(["umount", str(where)])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (trees.database(pool="99999999-bbbb-cccc-dddd-eeeeeeeeeeee"), "is of pool 99999999"),
        (trees.database(pool=""), "names no pool"),
        ("<database><table", "not well-formed"),
        ("<html></html>", "is not a xapi database"),
    ],
)
def test_what_is_no_database_of_this_pool_never_gets_the_name(tree, hands, content, why):
    whole = content.encode()
    given = Piece(77, len(whole), 0, len(whole), hashlib.sha256(whole).hexdigest(), False)
    act = hands.place(given, whole, POOL)
    assert act.outcome == orders.FAILED and why in act.text
    assert not (tree.root / PLACED).exists() and not (tree.root / TEMPORARY).exists()
    assert not (tree.root / GENERATION).exists()
