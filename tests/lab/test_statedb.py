"""The files of xapi's database: escapes, sets and maps, generations, and refusal of what is none."""

import pytest

from poolwarden_lab import statedb
from poolwarden_lab.statedb import BadDatabase, StateDb


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("web 1", "web%.1"),
        ("100%", "100%%"),
        ("a\tb\nc\rd", "a%tb%nc%rd"),
        ("%. is literal", "%%.%.is%.literal"),
        ("", ""),
    ],
)
def test_values_are_escaped_as_xapi_does(plain: str, escaped: str) -> None:
    assert statedb.escape(plain) == escaped
    assert statedb.unescape(escaped) == plain


def test_old_files_hold_two_spaces_in_one_escape() -> None:
    assert statedb.unescape("a%_b") == "a  b"


def test_sets_and_maps_keep_quotes_and_brackets() -> None:
    items = ["a", "it's", "back\\slash", "(b)", ""]
    assert statedb.parse_set(statedb.dump_set(items)) == items
    pairs = {"k 1": "v'", "": "((", "x": ""}
    assert statedb.parse_map(statedb.dump_map(pairs)) == pairs
    assert statedb.dump_map({"auto_poweron": "true"}) == "(('auto_poweron' 'true'))"


@pytest.mark.parametrize("text", ["", "(", "('a'", "'a'", "(('a' 'b'))x", "()()"])
def test_what_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(BadDatabase):
        statedb.parse_map(text)


def test_a_database_survives_writing_and_reading() -> None:
    row = {"uuid": "u1", "name__label": 'web "1" <&> 100%\n', "other_config": "(('a b' 'c'))"}
    state = StateDb({"VM": {"OpaqueRef:1": row}, "task": {}}, 4711)
    content = statedb.dump_state(state)
    again = statedb.parse_state(content)
    assert again.generation == 4711
    assert again.tables["task"] == {}
    assert {key: value for key, value in again.tables["VM"]["OpaqueRef:1"].items() if key != "_ref"} == row
    assert b'<pair key="generation_count" value="4711"/>' in content
    assert b'name__label="web%.' in content or b"name__label='web%." in content


@pytest.mark.parametrize("content", [b"", b"<config/>", b"<database>", b"\xff\xfe"])
def test_what_is_no_database_is_refused(content: bytes) -> None:
    with pytest.raises(BadDatabase):
        statedb.parse_state(content)


@pytest.mark.parametrize(("content", "number"), [(None, 0), (b"", 0), (b"12\n", 12), (b"x", 0), (b"-3", 0)])
def test_an_unreadable_generation_reads_as_zero(content: bytes | None, number: int) -> None:
    assert statedb.parse_generation(content) == number


def test_local_db_survives_writing_and_reading() -> None:
    rows = {"ha.armed": "true", "x": '"<'}
    assert statedb.parse_local(statedb.dump_local(rows)) == rows
    with pytest.raises(BadDatabase):
        statedb.parse_local(b"nonsense")
