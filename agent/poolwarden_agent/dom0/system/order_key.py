"""The order key that this host has pinned: the public half of what its collector signs with.

Rules
-----
* The file is there: nothing unsigned is obeyed, whatever is in it. One that cannot be read, is no key, or could have
  been written by another user than root is trouble, and then nothing is obeyed at all.
* Ed25519 (RFC 8032) is verified by libsodium (PyNaCl), which is imported only where a key is pinned.
"""

import hashlib
import os
import re
import stat
from typing import Optional, Tuple

from poolwarden_agent.dom0.system import plain_files
from poolwarden_agent.host_port import NO_KEY, PinnedKey

FILE = "etc/poolwarden/tls/order-key"
_HEX = re.compile(rb"[0-9a-fA-F]{64}\s*\Z")
_LONGEST = 200

Stamp = Tuple[int, int, int]


class OrderKeyFile(object):
    """The file, read again whenever it is another one."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, FILE)
        self._seen: Optional[Stamp] = None
        self._known = NO_KEY

    def look(self) -> PinnedKey:
        """What is pinned now."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self._seen, self._known = None, NO_KEY
            return NO_KEY
        except OSError as error:
            return PinnedKey(b"", "", "%s cannot be read: %s" % (self._path, error.strerror))
        stamp = (found.st_ino, found.st_ctime_ns, found.st_mtime_ns)
        if stamp != self._seen:
            self._known = self._read(found)
            # What could not be read is looked at again the next time.
            self._seen = stamp if not self._known.trouble else None
        return self._known

    def _read(self, found: os.stat_result) -> PinnedKey:
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            return PinnedKey(b"", "", "%s is not a file that root alone can write" % self._path)
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                text = os.read(descriptor, _LONGEST)
            finally:
                os.close(descriptor)
        except OSError as error:
            return PinnedKey(b"", "", "%s cannot be read: %s" % (self._path, error.strerror))
        if not _HEX.match(text):
            return PinnedKey(b"", "", "%s does not hold 64 hex digits" % self._path)
        try:
            import nacl.bindings  # noqa: F401
        except ImportError as error:
            return PinnedKey(b"", "", "signatures cannot be verified here: %s" % error)
        public = bytes.fromhex(text.decode("ascii").strip())
        return PinnedKey(public, key_id(public), "")


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


def pin(root: str, public: bytes) -> None:
    """Pin this key in place of whatever is pinned; whole or not at all. :raises OSError: it cannot be written."""
    target = os.path.join(root, FILE)
    os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
    temporary = target + ".new"
    with plain_files.new(temporary, 0o644) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(public.hex().encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, target)
    directory = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
