"""collector.toml, from accepted ones: a table, a key or a value changes, and the rest stays a configuration.

So it gets past the first check; mere bytes never did. Accepted or refused by one line that names file, place and
expectation, within bounds; no secret of the environment in it.
"""

from __future__ import annotations

import copy
import json
import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.mutator import changed, rounds, seeds
from shell.rig import write_config

from poolwarden_collector.shell.config.config import ConfigError, load

SECRET = "hunter2-of-the-bmc"
ENVIRONMENT = {"H1_PASSWORD": SECRET}
# fmt: off
VALUES: tuple[Any, ...] = (
    "", " ", "0s", "-1s", "1e9h", "10", "999999h", "0.0000001ms", "[::]:0", "0.0.0.0:99999", "::1", "http://",
    "https://a:b@c/", "javascript:x", "/dev/null", "../..", "a\nb", "a\0b", "\x1b[2J", "\u202e", "%s{0}", "A" * 5000,
    "\u0663s", "\u00b2", "yes", "aaaaaaaa-0000-4000-8000-000000000001", 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5,
    float("inf"), float("nan"), True, False, [], [""], ["a"] * 500, [[]], [1, "a"], {}, {"a": 1}, {"": {}},
)
# fmt: on


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fuzz")
    write_config(made)
    return made


def accepted() -> list[dict[str, Any]]:
    return [tomllib.loads(text.decode()) for text in seeds("collector.toml")]


def written(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(item) for item in value) + "]"
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def document(tables: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {written(value)}\n" for key, value in tables.items())


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places(item)


def bent(drawn: random.Random, tables: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """One or two changes of a configuration."""
    tables = copy.deepcopy(tables)
    for _ in range(drawn.choice([1, 1, 2])):
        container, key = drawn.choice(list(places(tables)))
        kind = drawn.randrange(7)
        if kind == 0:
            del container[key]
        elif kind <= 2:
            container[key] = copy.deepcopy(drawn.choice(VALUES))
        elif kind == 3:  # another's value, of the same kind perhaps
            other, place = drawn.choice(list(places(drawn.choice(others))))
            container[key] = copy.deepcopy(other[place])
        elif kind == 4 and isinstance(container, dict):
            container[drawn.choice(["x", "", key[:-1], key + "s", "limit", "secret_file", "url", "mode"])] = (
                container.pop(key)
            )
        elif kind == 5 and isinstance(container[key], list):
            container[key] *= drawn.choice([2, 200])
        elif isinstance(container[key], str):
            text = bytearray(container[key].encode())
            container[key] = changed(drawn, bytes(text), [b"1h", b"a/b"]).decode("utf-8", "replace")
    return tables


def play(folder: Path, text: str) -> str:
    """Load it; why it was refused, empty: it was not."""
    file = folder / "collector.toml"
    file.write_bytes(text.encode("utf-8", "replace"))
    try:
        config = load(file, ENVIRONMENT)
    except ConfigError as error:
        said = str(error)
        assert said.isprintable() and SECRET not in said and len(said) < 4000, said
        assert said.startswith(str(file)) and ("expected" in said or "policy: " in said), said
        return said
    assert SECRET not in repr(config)
    return ""


def test_the_seeds_are_accepted(folder: Path) -> None:
    for text in seeds("collector.toml"):
        assert play(folder, text.decode()) == ""


def test_what_was_once_found_is_refused(folder: Path) -> None:
    for text in seeds("collector.toml", found=True):
        assert play(folder, text.decode())


def test_a_bent_configuration_is_taken_or_refused_by_one_line(folder: Path) -> None:
    known, taken, refusals = accepted(), 0, set()
    for number in rounds(250):
        drawn = random.Random(number)
        tables = bent(drawn, drawn.choice(known), known)
        try:
            said = play(folder, document(tables))
        except Exception as error:
            raise AssertionError(f"number {number}: {document(tables)[:2000]}") from error
        taken += not said
        refusals.add(re.sub(r"[0-9]+|'.*'|\"[^\"]*\"", "_", said.replace(str(folder), ""))[:70])
    assert taken >= 20 and len(refusals) > 60, (
        f"{taken} taken, {len(refusals)} kinds of refusals: they get past the first"
    )


def test_bytes(folder: Path) -> None:
    known = seeds("collector.toml")
    for number in rounds(100):
        drawn = random.Random(number)
        data = changed(drawn, drawn.choice(known), known)
        try:
            play(
                folder,
                data.decode("utf-8", "surrogateescape").encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            )
        except Exception as error:
            raise AssertionError(f"number {number}: {data[:2000]!r}") from error
