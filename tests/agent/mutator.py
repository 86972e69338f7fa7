"""Inputs that are nearly right: seeds that are accepted as they are, changed a little, by a number that is repeatable.

A seed file is one that the program under test takes. A change is of bytes (flipped, cut, repeated, spliced with another
seed), of a word or number that stands in it, or of a line. ``FUZZ_SECONDS=60`` plays each target for so many seconds
with numbers that nobody has tried yet; without it a fixed few are played. What fails names its number.
"""

import os
import random
import re
import time
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0") or 0)
# fmt: off
WORDS = [
    b"", b"0", b"-1", b"1", b"00", b"9" * 18, b"9" * 19, b"9" * 400, b"1e400", b"nan", b"18446744073709551616",
    b"2147483648", b"\xc2\xb2", b"\xd9\xa3", b"\xef\xbc\x91", b"\xff\xfe", b"\0", b"\r\n", b"\n", b" ", b"\t", b"'",
    b'"', b"\\", b"%s%n", b"${x}", b"%(x)s", b"\x1b[2J", b"\xe2\x80\xae", b"\xed\xa0\x80", b"[" * 3000, b"{" * 200,
    b"<a>" * 3000, b"<!DOCTYPE x>", b"<!ENTITY a 'b'>", b"&a;", b"../../../etc/passwd", b"/dev/zero", b"::1",
    b"198.51.100.256", b"true", b"null", b"=", b":", b",", b"#", b"A" * 5000, b"a.b" * 300,
]
# fmt: on
_TOKEN = re.compile(rb"[A-Za-z0-9_.:/-]+")


FOUND = "found-"  # in a name: it was once answered by something else than its error, and is played first


def seeds(kind, found=False):
    """The accepted seeds of one kind, or what was ``found`` with it."""
    paths = [path for path in sorted((CORPUS / kind).iterdir()) if path.name.startswith(FOUND) == found]
    assert paths or found, kind
    return [path.read_bytes() for path in paths]


def changed(drawn, data, others):
    """One to four changes of one seed; ``others``: seeds that it may be spliced with."""
    data = bytearray(data)
    for _ in range(drawn.choice([1, 1, 2, 4])):
        _change(drawn, data, others)
    return bytes(data)


def _change(drawn, data, others):
    at = drawn.randrange(len(data) + 1)
    kind = drawn.randrange(9)
    if kind == 0 and data:
        data[at - 1] = drawn.randrange(256)
    elif kind == 1:
        del data[at : at + drawn.choice([1, 4, 40, len(data)])]
    elif kind == 2:
        data[at:at] = drawn.choice(WORDS)
    elif kind == 3:
        part = bytes(data[at : at + drawn.choice([1, 10, 200])])
        data[at:at] = part * drawn.choice([1, 2, 50])
    elif kind == 4:
        other = drawn.choice(others)
        data[at:] = other[drawn.randrange(len(other) + 1) :]
    elif kind == 5:
        lines = bytes(data).splitlines(True)
        drawn.shuffle(lines)
        data[:] = b"".join(lines)
    else:  # a word or a number that stands in it becomes another one: what gets past a parser most often
        tokens = list(_TOKEN.finditer(data))
        if tokens:
            token = drawn.choice(tokens)
            word = drawn.choice(WORDS + [bytes(drawn.choice(tokens).group(0))])
            data[token.start() : token.end()] = word


def rounds(few):
    """Numbers to play: ``few`` that are always the same, or for FUZZ_SECONDS others."""
    if not SECONDS:
        for number in range(few):
            yield number
        return
    until, number = time.monotonic() + SECONDS, int(time.time() * 1000)
    while time.monotonic() < until:
        yield number
        number += 1


def _inputs(kind, known, few):
    for data in seeds(kind, found=True):
        yield FOUND, data
    for number in rounds(few):
        drawn = random.Random("%s %d" % (kind, number))
        yield number, changed(drawn, drawn.choice(known), known)


def played(kind, target, few, refused, refusing=False):
    """Play one kind of seeds at a target; how many were accepted and which errors refused the others.

    Accepted or refused with one of ``refused``, and that within seconds; anything else fails, with its number.
    ``refusing``: some of the seeds are answers that say no.
    """
    known = seeds(kind)
    for seed in known if not refusing else ():
        target(seed)  # an accepted seed is where changes begin
    accepted, errors = 0, set()
    for number, data in _inputs(kind, known, few):
        began = time.process_time()
        try:
            target(data)
            accepted += 1
        except refused as error:
            errors.add(re.sub("[0-9]+|'.*'|\".*\"", "_", str(error))[:60])
        except Exception as error:
            raise AssertionError("number %s of %s, %.300r: %r" % (number, kind, data, error)) from error
        took = time.process_time() - began
        assert took < 5.0, "number %s of %s took %.1f s of processor" % (number, kind, took)
    return accepted, errors
