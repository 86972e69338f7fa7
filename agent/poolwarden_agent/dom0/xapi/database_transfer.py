"""Database handover: pieces of the file that xapi would load, read here and placed there for its next start as master.

Reading
-------
Only xapi's own database files are read. The checksum is of the whole file and computed once per file as it stands
(inode, size, time, generation); a file that is another one by the next piece is said, and no bytes of it are given.

Placing (xapi: ocaml/xapi/xapi.ml, a restore_db.db stands in for state.db at a master's next start, once) ------- Pieces
go to a temporary name. With the last one: fsync, size and checksum verified and parsed, its pool compared, then
``restore_db.db.generation``, then the rename to ``restore_db.db``, each durable before the next. So there is never a
restore_db.db that is half, nor one without its generation; a generation without its file means nothing to xapi.
Removing goes the other way round.
"""

import errno
import hashlib
import os
from typing import Any, NamedTuple, Optional, Tuple

from poolwarden_agent.core.orders import DONE, FAILED
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.dom0.system import plain_files
from poolwarden_agent.dom0.xapi import database
from poolwarden_agent.host_port import Act, DatabasePiece

PLACED = os.path.join(database.DIRECTORY, "restore_db.db")
GENERATION = PLACED + ".generation"
TEMPORARY = PLACED + ".poolwarden"
READABLE = tuple(
    os.path.join(database.DIRECTORY, name)
    for name in ("state.db", "restore_db.db", "ha_metadata.db", "gen_metadata.db")
)

# A file as it stands: any change of it shows in one of these.
Standing = NamedTuple("Standing", [("path", str), ("generation", int), ("inode", int), ("size", int), ("time_ns", int)])


class Handover(object):
    """The database files below one root. For one thread at a time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._summed: Tuple[Optional[Standing], str] = (None, "")

    # ------------------------------------------------------------------------------------------ reading

    def read(self, path: str, offset: int, limit: int) -> DatabasePiece:
        """At most ``limit`` bytes from ``offset``; with an empty path of the file that xapi would load."""
        path = path or database.loads(self._root)[0]
        if path not in READABLE:
            return _nothing(path, "%.80r is no database file of xapi's" % path if path else "there is no database file")
        try:
            with os.fdopen(plain_files.to_read(self._at(path)), "rb") as file:
                return self._read(file, path, offset, limit)
        except OSError as error:
            return _nothing(path, "%s cannot be read: %s" % (path, error.strerror))

    def _read(self, file: Any, path: str, offset: int, limit: int) -> DatabasePiece:
        standing = self._standing(path, file)
        if standing.size > database.BIGGEST:
            return _nothing(path, "%s has %d bytes, more than is handed over" % (path, standing.size))
        if self._summed[0] != standing:
            if offset:
                return _nothing(path, "%s is another file than at its first piece" % path, standing)
            self._summed = (standing, _checksum(file))
        file.seek(offset)
        chunk = file.read(limit)
        if self._standing(path) != standing:
            return _nothing(path, "%s has changed while it was read" % path, standing)
        return DatabasePiece(path, standing.generation, standing.size, offset, chunk, self._summed[1], "")

    def _standing(self, path: str, file: Any = None) -> Standing:
        found = os.stat(self._at(path)) if file is None else os.fstat(file.fileno())
        generation = database.generation_of(self._root, path)
        return Standing(path, generation, found.st_ino, found.st_size, found.st_mtime_ns)

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path)

    # ------------------------------------------------------------------------------------------ placing

    def placed(self) -> Optional[int]:
        """The generation of the restore_db.db that is there; None: there is none."""
        return database.generation_of(self._root, PLACED) if os.path.lexists(self._at(PLACED)) else None

    def place(self, piece: Piece, chunk: bytes, pool: str) -> Act:
        """Add a piece of a database of this pool; the first one clears away what was placed before."""
        try:
            if piece.offset == 0:
                self._clear()
            missing = self._append(piece, chunk)
            if missing:
                return Act(FAILED, missing)
            if not piece.last:
                return Act(DONE, "%d of %d bytes" % (piece.offset + len(chunk), piece.total_bytes))
            return self._finish(piece, pool)
        except OSError as error:
            return Act(FAILED, "the database cannot be placed: %s" % (error.strerror or error))

    def _append(self, piece: Piece, chunk: bytes) -> str:
        if piece.offset == 0:
            plain_files.new(self._at(TEMPORARY)).close()
        try:
            descriptor = plain_files.existing(self._at(TEMPORARY))
        except FileNotFoundError:
            return "a piece is missing: nothing has come, this one begins at %d" % piece.offset
        try:
            size = os.fstat(descriptor).st_size
            if size < piece.offset:
                return "a piece is missing: %d bytes have come, this one begins at %d" % (size, piece.offset)
            # A piece that comes again is written again; what came after it comes again too.
            os.ftruncate(descriptor, piece.offset)
            written = os.pwrite(descriptor, chunk, piece.offset)
            if written != len(chunk):
                raise OSError(errno.ENOSPC, "only %d of %d bytes were written" % (written, len(chunk)))
            if piece.last:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return ""

    def _finish(self, piece: Piece, pool: str) -> Act:
        temporary = self._at(TEMPORARY)
        with os.fdopen(plain_files.to_read(temporary), "rb") as file:
            size, digest = os.fstat(file.fileno()).st_size, _checksum(file)
        if (size, digest) != (piece.total_bytes, piece.sha256):
            self._clear()
            return Act(FAILED, "what has come is not what was sent (sha256 %.12s, %d bytes)" % (digest, size))
        strange = _of_another_pool(temporary, pool)
        if strange:
            self._clear()
            return Act(FAILED, "what has come is no database of this pool: %s" % strange)
        self._write_generation(piece.generation)
        # safety: whole, verified and with its generation before it has the name that xapi looks for.
        os.rename(temporary, self._at(PLACED))
        self._sync_directory()
        return Act(DONE, "%d bytes of generation %d are in place" % (size, piece.generation))

    def _write_generation(self, generation: int) -> None:
        temporary = self._at(GENERATION + ".poolwarden")
        with plain_files.new(temporary) as file:
            file.write(b"%d" % generation)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, self._at(GENERATION))
        self._sync_directory()

    # ------------------------------------------------------------------------------------------ removing

    def remove(self) -> Act:
        """Delete what is placed or half placed."""
        try:
            self._clear()
        except OSError as error:
            return Act(FAILED, "the placed database cannot be removed: %s" % (error.strerror or error))
        return Act(DONE, "no database is placed any more")

    def _clear(self) -> None:
        for name in (PLACED, GENERATION, TEMPORARY, GENERATION + ".poolwarden"):
            try:
                os.unlink(self._at(name))
            except FileNotFoundError:
                continue
            if name == PLACED:
                # safety: gone for good before its generation goes: one without the other would be loaded as 0.
                self._sync_directory()
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._at(database.DIRECTORY), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _of_another_pool(path: str, pool: str) -> str:
    """Why this file is no database of this pool; empty: it is."""
    try:
        found = database.pool_of(path)
    except database.StateDbError as error:
        return str(error)
    # safety: a xapi that loads another pool's database forgets every host, VM and disk of its own.
    return "" if found == pool else "it is of pool %.40s, not %s" % (found, pool)


def _nothing(path: str, text: str, standing: Optional[Standing] = None) -> DatabasePiece:
    generation = standing.generation if standing is not None else 0
    return DatabasePiece(path, generation, 0, 0, b"", "", text)


def _checksum(file: Any) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    for chunk in iter(lambda: file.read(database.CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()
