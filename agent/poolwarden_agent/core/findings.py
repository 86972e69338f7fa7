"""What a look at one assumption has come to, and how results are kept: values and their bytes, nothing else.

Rules
-----
* FAILS needs a completed look that showed the contrary. What timed out, what cannot be read and what has not happened
  yet is NOT_SEEN, and takes no earlier result away.
* Evidence is one line. What of it may name somebody (an address, a host, a file of the administrator's) stands between
  ``PRIVATE`` marks: ``shown`` leaves it out of the marks for this pool's own people, ``nameless`` leaves it out whole.
  It is the look that knows what it has read, so nothing is recognised by its form afterwards.
* What is stored is told apart from anything else by a checksum; what is torn or foreign is nothing.
"""

import hashlib
import json
import re
from typing import Dict, NamedTuple

HOLDS, FAILS, NOT_SEEN = "holds", "fails", "not seen"
LONGEST_EVIDENCE = 200
LONGEST_RELEASE = 80
MOST_RESULTS = 200
MOST_BYTES = 65536
_MAGIC = "poolwarden assumptions 1 "
_BEGIN, _END = "\x02", "\x03"
_PRIVATE = re.compile("\x02([^\x02\x03]*)\x03")
_MARKS = re.compile("[\x02\x03]")


class Seen(NamedTuple):
    """What one look has found, before it is known when and where."""

    finding: str
    evidence: str  # with private parts marked


class Result(NamedTuple):
    """A look with its place and time: boot and instant on that boot's clock, and the wall clock for people."""

    id: str
    finding: str
    evidence: str  # with private parts marked
    release: str
    wall_ms: int
    boot_id: str
    mono_ms: int


def holds(evidence: str) -> Seen:
    return Seen(HOLDS, evidence)


def fails(evidence: str) -> Seen:
    return Seen(FAILS, evidence)


def not_seen(evidence: str) -> Seen:
    return Seen(NOT_SEEN, evidence)


def private(text: str) -> str:
    """A part of some evidence that may name somebody."""
    return _BEGIN + _MARKS.sub("", text)[:80] + _END


def familiar(text: str, form: str) -> str:
    """Text that was read here: as it is where the whole of it has this form (a regular expression), else private."""
    return text if re.match("(?:%s)\\Z" % form, text) else private(text)


def shown(evidence: str) -> str:
    """The evidence for this pool's own people: one printable line within its bound."""
    return _line(_PRIVATE.sub("\\1", evidence))


def nameless(evidence: str) -> str:
    """The evidence without whatever may name somebody."""
    return _line(_PRIVATE.sub("<left out>", evidence))


def _line(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in _MARKS.sub("", text))
    return " ".join(text.split())[:LONGEST_EVIDENCE]


def add(known: Dict[str, Result], new: Result) -> Dict[str, Result]:
    """The results with a new one; one that saw nothing replaces none that did."""
    before = known.get(new.id)
    if new.finding == NOT_SEEN and before is not None and before.finding != NOT_SEEN:
        return known
    return dict(known, **{new.id: new})


def today(result: Result, release: str) -> Result:
    """The result on this release: what failed on another one has not been seen on this."""
    if result.finding != FAILS or not release or result.release in ("", release):
        return result
    return result._replace(finding=NOT_SEEN, evidence="failed on %s: %s" % (result.release, result.evidence))


def encode(results: Dict[str, Result]) -> bytes:
    """The results as bytes, at most MOST_BYTES."""
    kept = [list(results[key]) for key in sorted(results)[:MOST_RESULTS]]
    while True:
        body = json.dumps(kept, sort_keys=True)
        data = (_MAGIC + hashlib.sha256(body.encode("ascii")).hexdigest() + "\n" + body).encode("ascii")
        if len(data) <= MOST_BYTES:
            return data
        kept.pop()


def decode(data: bytes) -> Dict[str, Result]:
    """What ``encode`` has made. :raises ValueError: it is torn, another version's, or something else."""
    try:
        head, _, body = data.decode("ascii").partition("\n")
        if head != _MAGIC + hashlib.sha256(body.encode("ascii")).hexdigest():
            raise ValueError("its checksum is wrong")
        found = [Result(*item) for item in json.loads(body)]
    except (UnicodeDecodeError, TypeError, RecursionError) as error:
        raise ValueError("it is none of ours") from error
    for each in found:
        texts = (each.id, each.finding, each.evidence, each.release, each.boot_id)
        numbers = (each.wall_ms, each.mono_ms)
        if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
            raise ValueError("it is none of ours")
    return {each.id: each for each in found}
