"""What fills a dom0, by experience: where to look, and what could be given back without harm. Pure: names only.

The places are those that sources and support threads name again and again: logs, crash and core dumps, bug reports,
update files, the database's blobs, local backups. Nothing here ever deletes anything: the list of what could be
cleaned is a dry run for a person, each line with the command that would do it.

Rules
-----
* Only what rotation has already closed, and dumps that are a week old, count as cleanable. A file that is open for
  writing is not: deleting it frees nothing while its process runs.
* Update files are left to xapi's own plugin, which knows which of them a pool still needs
  (xapi: scripts/plugins/disk-space).
* The database, its blobs and storage's metadata are never named as cleanable.
* What lies in none of these places is counted, too: each directory at the top that a distribution does not make is a
  place of its own (ISO stores, a backup that went below a mount point while nothing was mounted there), and the rest is
  one sum, so that the sizes add up to what is used. Where they do not, the difference is told as that: files that lie
  below what is mounted now, and deleted ones that a process keeps open, have no name.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

WEEK_S = 7 * 24 * 3600
_THIS_HOST = "$(. /etc/xensource-inventory; echo $INSTALLATION_UUID)"
PLUGIN = "xe host-call-plugin host-uuid=%s plugin=disk-space fn=cleanup_disk_space" % _THIS_HOST


class Filler(NamedTuple):
    """A place that is known to fill up, relative to the root."""

    path: str
    what: str


FILLERS = (
    Filler("var/log", "logs"),
    Filler("var/crash", "crash dumps of the host"),
    Filler("var/lib/systemd/coredump", "core dumps of processes"),
    Filler("var/opt/xen/bug-report", "bug reports (xen-bugtool)"),
    Filler("var/opt/xen", "files of the toolstack: ISO images are often put there"),
    Filler("var/lib/xcp/blobs", "messages and blobs of xapi's database"),
    Filler("var/lib/xcp", "xapi's databases"),
    Filler("var/update", "update files"),
    Filler("var/patch", "update files"),
    Filler("opt/xensource/patch-backup", "files that updates have replaced"),
    Filler("var/cache/yum", "yum's cache"),
    Filler("var/cache/dnf", "dnf's cache"),
    Filler("var/spool", "mail and job queues"),
    Filler("var/tmp", "temporary files"),
    Filler("tmp", "temporary files"),
    Filler("root", "files of root: backups and images are often put there"),
    Filler("boot", "kernels"),
    Filler("usr/local", "files that were installed by hand"),
)
# The directories at the top that hold the distribution (Filesystem Hierarchy Standard 3.0), and those below which
# something is mounted, or should be.
SYSTEM = frozenset(
    ("bin", "boot", "dev", "etc", "lib", "lib64", "lost+found", "proc", "run", "sbin", "sys", "usr", "var")
)
MOUNT_POINTS = frozenset(("mnt", "media"))
ELSEWHERE = Filler("", "elsewhere, the system's own files with it")
# What the file system says is used and no look finds by any name.
UNSEEN = "not found by any name: below a mount point, or deleted and still open (lsof +L1 shows which process)"
UNSEEN_SHARE, UNSEEN_LEAST = 0.05, 256 << 20  # of what is used; less is the file system's own


def own_place(name: str) -> Filler:
    """What a directory at the top is that is not the system's own."""
    if name in MOUNT_POINTS:
        return Filler(name, "files on the disk of / itself: is something not mounted there?")
    return Filler(name, "files that are not the system's own: an ISO store, a backup?")


class Found(NamedTuple):
    """What a look at the fillers found of one of them."""

    path: str
    what: str
    bytes: int
    files: int
    biggest: str  # the biggest file in it
    biggest_bytes: int


class Cleanable(NamedTuple):
    """What could be given back, and the command that would do it."""

    path: str
    what: str
    bytes: int
    files: int
    command: str


class Result(NamedTuple):
    """One look: ``partial`` says that it was cut off by its bounds, so everything is at least that much."""

    at_ms: int
    partial: bool
    found: Tuple[Found, ...]
    cleanable: Tuple[Cleanable, ...]


