"""The evidence capsules of this host: where they lie, how one is made, and when none is.

Rules
-----
* A capsule is made in ``/run`` (memory): a full or broken disk cannot stop it, and it writes nothing to ``/``. It is
  copied to ``/var/lib/poolwarden/evidence``, which outlives a reboot, only where ``/`` has plenty of room.
* It never fills anything: four capsules of 3 MiB, in memory and on disk alike (core/capsule.py says which give way);
  none is begun where ``/run`` or dom0's memory is short.
* It takes a quarter of one processor at most, and gives up after ``MAKE_LIMIT_S`` with what it has by then.
* Both directories are root's alone (0700), each file 0600. What was not finished is removed at the next start.
* A log that is not there, or cannot be read, is a remark in ``about.txt`` and nothing worse.
"""

import binascii
import functools
import hashlib
import json
import os
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from poolwarden_agent.core.capsule import BIGGEST, BIGGEST_PIECE, DIGEST, ID, MIB, Capsule, giving_way
from poolwarden_agent.core.suspicion import Reason
from poolwarden_agent.dom0.evidence import kernel_ring, logs, processes
from poolwarden_agent.dom0.evidence.capsule_file import Writer
from poolwarden_agent.dom0.system import files, plain_files, procfs

RUN, DISK = "var/run/poolwarden/evidence", "var/lib/poolwarden/evidence"
LEAST_RUN = 16 * MIB  # stays free in /run, and so does a tenth of it
LEAST_MEMORY = 128 * MIB
LEAST_DISK = 1024 * MIB  # stays free in /, and so does a fifth of it
MAKE_LIMIT_S = 180.0
IDLE = 3.0  # times as long as it has worked it waits
LONGEST_PAUSE_S = 1.0
KIB = 1024
# Name, file, bytes of its end that are read, share of the capsule.
LOGS = (
    ("xensource.log", "var/log/xensource.log", 4 * MIB, 1280 * KIB),
    ("SMlog", "var/log/SMlog", 2 * MIB, 640 * KIB),
    ("daemon.log", "var/log/daemon.log", 1 * MIB, 256 * KIB),
    ("xha.log", "var/log/xha.log", 512 * KIB, 128 * KIB),
    ("kern.log", "var/log/kern.log", 512 * KIB, 128 * KIB),
)
# What proc tells of memory, disks and load; small files.
TOLD = ("meminfo", "vmstat", "loadavg", "swaps", "diskstats", "mounts", "net/dev", "uptime")
SMALL = 128 * KIB

_Members = List[Tuple[str, Callable[[int], Iterator[str]], int, int]]


