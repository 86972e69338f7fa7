"""What hangs of a dom0's storage, over time: mounts of storage repositories that do not answer, processes that wait.

Rules
-----
* A mount hangs when a question to its file system has not been answered for ``ANSWER_MS``; it is over with the answer.
* A process waits for storage when it was found in state D at two looks in a row at least ``WAITS_MS`` apart, in the
  same one: every process is in it for moments.
* SMlog is read when a stall begins, and again after ``LOG_AGAIN_MS`` while it lasts; never on a healthy host.
"""

import re
from typing import Dict, List, NamedTuple, Sequence, Set, Tuple

from poolwarden_agent.core.log_lines import parse, shown

ANSWER_MS = 5000
WAITS_MS = 20000
LOG_AGAIN_MS = 600000
MOST_STALLED = 16
MOST_ERRORS = 5
# Lines that say what went wrong and not how: a driver's exception, its error code, a command that failed (sm:
# util, SRCommand), and the kernel's own word on a server or a device (linux: fs/nfs, drivers/scsi).
_ERRORS = re.compile(
    r"\*{3} .{0,80}EXCEPTION|\bSR_BACKEND_FAILURE_\d+|FAILED in util\.pread|Raising exception \[|SROSError|"
    r"nfs: server \S{1,200} (?:not responding|OK)|\bI/O error, dev |rejecting I/O to offline device|"
    r"task \S{1,40} blocked for more than \d+ seconds|CIFS.{0,60}has not responded"
)

Mount = NamedTuple("Mount", [("source", str), ("point", str), ("type", str)])
Stalled = NamedTuple("Stalled", [("what", str), ("since_ms", int)])
# ``pid``/``start``: which process; ``waits_in``: the kernel's function, empty where it is not told.
Waiting = NamedTuple("Waiting", [("pid", int), ("start", int), ("name", str), ("waits_in", str)])


class Link(NamedTuple):
    """One host's attachment of a repository (a PBD); ``where`` without secrets, empty: local or not known."""

    host: str
    attached: bool
    where: str


class Repository(NamedTuple):
    """A storage repository (an SR) as the serving master last told it."""

    uuid: str
    name: str
    type: str
    shared: bool
    default: bool
    links: Tuple[Link, ...]


class Storage(NamedTuple):
    """All of it, as it was seen last; ``at_ms`` 0: never."""

    at_ms: int = 0
    stalled: Tuple[Stalled, ...] = ()
    errors: Tuple[str, ...] = ()


def named(mount: Mount) -> str:
    """A mount for people: what is mounted, and where."""
    return shown("%s on %s" % (mount.source, mount.point), 250)


def waits(process: Waiting) -> str:
    """A process that waits, for people."""
    where = " in %s" % process.waits_in if process.waits_in else ""
    return shown("process %s (pid %d) waits for its disk%s" % (process.name, process.pid, where), 250)


class Waits(object):
    """Which processes have waited for long; told what each look has found."""

    def __init__(self) -> None:
        self._since: Dict[Tuple[int, int], int] = {}

    def seen(self, found: Sequence[Waiting], now_ms: int) -> Tuple[Stalled, ...]:
        """Those that were waiting at earlier looks as well, and since when."""
        since = {(each.pid, each.start): self._since.get((each.pid, each.start), now_ms) for each in found}
        self._since = since
        lasting = [
            Stalled(waits(each), since[each.pid, each.start])
            for each in found
            if now_ms - since[each.pid, each.start] >= WAITS_MS
        ]
        return tuple(sorted(lasting, key=lambda each: each.since_ms)[:MOST_STALLED])


def errors(lines: Sequence[str]) -> Tuple[str, ...]:
    """The last lines of SMlog and the kernel's log that say what is wrong, ready to be shown."""
    found = [line for line in lines if _ERRORS.search(line[:2000])]
    newest: List[str] = []
    told: Set[str] = set()
    for line in reversed(found):
        text = parse(line).text
        if text not in told:  # one fault fills a log with one line
            told.add(text)
            newest.append(shown(line))
        if len(newest) == MOST_ERRORS:
            break
    return tuple(reversed(newest))


def where(config: Dict[str, str]) -> str:
    """Where a PBD's storage is, from its device_config: ``server:/path``, ``target iqn``; empty: on the host itself.

    Only keys that name a place are read: user names, passwords and CHAP secrets stand in the same map (sm: NFSSR,
    LVMoISCSISR, SMBSR).
    """
    server, path = config.get("server", ""), config.get("serverpath", "")
    if server and path:
        return shown("%s:%s" % (server, path), 200)
    if config.get("target"):
        return shown(("%s %s" % (config["target"], config.get("targetIQN", ""))).strip(), 200)
    location = config.get("location", "") or server
    if not location or (location.startswith("/") and not location.startswith("//")):
        return "" if not config.get("SCSIid") else shown("SCSI id %s" % config["SCSIid"], 200)
    return shown(location, 200)
