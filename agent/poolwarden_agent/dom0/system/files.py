"""Small files of dom0, read below a root: pool.conf, inventory, local.db, generations, cookies, boot id, DMI.

Formats: pool.conf is ``master``, ``slave:<address>`` or ``broken``, whitespace trimmed, unreadable counts as nothing
known (xapi: ocaml/xapi/pool_role.ml). The inventory is KEY='value' lines (xcp-inventory). local.db is
``<config><row key=... value=.../></config>`` (xapi: ocaml/xapi/hashtbl_xml.ml).

xapi's process is read from proc here and not by psutil: an order names it by its start in clock ticks, exactly, and
psutil's create_time is that start by the wall clock, another one whenever that clock is set.
"""

import functools
import os
import re
import xml.etree.ElementTree as ElementTree
from typing import Dict, Optional, Tuple

from poolwarden_agent.core.addresses import bare, is_address
from poolwarden_agent.core.host_now import BROKEN, MASTER, MEMBER, UNREADABLE
from poolwarden_agent.dom0.system import plain_files

POOL_CONF = "etc/xensource/pool.conf"
BEFORE = "var/lib/poolwarden/pool.conf.before"
INVENTORY = "etc/xensource-inventory"
LOCAL_DB = "var/lib/xcp/local.db"
STARTUP_COOKIE = "var/run/xapi_startup.cookie"
INIT_COMPLETE = "var/run/xapi_init_complete.cookie"
XAPI_PID = "var/run/xapi.pid"
BOOT_ID = "proc/sys/kernel/random/boot_id"
SMALL = 65536
_PID = re.compile(r"[1-9][0-9]{0,8}\Z")
_TICKS = re.compile(r"[0-9]{1,18}\Z")


@functools.lru_cache(maxsize=256)
def below(root: str, path: str) -> str:
    """The path below this root. The same few are wanted each two seconds, and putting one together costs a stat."""
    return os.path.join(root, path)


def read(root: str, path: str, limit: int = SMALL) -> Optional[str]:
    """A small text file's content, stripped; None if it cannot be read or is larger than ``limit`` bytes."""
    try:
        data = _bytes(below(root, path), limit + 1)
    except OSError:
        return None
    return None if len(data) > limit else data.decode("utf-8", "replace").strip()


def _bytes(path: str, most: int) -> bytes:
    """At most so many bytes of a file: a dozen files are read each two seconds, and open() asks more of the kernel."""
    descriptor, size = plain_files.sized(path)
    try:
        data = os.read(descriptor, most)
        while data and len(data) < most and len(data) != size:  # what proc tells has no size beforehand
            more = os.read(descriptor, most - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(descriptor)


def pool_conf(root: str) -> Tuple[str, str]:
    """Role and master address that pool.conf says now; ("", "") if it cannot be read."""
    text = read(root, POOL_CONF)
    if text == "master":
        return MASTER, ""
    if text and text.startswith("slave:"):
        return MEMBER, bare(text[len("slave:") :].strip())
    # A file that is not there is broken to xapi (xapi: ocaml/xapi/pool_role.ml); one that cannot be read is not known.
    path = os.path.join(root, POOL_CONF)
    gone = text is None and os.path.isdir(os.path.dirname(path)) and not os.path.lexists(path)
    return (BROKEN, "") if text is not None or gone else (UNREADABLE, "")


def host_name(root: str) -> str:
    """The host's own name without its domain; an address in its place is kept whole."""
    name = read(root, "etc/hostname") or ""
    return name if is_address(name) else name.split(".")[0]


def write_pool_conf(root: str, address: str) -> None:
    """Make pool.conf name this master: temporary file, fsync, rename, as xapi itself does (unixext.ml).

    What it said before is kept beside the agent's state, as ``pool.conf.before``.

    :raises OSError: it could not be written; the old content stands.
    """
    path = os.path.join(root, POOL_CONF)
    temporary = path + ".poolwarden"
    try:
        with plain_files.new(temporary) as file:
            file.write(("slave:%s" % address).encode("utf-8"))
            file.flush()
            os.fchmod(file.fileno(), os.stat(path).st_mode & 0o777)
            os.fsync(file.fileno())
        if read(root, POOL_CONF) != "slave:%s" % address:
            _keep(path, os.path.join(root, BEFORE))  # after what must not fail has its room
        os.rename(temporary, path)
    except OSError:
        _gone(temporary)
        raise
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep(path: str, kept: str) -> None:
    """Keep a file under another name: by a link, which needs no room on a full disk, else by a copy.

    Fails silently: a superseded master that cannot keep a copy of one word must become a member all the same.
    """
    new = kept + ".new"
    try:
        _gone(new)
        try:
            os.link(path, new)
        except OSError:
            with plain_files.new(new) as copy:
                copy.write(_bytes(path, SMALL))
        os.rename(new, kept)
    except OSError:
        _gone(new)


def _gone(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def inventory(root: str) -> Dict[str, str]:
    """/etc/xensource-inventory as a dictionary; empty if it cannot be read."""
    found = {}
    for line in (read(root, INVENTORY) or "").splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip():
            found[key.strip()] = value.strip().strip("'\"")
    return found


def ha_armed(root: str) -> Optional[bool]:
    """local.db's ha.armed; None where it cannot be read. A local.db without the row has never armed HA."""
    text = read(root, LOCAL_DB, 1024 * 1024)
    return None if text is None else _armed(text) if len(text) > SMALL else _remembered(text)


@functools.lru_cache(maxsize=4)
def _remembered(text: str) -> Optional[bool]:
    """The same text says the same: it is parsed once, and read each time."""
    return _armed(text)


def _armed(text: str) -> Optional[bool]:
    if "<!" in text:
        return None
    try:
        rows = ElementTree.fromstring(text).iter("row")
        values = {row.get("key"): row.get("value") for row in rows}
    except ElementTree.ParseError:
        return None
    return values.get("ha.armed", "false") != "false"


def modified(root: str, path: str) -> Optional[float]:
    """When a file was last changed; None if it is not there."""
    try:
        return os.stat(below(root, path)).st_mtime
    except OSError:
        return None


def exists(root: str, path: str) -> bool:
    return os.path.exists(below(root, path))


def xapi_process(root: str) -> Tuple[int, int]:
    """xapi's pid and start time in clock ticks since boot (proc(5), field 22); (0, 0) if no such process runs."""
    text = read(root, XAPI_PID, 64)
    if not text or not _PID.match(text):
        return 0, 0
    stat = read(root, "proc/%s/stat" % text)
    if stat is None:
        return 0, 0
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X") or not _TICKS.match(fields[19]):
        return 0, 0
    return int(text), int(fields[19])
