"""Sessions of one xapi process.

Local sessions live in the memory of the process that made them, never expire and are valid on no other host (xapi:
ocaml/xapi/xapi_local_session.ml). Ordinary sessions are rows of the master's database that do not persist: they are
lost with the master's process, and afterwards every one of them is SESSION_INVALID.
"""

from __future__ import annotations

import uuid


class Sessions:
    """The tables of both kinds. `salt` must differ between any two processes, so that no reference ever repeats."""

    def __init__(self, salt: str) -> None:
        self._salt = salt
        self._made = 0
        self._local: set[str] = set()
        self._ordinary: dict[str, str] = {}

    def open_local(self) -> str:
        ref = self._next("local")
        self._local.add(ref)
        return ref

    def open(self, originator: str) -> str:
        ref = self._next("session")
        self._ordinary[ref] = originator
        return ref

    def close(self, ref: str) -> None:
        self._local.discard(ref)
        self._ordinary.pop(ref, None)

    def is_local(self, ref: object) -> bool:
        return ref in self._local

    def is_open(self, ref: object) -> bool:
        return ref in self._ordinary

    @property
    def counts(self) -> tuple[int, int]:
        """(local, ordinary) sessions that are open."""
        return len(self._local), len(self._ordinary)

    def _next(self, kind: str) -> str:
        self._made += 1
        return f"OpaqueRef:{uuid.uuid5(uuid.NAMESPACE_OID, f'{self._salt}/{kind}/{self._made}')}"
