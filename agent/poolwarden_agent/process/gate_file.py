"""What the agent says of its gate to the programs of this host: one small file in /run, written whole.

The agent alone writes it, and alone changes what is durable; `poolwarden-agent gate ...` reads it and leaves requests
beside it. A word of another boot, or one that is not renewed, is no word.
"""

import json
from typing import NamedTuple, Optional

from poolwarden_agent.dom0.system import boot_findings, files

WORD = boot_findings.RUN + "/gate"
OPENED = boot_findings.RUN + "/gate-opened"  # an operator on this host opens it for this boot
RELEASE = boot_findings.RUN + "/release-hold"  # an operator on this host releases a held toolstack
FOLLOW = boot_findings.RUN + "/release-as-member"  # the same, as member of the address that it names
RESET = boot_findings.RUN + "/reset-numbers"  # an operator on this host has the stored epoch and term forgotten
FRESH_MS = 15000

Word = NamedTuple("Word", [("state", str), ("reason", str), ("allows", bool), ("at_ms", int)])


def say(root: str, boot_id: str, word: Word) -> None:
    """:raises OSError: /run cannot be written."""
    boot_findings.put(root, WORD, json.dumps(dict(word._asdict(), boot_id=boot_id), sort_keys=True))


def heard(root: str, boot_id: str, now_ms: int) -> Optional[Word]:
    """The running agent's word; None if there is none that is of this boot and fresh."""
    try:
        found = json.loads(files.read(root, WORD) or "")
        word = Word(str(found["state"]), str(found["reason"]), found["allows"] is True, int(found["at_ms"]))
        of_boot = found["boot_id"] == boot_id
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return word if of_boot and 0 <= now_ms - word.at_ms <= FRESH_MS else None


def request(root: str, path: str, boot_id: str, who: str) -> None:
    """Leave a request for this boot. :raises OSError: /run cannot be written."""
    boot_findings.put(root, path, "%s %s" % (boot_id, who))


def requested(root: str, path: str, boot_id: str) -> str:
    """Who asked for it in this boot; empty: no operator."""
    words = (files.read(root, path) or "").split(None, 1)
    return words[1] if len(words) == 2 and words[0] == boot_id else ""