class CapsuleFolder(object):
    """Threads: one makes, one hands pieces over, any may ask ``held``."""

    def __init__(self, root: str, boot: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._root = root
        self._boot = boot
        self._sleep = sleep
        self._lock = threading.Lock()
        self._held: Tuple[Capsule, ...] = ()

    @property
    def held(self) -> Tuple[Capsule, ...]:
        """Those that were there when it was looked last, the oldest first. Asks no disk."""
        return self._held

    def load(self) -> None:
        """Look what an earlier agent has left, and remove what was not finished."""
        with self._lock:
            for place in (RUN, DISK):
                self._sweep(place)
            self._look()

    # ------------------------------------------------------------------------------------------ making

    def keep(self, reason: Reason, facts: str, mono_ms: int, wall_ms: int) -> str:
        """Make a capsule; why there is none, or what is wrong with it, in words; empty: all is well."""
        why = self._no_room()
        if why:
            return why
        capsule = Capsule(
            binascii.hexlify(os.urandom(16)).decode("ascii"),
            reason.word,
            reason.text,
            self._boot,
            mono_ms,
            wall_ms,
            0,
            "",
        )
        try:
            with self._lock:
                for gone in giving_way(self._held):
                    self._remove(gone.id)
                self._look()
            capsule = self._made(capsule, facts)
        except (OSError, ValueError) as error:
            self._remove(capsule.id)
            return "an evidence capsule cannot be written: %s" % error
        with self._lock:
            self._look()
        return self._copied(capsule)

    def _no_room(self) -> str:
        try:
            place = self._directory(RUN)
            free, total = _room(place)
        except OSError as error:
            return "no evidence capsule is kept: %s" % error
        if free - BIGGEST < max(LEAST_RUN, total // 10):
            return "no evidence capsule is kept: /run has %d MiB left" % (free // MIB)
        available = procfs.memory(self._root)[1]
        if 0 < available < LEAST_MEMORY:
            return "no evidence capsule is kept: dom0 has %d MiB of memory left" % (available // MIB)
        return ""

    def _made(self, capsule: Capsule, facts: str) -> Capsule:
        path = self._path(RUN, capsule.id, "part")
        pace = _Pace(self._sleep)
        with plain_files.new(path) as file:
            writer = Writer(file, BIGGEST - 64 * KIB, capsule.wall_ms // 1000, pace)
            for name, make, most_read, share in self._members(facts):
                if pace.late:
                    writer.remarks.append("%s: left out, this took too long already" % name)
                    continue
                writer.add(name, make, most_read, share)
            about = self._about(capsule, writer.remarks)
            last = Writer(file, BIGGEST, capsule.wall_ms // 1000, pace)
            last.add("about.txt", lambda _: iter(about), SMALL, 32 * KIB)
            last.end()
            size = file.tell()
        made = capsule._replace(size=size, sha256=_digest(path))
        os.rename(path, self._path(RUN, capsule.id, "tar"))
        self._write_info(RUN, made)
        return made

    def _members(self, facts: str) -> _Members:
        now = time.localtime()
        now_s = ((((now.tm_mon - 1) * 31 + now.tm_mday) * 24 + now.tm_hour) * 60 + now.tm_min) * 60 + now.tm_sec
        found: _Members = [("facts.txt", lambda _: iter(facts.split("\n")), SMALL, 128 * KIB)]
        for name in TOLD:
            found.append((name.replace("/", "-") + ".txt", functools.partial(self._told, name), SMALL, 64 * KIB))
        # The logs before the processes: looking at those may hang where the host does.
        for name, path, most, share in LOGS:
            found.append((name, functools.partial(self._log, path, now_s), most, share))
        found.append(("kernel-ring.txt", lambda _: logs.redacted(kernel_ring.records(self._root)), SMALL, 128 * KIB))
        found.append(("processes.txt", lambda _: processes.listed(self._root), SMALL, 128 * KIB))
        return found

    def _told(self, name: str, _most: int) -> Iterator[str]:
        text = files.read(self._root, os.path.join("proc/self" if name == "mounts" else "proc", name), SMALL)
        return logs.redacted(iter((text or "it cannot be read").split("\n")))

    def _log(self, path: str, now_s: int, most: int) -> Iterator[str]:
        return logs.lines(os.path.join(self._root, path), most, now_s)

    def _about(self, capsule: Capsule, remarks: List[str]) -> List[str]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(capsule.wall_ms / 1000.0))
        return [
            "An evidence capsule of the Poolwarden agent: this host's logs, processes and facts at a suspicion.",
            "why: %s (%s)" % (capsule.text, capsule.trigger),
            "begun: %s by this host's clock, %d ms after its boot %s" % (stamp, capsule.mono_ms, capsule.boot),
            "secrets are taken out of every line; of a log there are its last minutes, as far as they fit",
        ] + ["remark: %s" % remark for remark in remarks]

    # ------------------------------------------------------------------------------------------ on disk

    def _copied(self, capsule: Capsule) -> str:
        """The copy that outlives a reboot, where there is plenty of room; where there is not, that is no trouble."""
        copy = self._path(DISK, capsule.id, "part")
        try:
            free, total = _room(self._directory(DISK))
            if free - BIGGEST < max(LEAST_DISK, total // 5):
                return ""
            pace = _Pace(self._sleep)
            with open(self._path(RUN, capsule.id, "tar"), "rb") as source, plain_files.new(copy) as target:
                for piece in iter(functools.partial(source.read, BIGGEST_PIECE), b""):
                    target.write(piece)
                    pace()
                target.flush()
                os.fsync(target.fileno())
            with self._lock:
                os.rename(copy, self._path(DISK, capsule.id, "tar"))
                self._write_info(DISK, capsule)
        except OSError as error:
            _gone(copy)
            return "an evidence capsule is kept in memory alone: %s" % error
        return ""

    def taken(self, capsule_id: str, sha256: str) -> None:
        """A collector has it whole; it stays until its room is wanted."""
        with self._lock:
            for capsule in self._held:
                if (capsule.id, capsule.sha256) == (capsule_id, sha256) and not capsule.taken:
                    for place in (RUN, DISK):
                        if os.path.exists(self._path(place, capsule.id, "tar")):
                            self._write_info(place, capsule._replace(taken=True))
            self._look()

    def read(self, capsule_id: str, offset: int, limit: int) -> bytes:
        """A piece of it, 64 KiB at most. :raises OSError: there is none."""
        if not ID.match(capsule_id):
            raise OSError("%.40r is no capsule" % capsule_id)
        path = self._path(RUN, capsule_id, "tar")
        if not os.path.exists(path):
            path = self._path(DISK, capsule_id, "tar")
        descriptor = plain_files.to_read(path)
        try:
            return os.pread(descriptor, min(limit, BIGGEST_PIECE), offset)
        finally:
            os.close(descriptor)

    def _look(self) -> None:
        """Read again what is there. The lock is held."""
        found: Dict[str, Capsule] = {}
        for place in (DISK, RUN):
            for name in self._names(place):
                capsule = self._info(place, name[: -len(".json")]) if name.endswith(".json") else None
                if capsule is not None and os.path.exists(self._path(place, capsule.id, "tar")):
                    found[capsule.id] = capsule
        self._held = tuple(sorted(found.values(), key=lambda capsule: (capsule.wall_ms, capsule.id)))

    def _sweep(self, place: str) -> None:
        names = self._names(place)
        for name in names:
            stem, _, kind = name.partition(".")
            whole = {stem + ".tar", stem + ".json"} <= set(names)
            if ID.match(stem) and (kind.endswith("part") or not whole):
                _gone(os.path.join(self._root, place, name))

    def _names(self, place: str) -> List[str]:
        try:
            return os.listdir(os.path.join(self._root, place))
        except OSError:
            return []

    def _info(self, place: str, stem: str) -> Optional[Capsule]:
        text = files.read(self._root, os.path.join(place, stem + ".json")) if ID.match(stem) else None
        try:
            told = json.loads(text or "")
            capsule = Capsule(
                stem, str(told["trigger"]), str(told["text"]), str(told["boot"]), int(told["mono_ms"]),
                int(told["wall_ms"]), int(told["size"]), str(told["sha256"]), bool(told["taken"]),
            )  # fmt: skip
        except (ValueError, TypeError, LookupError):
            return None
        return capsule if DIGEST.match(capsule.sha256) and 0 < capsule.size <= BIGGEST else None

    def _write_info(self, place: str, capsule: Capsule) -> None:
        path = self._path(place, capsule.id, "json")
        with plain_files.new(path + ".part") as file:
            file.write(json.dumps(capsule._asdict()).encode("ascii"))
        os.rename(path + ".part", path)

    def _remove(self, capsule_id: str) -> None:
        for place in (RUN, DISK):
            for kind in ("json", "tar", "part"):
                _gone(self._path(place, capsule_id, kind))

    def _path(self, place: str, capsule_id: str, kind: str) -> str:
        return os.path.join(self._root, place, "%s.%s" % (capsule_id, kind))

    def _directory(self, place: str) -> str:
        """Made where it is not there. :raises OSError: it cannot be, or it is not root's alone."""
        path = os.path.join(self._root, place)
        os.makedirs(path, mode=0o700, exist_ok=True)
        wrong = plain_files.own_directory(path)
        if wrong:
            raise OSError(wrong)
        return path


class _Pace(object):
    """Waits between pieces, in proportion to what they took: beside a busy toolstack this is never in the way."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep
        self._began = self._last = time.monotonic()

    def __call__(self) -> bool:
        self._sleep(min(LONGEST_PAUSE_S, IDLE * (time.monotonic() - self._last)))
        self._last = time.monotonic()
        return not self.late

    @property
    def late(self) -> bool:
        """Has it taken too long by now?"""
        return time.monotonic() - self._began > MAKE_LIMIT_S


def _room(path: str) -> Tuple[int, int]:
    """Free and total bytes of the file system that holds this directory."""
    s = os.statvfs(path)
    return s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize


def _digest(path: str) -> str:
    digest: Any = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(functools.partial(file.read, BIGGEST_PIECE), b""):
            digest.update(piece)
    return str(digest.hexdigest())


def _gone(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
