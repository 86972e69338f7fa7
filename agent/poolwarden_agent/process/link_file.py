"""Which collector the agent talks to, and why not to the others: one small file in /run for the programs of this host.

The running agent alone writes it, whenever something of it changes. What the link side says is for people: it is cut,
counted, and nothing is decided by it. A file of another boot, or of an agent that has ended, is no word.
"""

import json
import os
from typing import Any, Dict, List, Sequence

from poolwarden_agent.dom0.system import boot_findings, files
from poolwarden_agent.dom0.system.clock import now_s
from poolwarden_agent.process import log

LINK = boot_findings.RUN + "/link"
MOST = 32  # addresses
NOT_TRIED = "not tried"


class Links(object):
    """What is known of each collector's address; where none is listed nothing is written."""

    def __init__(self, root: str, boot_id: str, listed: Sequence[str]) -> None:
        self._root = root
        self._boot = boot_id
        self._listed = list(listed)
        self._why = {}  # type: Dict[str, str]
        self._connected = ""
        self._welcomed = False
        self._since_ms = 0
        self._awaited = ""  # where a collector has sent this host, not tried yet

    @property
    def several(self) -> bool:
        return len(self._listed) > 1

    @property
    def why(self) -> str:
        """Why no stream is up, in a line, as collectors are told it afterwards (why not more: host/elsewhere.py)."""
        told = [self.said(each, self._why[each]) for each in self._listed if each in self._why]
        if any(each not in self._listed for each in self._why):
            told.append("the address to which this host was sent did not become its collector's")
        return "; ".join(told)

    @property
    def seeking(self) -> bool:
        """Is there an address of which it is not known yet whether this host's collector is there?

        One address alone answers within a second of the agent's start or is not there (host/boot_gate.py).
        """
        if self._connected:
            return False
        untried = self.several and any(each not in self._why for each in self._listed)
        return bool(self._awaited) or untried

    def topic(self, address: str) -> str:
        """Of lines in the log about it: one for each address of the list, and one for all others."""
        return "link %s" % (address if address in self._listed else "elsewhere")

    def said(self, address: str, why: str) -> str:
        """One address's trouble, as it is said in the log."""
        return why if [address] == self._listed else "%s: %s" % (address, why)

    def begin(self) -> None:
        """What an agent that ran before has said is over."""
        self._write()

    def up(self, address: str) -> None:
        """A stream is up there."""
        self._why.pop(address, None)
        self._awaited = ""
        self._connected, self._welcomed, self._since_ms = address, False, int(now_s() * 1000)
        self._write()

    def sent_on(self, address: str) -> None:
        """Its collector sends this host there."""
        self._awaited = address

    def welcomed(self) -> None:
        """And its collector has welcomed this host."""
        if not self._welcomed:
            self._welcomed = True
            self._write()

    def down(self, address: str, why: str) -> None:
        """No stream is up; this is what became of the last address."""
        changed = self._connected or self._why.get(address) != why
        self._connected, self._welcomed = "", False
        self._awaited = "" if address == self._awaited else self._awaited
        self._why.pop(address, None)
        self._why[address] = why
        while len(self._why) > MOST:
            del self._why[next(each for each in self._why if each != address)]
        if changed:
            self._write()

    def lost(self) -> None:
        """The link side is gone, and its stream with it."""
        self._connected, self._welcomed = "", False
        self._write()

    def _order(self) -> List[str]:
        return self._listed + [each for each in self._why if each not in self._listed]

    def _write(self) -> None:
        if not self._listed:
            return
        others = [each for each in self._order() if each != self._connected]
        content = {
            "boot_id": self._boot,
            "pid": os.getpid(),
            "connected": self._connected,
            "welcomed": self._welcomed,
            "since_ms": self._since_ms,
            "others": [[each, self._why.get(each, NOT_TRIED)] for each in others],
        }
        try:
            boot_findings.put(self._root, LINK, json.dumps(content, sort_keys=True))
        except OSError as error:
            log.say("which collector is talked to cannot be said in %s: %s" % (LINK, error), "link file")


def lines(root: str, boot_id: str, now_ms: int) -> List[str]:
    """What the running agent says of its collectors, a line each; empty: none runs that says it."""
    try:
        found = json.loads(files.read(root, LINK) or "")
        if found["boot_id"] != boot_id or not os.path.exists("/proc/%d" % int(found["pid"])):
            return []
        return [_printable(line) for line in _lines(found, now_ms)]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return []


def _printable(text: str) -> str:
    """What the link side has said is root's to read in a terminal: nothing in it moves a cursor or begins a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _lines(found: Dict[str, Any], now_ms: int) -> List[str]:
    told = ["talks to no collector"]
    if found["connected"]:
        word = "talks to the collector at %s" if found["welcomed"] else "is connected to %s, which has not welcomed it"
        told = ["%s, since %d s" % (word % found["connected"], max(0, now_ms - int(found["since_ms"])) // 1000)]
    return told + ["%s: %s" % (address, why) for address, why in found["others"]]


def shown(root: str, boot_id: str, indent: str) -> str:
    """The same as it is printed below each other."""
    return ("\n" + indent).join(lines(root, boot_id, int(now_s() * 1000)) or ["not known: no agent runs that says it"])
