"""xapi's small files and databases as they lie there: pool.conf, local.db, the databases and what is beside them.

Forms: pool.conf (xapi: ocaml/xapi/pool_role.ml), local.db (ocaml/xapi/hashtbl_xml.ml), db.conf
(ocaml/database/parse_db_conf.ml: ``[PATH]`` and ``key:value`` lines; no such file: /var/lib/xcp/state.db alone),
generations (ocaml/database/generation.ml: a decimal number).
"""

import os
import re
import xml.etree.ElementTree as ElementTree
from typing import List, Tuple

from poolwarden_agent.core.addresses import is_address
from poolwarden_agent.core.findings import Seen, fails, familiar, holds, not_seen, private
from poolwarden_agent.dom0.assumptions.scene import Scene, Text, read
from poolwarden_agent.dom0.system import files, mounts, plain_files
from poolwarden_agent.dom0.xapi import database

DB_CONF = "etc/xensource/db.conf"
OURS = ("/var/lib/xcp/state.db", "/var/xapi/state.db")  # the latter through a link that xapi's package makes
NAMES = ("state.db", "gen_metadata.db", "ha_metadata.db")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_])?\Z")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
SPARE = 64 * 1024 * 1024
LEFT_BEHIND_S = 3600.0
BUILD_BYTES = 32 * 1024 * 1024  # of a database, looked through for xapi's version
_BUILD = re.compile(
    br"xapi_build(?:'|&apos;|&quot;)(?: |%\.)(?:'|&apos;|&quot;)([0-9][0-9.]{0,20})(?=['&.+-])"
)  # fmt: skip


def pool_conf(scene: Scene) -> Seen:
    found = read(scene.root, files.POOL_CONF)
    if found.gone:
        return fails("there is no pool.conf")
    if found.text is None:
        return not_seen(found.why)
    if found.text in ("master", "broken"):
        return holds("it says %s" % found.text)
    head, colon, address = found.text.partition(":")
    address = address.strip()
    if head == "slave" and colon and (is_address(address) or _HOST.match(address)):
        return holds("it says slave:%s" % private(address))
    return fails("it says %s" % (private(repr(found.text[:40])) if found.text else "nothing"))


def local_db(scene: Scene) -> Seen:
    found = read(scene.root, files.LOCAL_DB, 1024 * 1024)
    if found.text is None:
        return not_seen("there is none yet" if found.gone else found.why)
    if "<!" in found.text:
        return fails("it has a declaration: no xapi writes one")
    try:
        top = ElementTree.fromstring(found.text)
    except ElementTree.ParseError:
        return fails("it is empty" if not found.text else "it is no well-formed XML")
    if top.tag != "config":
        return fails("it is no <config>")
    values = {row.get("key"): row.get("value") for row in top.iter("row")}
    if "ha.armed" not in values:
        return holds("no row ha.armed")
    return holds("ha.armed is %s" % familiar(str(values["ha.armed"]), "true|false"))


def named(scene: Scene) -> Seen:
    conf = read(scene.root, DB_CONF)
    if conf.text is None and not conf.gone:
        return not_seen("db.conf: %s" % conf.why)
    paths, compressed = _conf(conf.text or "")
    strange = [path for path in paths if os.path.normpath(path) not in OURS]
    if strange:
        return fails("db.conf names %s" % private(strange[0]))
    if compressed:
        return fails("db.conf has compress:true")
    state = read(scene.root, os.path.join(database.DIRECTORY, "state.db"), 1)
    there = [name for name in NAMES if _there(scene, name)]
    if there:
        return holds("%s; db.conf %s" % (", ".join(there), "names state.db" if paths else "is not there or names none"))
    if state.gone and scene.answers() is True:
        return fails("xapi answers, and none of them is in /var/lib/xcp")
    return not_seen("there is no database yet" if state.gone else state.why)


def _conf(text: str) -> Tuple[List[str], bool]:
    """The paths that db.conf names, and whether one of them is to be compressed."""
    lines = [line.strip() for line in text.splitlines()]
    paths = [line[1:-1] for line in lines if line.startswith("[") and line.endswith("]")]
    return paths, "compress:true" in [line.replace(" ", "").lower() for line in lines]


def _there(scene: Scene, name: str) -> bool:
    return os.path.isfile(scene.path(database.DIRECTORY, name))


def _generation(scene: Scene, name: str) -> Text:
    return read(scene.root, os.path.join(database.DIRECTORY, name + ".generation"), 64)


def generation(scene: Scene) -> Seen:
    there = [name for name in NAMES if _there(scene, name)]
    if not there:
        return not_seen("there is no database here")
    said = []
    for name in there:
        found = _generation(scene, name)
        if found.gone:
            return fails("there is no %s.generation" % name)
        if found.text is None:
            return not_seen("%s.generation: %s" % (name, found.why))
        if not _NUMBER.match(found.text):
            return fails("%s.generation is no number" % name)
        said.append("%s %s" % (name, found.text))
    return holds(", ".join(said))


def on_root(scene: Scene) -> Seen:
    try:
        device, root = os.stat(scene.path(database.DIRECTORY)).st_dev, os.stat(scene.root).st_dev
    except OSError:
        return not_seen("/var/lib/xcp cannot be looked at")
    if device == root:
        return holds("one file system")
    return fails("/var/lib/xcp is a file system of its own")


def root_size(scene: Scene) -> Seen:
    sizes = [_size(scene, name) for name in NAMES if _there(scene, name)]
    top = [disk for disk in mounts.disks(scene.root) if disk.mount == "/"]
    if not sizes or not top:
        return not_seen("there is no database here" if top else "the file systems cannot be read")
    total, free = top[0].total_bytes, top[0].free_bytes
    said = "database %d MiB; / has %d MiB, %d of them free" % (max(sizes) >> 20, total >> 20, free >> 20)
    return holds(said) if total >= 3 * max(sizes) + SPARE else fails(said)


def _size(scene: Scene, name: str) -> int:
    try:
        return os.path.getsize(scene.path(database.DIRECTORY, name))
    except OSError:
        return 0


def no_restore(scene: Scene) -> Seen:
    path = os.path.join(database.DIRECTORY, "restore_db.db")
    found = read(scene.root, path, 1)
    if found.gone:
        return holds("there is none")
    written = files.modified(scene.root, path)
    if written is None:
        return not_seen(found.why)
    if scene.placed() is not False:
        return not_seen("one lies there that this agent may have placed")
    age = scene.machine.wall_s - written
    if age < LEFT_BEHIND_S:
        return not_seen("one was put there in the last hour")
    return fails("one lies there for %d h, and this agent has not placed it" % (age // 3600))


def xapi_build(root: str) -> str:
    """xapi's version as the database has it for its hosts; empty: it has none, or several of them."""
    path, _ = database.loads(root)
    found, last, left = set(), b"", BUILD_BYTES
    try:
        with os.fdopen(plain_files.to_read(os.path.join(root, path)), "rb") as file:
            while left > 0:
                chunk = file.read(min(database.CHUNK, left))
                if not chunk:
                    break
                left -= len(chunk)
                found.update(_BUILD.findall(last + chunk))
                last = chunk[-128:]
    except OSError:
        return ""
    return found.pop().decode("ascii") if len(found) == 1 else ""
