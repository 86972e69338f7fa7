"""The collector's order key: what it signs everything with that changes an agent's state.

Rules
-----
* One Ed25519 key (RFC 8032) per collector, made at its first start, 0600 in its state directory. A host pins the public
  key when it enrols, and takes no order from then on that another key has signed.
* ``order-key-next.pem`` is the key that shall take its place (make_next): nothing is signed with it, and hosts that
  enrol pin it as well. It takes effect when it is renamed to ``order-key.pem`` and the collector started again.
* What is signed begins with ``CONTEXT``, so that a signature made for something else is never one over an order.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poolwarden_collector.shell.config.certificates import CaError, write_whole

FILE = "order-key.pem"
NEXT = "order-key-next.pem"
CONTEXT = b"poolwarden signed content v1\0"


class OrderKeyError(Exception):
    """The key's file cannot be used; one line that says which, why, and what to do."""


class OrderKey:
    """A key to sign with, and its public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()  # 32 bytes
        self.key_id = key_id(self.public)

    def sign(self, payload: bytes) -> bytes:
        """64 bytes, over ``CONTEXT`` and ``payload``."""
        return self._private.sign(CONTEXT + payload)


def key_id(public: bytes) -> str:
    """What names a public key in the contract."""
    return hashlib.sha256(public).hexdigest()[:16]


def load_or_make(state_dir: Path) -> OrderKey:
    """The collector's key; made where there is none yet. Raises OrderKeyError."""
    return _load_or_make(state_dir / FILE)


def make_next(state_dir: Path) -> OrderKey:
    """The key that shall take its place; made where there is none yet. Raises OrderKeyError."""
    return _load_or_make(state_dir / NEXT)


def next_key(state_dir: Path) -> OrderKey | None:
    """The same, if there is one. Raises OrderKeyError."""
    return make_next(state_dir) if (state_dir / NEXT).exists() else None


def _load_or_make(path: Path) -> OrderKey:
    try:
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            write_whole(path, made.private_bytes(*form))
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, CaError) as error:
        raise OrderKeyError(f"{path}: {error}; restore it from a backup, or enrol every host anew") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OrderKeyError(f"{path}: is no Ed25519 key; restore it from a backup, or enrol every host anew")
    return OrderKey(key)