class Rule(NamedTuple):
    """Files below ``path`` whose name matches and that are older than ``age_s`` could go by ``command``."""

    path: str
    name: str
    age_s: int
    what: str
    command: str


_DUMPS = "find /%s -xdev -type f -mtime +7 -delete"
ROTATED = r".*\.(gz|bz2|xz|old|[0-9]+)\Z"
_ROTATED_GO = r"find /var/log -xdev -type f -regex '.*\.\(gz\|bz2\|xz\|old\|[0-9]+\)' -delete"
RULES = (
    Rule("var/log", ROTATED, 0, "rotated logs", _ROTATED_GO),
    Rule("var/crash", r".", WEEK_S, "crash dumps older than a week", _DUMPS % "var/crash"),
    Rule("var/lib/systemd/coredump", r".", WEEK_S, "core dumps older than a week", _DUMPS % "var/lib/systemd/coredump"),
    Rule("var/opt/xen/bug-report", r".", WEEK_S, "bug reports older than a week", _DUMPS % "var/opt/xen/bug-report"),
    Rule("var/update", r".", 0, "update files, as far as no host needs them", PLUGIN),
    Rule("var/patch", r".", 0, "update files, as far as no host needs them", PLUGIN),
    Rule("opt/xensource/patch-backup", r".", 0, "backups of replaced files, as far as nobody needs them", PLUGIN),
    Rule("var/cache/yum", r".", 0, "yum's cache", "yum clean all"),
    Rule("var/cache/dnf", r".", 0, "dnf's cache", "dnf clean all"),
)
_COMPILED = [(rule, re.compile(rule.name)) for rule in RULES]


def rule_for(path: str, name: str, age_s: float) -> Optional[Rule]:
    """The rule by which a file of this name below ``path`` (a filler's) could go; None: it stays."""
    for rule, pattern in _COMPILED:
        if rule.path == path and age_s >= rule.age_s and pattern.match(name):
            return rule
    return None


class Tally(object):
    """Adds up the files that a look comes across."""

    def __init__(self) -> None:
        self._found: Dict[str, Found] = {}
        self._on_root = 0
        self._cleanable: Dict[Rule, Tuple[int, int]] = {}

    def add(self, filler: Filler, path: str, name: str, size: int, age_s: float) -> None:
        """One file: its whole path, its name, the bytes that it occupies, and its age."""
        before = self._found.get(filler.path, Found(filler.path, filler.what, 0, 0, "", 0))
        biggest = (path, size) if size > before.biggest_bytes else (before.biggest, before.biggest_bytes)
        self._found[filler.path] = Found(
            filler.path, filler.what, before.bytes + size, before.files + 1, biggest[0], biggest[1]
        )
        rule = rule_for(filler.path, name, age_s)
        if rule is not None and size > 0:
            total, count = self._cleanable.get(rule, (0, 0))
            self._cleanable[rule] = (total + size, count + 1)

    def on_root(self, size: int) -> None:
        """So many bytes more were found on the root file system itself."""
        self._on_root += size

    def unseen(self, used: int) -> None:
        """The root file system says that so many bytes are used."""
        missing = used - self._on_root
        if missing >= max(UNSEEN_LEAST, int(used * UNSEEN_SHARE)):
            self._found[UNSEEN] = Found("", UNSEEN, missing, 0, "", 0)

    def result(self, at_ms: int, partial: bool) -> Result:
        """Both lists, the biggest first, the sum of the rest last; empty places are left out."""
        there = [item for item in self._found.values() if item.bytes]
        found = sorted(there, key=lambda item: (item.path == ELSEWHERE.path, -item.bytes))
        clean = [
            Cleanable(rule.path, rule.what, total, count, rule.command)
            for rule, (total, count) in self._cleanable.items()
        ]
        return Result(at_ms, partial, tuple(found), tuple(sorted(clean, key=lambda item: -item.bytes)))


def command_list(items: Tuple[Cleanable, ...]) -> List[str]:
    """The commands, each once, in the order of what they free."""
    seen = []  # type: List[str]
    for item in items:
        if item.command not in seen:
            seen.append(item.command)
    return seen
