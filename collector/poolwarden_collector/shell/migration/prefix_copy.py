"""A copy of what several collectors have in etcd, as of one revision, and the way back into an etcd.

Rules
-----
* What hangs on a lease (members, owners, counts) is of processes and not in it. Everything else below the prefix is.
* A copy is a file of lines: a head, one line for each key, the digest of all of them. A file that lacks its end, or was
  changed, is refused before anything is written.
* Whatever is put back is older than the world. So the last thing that is written is a generation above every one that
  the copy and this etcd have had: agents obey no ownership of before, and the hosts are asked what came after.
* ``handed`` is not put back: nobody has given these pools up in order.
* While keys are put back a mark says so, and there is no generation: nobody owns anything.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.shell.cluster.etcd import (
    Created,
    Delete,
    Etcd,
    Exchange,
    Found,
    Get,
    Holds,
    Kept,
    Op,
    Put,
    Txn,
    behind,
    carry_out,
    unfit,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import generation_in, generation_text
from poolwarden_collector.shell.migration.place import Mark, Place, Refused, Way, look, nobody_lives, sure

FILE = "etcd.copy"  # in a backup's folder
_FORMAT = 1
_PAGE = 200  # keys of one read
_SMALL = 256 * 1024  # bytes of one transaction, but for a key that is larger
_MOST = 1024 * 1024 * 1024  # bytes of a copy's text


@dataclass(frozen=True, slots=True)
class Copy:
    """What a file has. Keys are without the prefix."""

    prefix: str
    revision: int
    generation: int
    keys: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back, or would be. ``replaces``: pools that are in etcd now."""

    keys: int
    revision: int
    generation: int
    replaces: int


def take(names: Names) -> Exchange[Copy]:
    """Everything that stands there, as of one revision. Raises EtcdError."""
    start = f"{names.prefix}/"
    page: Found = yield Get(start, behind(start), _PAGE)
    revision, kept = page.revision, list(page.kept)
    while page.more:
        page = yield Get(kept[-1].key + "\0", behind(start), _PAGE, revision)
        kept += page.kept
    generation = next((each for each in kept if each.key == names.generation), None)
    keys = tuple((each.key.removeprefix(start), each.value) for each in kept if not each.lease)
    return Copy(names.prefix, revision, generation_in(generation), keys)


def write(copy: Copy, path: Path) -> None:
    """Write the file whole, or not at all; readable by its owner alone. Raises OSError."""
    head = {"format": _FORMAT, "prefix": copy.prefix, "revision": copy.revision, "generation": copy.generation}
    lines = [json.dumps({**head, "keys": len(copy.keys)})]
    lines += [json.dumps([key, base64.b64encode(value).decode()]) for key, value in copy.keys]
    text = "".join(f"{line}\n" for line in lines).encode()
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    with half.open("wb") as file:
        file.write(gzip.compress(text + hashlib.sha256(text).hexdigest().encode() + b"\n", mtime=0))
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def read(path: Path) -> Copy:
    """What the file has. Raises Refused."""
    step = "take another copy: each is a folder of its own"
    try:
        with gzip.open(path) as file:
            whole = file.read(_MOST)
        text, digest = whole[:-65], whole[-65:].strip()
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise ValueError("it was changed, or lacks its end")
        head, *lines = (json.loads(line) for line in text.splitlines())
        if head["format"] != _FORMAT:
            raise ValueError(f"it is of format {head['format']}, written by a later Poolwarden")
        keys = tuple((str(key), base64.b64decode(value)) for key, value in lines)
        return Copy(str(head["prefix"]), int(head["revision"]), int(head["generation"]), keys)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}", step) from error
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise Refused(f"{path} is no copy of etcd that can be read: {error}", step) from error


async def put_back(
    etcd: Etcd, names: Names, copy: Copy, collector: str, dry: bool = False, replace: bool = False
) -> Restored:
    """Put all of it below this prefix. Raises Refused, EtcdError; whatever cuts it off, run it again."""
    place = await carry_out(etcd, look(names))
    nobody_lives(place)
    if place.mark is not None and place.mark.way is not Way.RESTORE:
        raise Refused(
            f"the pools of this etcd are with collector {place.mark.collector}, or on their way",
            f"end that there: poolwarden-collector store {place.mark.way.value}; or use another prefix of [store]",
        )
    begun = place.mark is not None
    if place.pools and not replace and not begun:
        raise Refused(
            f"etcd has {len(place.pools)} pools below this prefix",
            "with --replace what stands there is deleted first; take a copy before: poolwarden-collector backup DIR",
        )
    generation = max(copy.generation, place.generation, place.mark.generation if place.mark is not None else 0)
    done = Restored(len(copy.keys), copy.revision, generation + 1, len(place.pools))
    if not dry:
        await _put_back(etcd, place, copy, collector, generation)
    return done


async def _put_back(etcd: Etcd, place: Place, copy: Copy, collector: str, generation: int) -> None:
    names, start = place.names, f"{place.names.prefix}/"
    mark = Mark(Way.RESTORE, "", collector, secrets.token_hex(8), generation)
    gone: tuple[Op, ...] = (Delete(names.generation),) if place.generation_kept is not None else ()
    await sure(etcd, Txn(place.unchanged, (Put(names.moved, mark.text()), *gone)))
    ours = (Holds(names.moved, mark.text()),)
    for kept in await _all(etcd, start):
        if kept.key != names.moved:
            await sure(etcd, Txn(ours, (Delete(kept.key),)))
    own = (names.generation, names.moved)
    # safety: that a pool was given up in order was true at another time.
    writes = [Put(start + key, value) for key, value in copy.keys if start + key not in own and key[:7] != "handed/"]
    for some in _parts(writes):
        await sure(etcd, Txn(ours, some))
    # safety: the copy's own mark comes back as well; where it says that the pools are elsewhere nobody owns any here.
    marked = next((value for key, value in copy.keys if start + key == names.moved), None)
    last: tuple[Op, ...] = (Put(names.generation, generation_text(generation + 1)), Delete(names.moved))
    if marked is not None:
        last = (Put(names.moved, marked),)
    await sure(etcd, Txn((*ours, Created(names.generation, 0)), last))


async def _all(etcd: Etcd, start: str) -> list[Kept]:
    found: list[Kept] = []
    key = start
    while True:
        page: Found = await etcd.ask(Get(key, behind(start), _PAGE))
        found += page.kept
        if not page.more:
            return found
        key = page.kept[-1].key + "\0"


def _parts(writes: list[Put]) -> list[tuple[Put, ...]]:
    """In transactions that etcd takes."""
    parts: list[list[Put]] = []
    for each in writes:
        last = parts[-1] if parts else None
        fits = last is not None and sum(len(put.value) for put in last) + len(each.value) <= _SMALL
        if fits and last is not None and not unfit(Txn((), (*last, each))):
            last.append(each)
        else:
            parts.append([each])
    return [tuple(part) for part in parts]
