"""The order keys that this host has pinned: the public halves of what its collectors sign with.

Rules
-----
* ``order-key`` holds the first of them, and agents of earlier versions read it alone. ``order-keys`` holds all of them,
  a line each, that one first; with another one first it is of an earlier pinning, which somebody has replaced since,
  and counts for nothing. So neither a change of two files nor an older agent that knows one lets a key in.
* The first file is there: nothing unsigned is obeyed, whatever is in it. One of them that cannot be read, is no key, or
  could have been written by another user than root is trouble, and then nothing is obeyed at all.
* Ed25519 (RFC 8032) is verified by libsodium (PyNaCl), which is imported only where a key is pinned.
"""

import hashlib
import os
import re
import stat
from typing import Optional, Sequence, Tuple

from poolwarden_agent.dom0.system import plain_files
from poolwarden_agent.host_port import NO_KEYS, PinnedKey, PinnedKeys

FILE = "etc/poolwarden/tls/order-key"
ALL = "etc/poolwarden/tls/order-keys"
MOST = 16  # keys
_HEX = re.compile(rb"[0-9a-fA-F]{64}\s*\Z")
_LONGEST = 200
_LONGEST_ALL = 80 * MOST

Stamp = Optional[Tuple[int, int, int]]


class _Trouble(Exception):
    """What is there cannot be used; one sentence."""


class OrderKeys(object):
    """The files, read again whenever one of them is another one."""

    def __init__(self, root: str) -> None:
        self._paths = os.path.join(root, FILE), os.path.join(root, ALL)
        self._seen: Tuple[Stamp, ...] = ()
        self._known = NO_KEYS

    def look(self) -> PinnedKeys:
        """What is pinned now."""
        try:
            stamps = tuple(_stamp(path) for path in self._paths)
            if stamps[0] is None:
                self._seen, self._known = (), NO_KEYS
            elif stamps != self._seen:
                # What could not be read is looked at again the next time.
                self._seen = ()
                self._known = self._read(stamps[1] is not None)
                self._seen = stamps
        except _Trouble as trouble:
            return PinnedKeys((), str(trouble))
        return self._known

    def _read(self, several: bool) -> PinnedKeys:
        first = _key(self._paths[0], _content(self._paths[0], _LONGEST))
        keys = [first]
        if several:
            path = self._paths[1]
            listed = [_key(path, line) for line in _content(path, _LONGEST_ALL).splitlines() if line.strip()]
            # safety: a list that begins with another key is older than the pinning of this one, which has replaced it.
            keys = listed[:MOST] if listed and listed[0] == first else keys
        try:
            import nacl.bindings  # noqa: F401
        except ImportError as error:
            raise _Trouble("signatures cannot be verified here: %s" % error) from None
        return PinnedKeys(tuple(PinnedKey(each, key_id(each)) for each in keys), "")


def _stamp(path: str) -> Stamp:
    """None: it is not there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Trouble("%s cannot be read: %s" % (path, error.strerror)) from None
    return found.st_ino, found.st_ctime_ns, found.st_mtime_ns


def _content(path: str, most: int) -> bytes:
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise _Trouble("%s is not a file that root alone can write" % path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(descriptor, most)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _Trouble("%s cannot be read: %s" % (path, error.strerror)) from None


def _key(path: str, text: bytes) -> bytes:
    if not _HEX.match(text):
        raise _Trouble("%s does not hold 64 hex digits" % path)
    return bytes.fromhex(text.decode("ascii").strip())


def key_id(public: bytes) -> str:
    """How a key is named: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def fits(public: bytes, signature: bytes, data: bytes) -> bool:
    """Was this signature made over these bytes by the key with this public half?"""
    from nacl.bindings import crypto_sign_BYTES, crypto_sign_open
    from nacl.exceptions import CryptoError

    if len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + data, public)
    except (CryptoError, ValueError):
        return False
    return True


def pin(root: str, keys: Sequence[bytes]) -> None:
    """Pin these keys, at least one, in place of whatever is pinned. :raises OSError: they cannot be written.

    At every instant what is pinned is what was, these, or the first of these alone.
    """
    first, every = os.path.join(root, FILE), os.path.join(root, ALL)
    if os.path.lexists(every) and _beginning(every) != _beginning(first):
        os.unlink(every)  # it counts for nothing, and must not once its first key is pinned again
    _write(first, keys[:1])
    if len(keys) > 1 or os.path.lexists(every):
        _write(every, keys)


def _beginning(path: str) -> bytes:
    """The first key in it, as it stands there; empty: none that can be read."""
    try:
        return _content(path, 64).lower()
    except _Trouble:
        return b""


def _write(target: str, keys: Sequence[bytes]) -> None:
    """Whole or not at all."""
    os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
    temporary = target + ".new"
    with plain_files.new(temporary, 0o644) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(b"".join(each.hex().encode("ascii") + b"\n" for each in keys))
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, target)
    directory = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
