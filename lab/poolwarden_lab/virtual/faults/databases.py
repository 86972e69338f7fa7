"""What local root, a full disk or a power cut leaves in xapi's files: state.db, restore_db.db, pool.conf.

Nothing here asks a process: a running xapi notices a changed pool.conf or database at its next start only, and writes
its own memory over state.db at its next flush (a master) or its next copy (a member) before that. A generation file is
left as it is where a content is damaged: xapi writes the content first.
"""

from __future__ import annotations

from poolwarden_lab.statedb import BadDatabase, StateDb, dump_state, parse_state
from poolwarden_lab.virtual.world.ground import Ground, HostName, NoSuchThing
from poolwarden_lab.xapi.database import DANGLING, RESTORE_DB, STATE_DB, generation_on_disk
from poolwarden_lab.xapi.pool_conf import POOL_CONF
from poolwarden_lab.xapi.trees import MemoryDisk, VmSpec, make_pool_disks

DATABASES = {"state.db": STATE_DB, "restore_db": RESTORE_DB}
DAMAGES = ("truncated", "empty", "zeros", "missing")
FOREIGN_POOL = "elsewhere"


def damaged(content: bytes, how: str) -> bytes | None:
    """A file's content after this befell it; None: the file is gone."""
    if how == "truncated":
        return content[: len(content) * 3 // 5]
    if how == "zeros":  # ext4 after a power cut: the size is there, the blocks are not
        return b"\0" * len(content)
    return b"" if how == "empty" else None


class FileFaults(Ground):
    """What befalls xapi's files. Raises NoSuchThing where there is nothing to change, or nothing can be written."""

    def damage(self, host: HostName, file: str, how: str) -> None:
        """A database (``state.db``, ``restore_db``) or pool.conf is truncated, empty, all zeros, or missing.

        A restore_db that is not there is made of state.db first.
        """
        disk, path = self._disk(host), DATABASES.get(file, POOL_CONF)
        source = path if disk.exists(path) else STATE_DB if path == RESTORE_DB else path
        content = damaged(self._read(disk, source), how)
        if content is None:
            disk.remove(path)
            disk.remove(path + ".generation")
            return
        self._by_hand(host, path)
        if path == RESTORE_DB and source == STATE_DB:
            self._write(disk, path + ".generation", disk.read(STATE_DB + ".generation"))
        self._write(disk, path, content)

    def unloadable(self, host: HostName, file: str = "state.db") -> None:
        """A row of the database names one that is not there: every parser reads it, and xapi's start fails on it."""
        disk, path = self._disk(host), DATABASES[file]
        self._by_hand(host, path)
        state = self._parsed(disk, path)
        state.tables.setdefault("PIF", {})["OpaqueRef:pif"] = {"uuid": "pif", DANGLING: "OpaqueRef:gone"}
        self._write(disk, path, dump_state(state))

    def raise_generation(self, host: HostName, file: str, by: int) -> None:
        """The database has a higher generation than its host's state.db, and the same content."""
        disk, path = self._disk(host), DATABASES[file]
        state = self._parsed(disk, STATE_DB)
        state.generation = max(state.generation, generation_on_disk(disk, STATE_DB)) + by
        self._by_hand(host, path)
        self._put(disk, path, state)

    def foreign(self, host: HostName, file: str, by: int) -> None:
        """The database is another pool's, so much newer than this host's own was: the wrong backup was restored."""
        disk, path = self._disk(host), DATABASES[file]
        alone = make_pool_disks(2, FOREIGN_POOL, [VmSpec("stranger")], addresses=["10.98.0.11", "10.98.0.12"])[0]
        state = parse_state(alone.files[STATE_DB])
        state.generation = generation_on_disk(disk, STATE_DB) + by
        self._by_hand(host, path)
        self._put(disk, path, state)

    def copy_database(self, host: HostName, of: HostName) -> None:
        """Another host's state.db, with its generation, stands in place of this host's."""
        disk, source = self._disk(host), self._disk(of)
        for path in (STATE_DB, STATE_DB + ".generation"):
            self._write(disk, path, self._read(source, path))

    def back_up_database(self, host: HostName) -> None:
        """Somebody keeps a copy of state.db as it is on disk now."""
        disk = self._disk(host)
        self.backups[self.find(host).name] = tuple(self._read(disk, STATE_DB + end) for end in ("", ".generation"))

    def restore_database(self, host: HostName) -> None:
        """The copy that was kept last is back."""
        disk, kept = self._disk(host), self.backups.get(self.find(host).name)
        if kept is None:
            raise NoSuchThing(f"no backup of state.db of {host} was taken")
        for end, content in zip(("", ".generation"), kept, strict=True):
            self._write(disk, STATE_DB + end, content)

    def write_pool_conf(self, host: HostName, text: str) -> None:
        """Local root writes pool.conf; xapi reads it at its next start."""
        self._write(self._disk(host), POOL_CONF, text.encode())

    # ------------------------------------------------------------------------------------------ files

    backups: dict[str, tuple[bytes, ...]]

    def _by_hand(self, host: HostName, path: str) -> None:
        """A restore_db that is there now is nobody's but this person's."""
        if path == RESTORE_DB:
            place = self.find(host)
            place.pool.invariants.restored_by_hand.add(place.name)

    def _disk(self, host: HostName) -> MemoryDisk:
        place = self.find(host)
        return place.pool.pool.hosts[place.name].disk

    @staticmethod
    def _read(disk: MemoryDisk, path: str) -> bytes:
        try:
            return disk.read(path)
        except OSError as error:
            raise NoSuchThing(f"{path}: {error.strerror}") from None

    @staticmethod
    def _write(disk: MemoryDisk, path: str, content: bytes) -> None:
        try:
            disk.write(path, content)
        except OSError as error:
            raise NoSuchThing(f"{path} cannot be written: {error.strerror}") from None

    def _parsed(self, disk: MemoryDisk, path: str) -> StateDb:
        try:
            return parse_state(self._read(disk, path))
        except BadDatabase as error:
            raise NoSuchThing(str(error)) from None

    def _put(self, disk: MemoryDisk, path: str, state: StateDb) -> None:
        self._write(disk, path, dump_state(state))
        self._write(disk, path + ".generation", str(state.generation).encode())
