"""The files of this host's identity below /etc/poolwarden/tls: replaced together, or not at all.

    ca.pem cert.pem key.pem    as the link side reads them
    order-key                  the pinned public key of the collector's orders, hex
    order-keys                 all of them, where there are or were several (dom0/system/order_key.py)
    renewal                    when the certificate came and when its successor is asked for, JSON
    next-key.pem               the key that is being certified: kept until it is, so that asking again asks for the same

Rules
-----
* Each new file is written and synced under a name of its own (``.new``) first; the certificate's before all others.
* Then they are renamed: the key first, which is the one step that decides, the certificate last. Whatever ended the
  program in between, `settled` finds a ``cert.pem.new``: with the key of ``key.pem`` the rest is renamed, else dropped.
  So key and certificate belong together as soon as anybody has looked.
* One at a time: a lock on the directory. Only root writes there.
"""

import contextlib
import fcntl
import json
import os
import ssl
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Sequence

from poolwarden_agent.dom0.system import plain_files

CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
ORDER_KEY, ORDER_KEYS, RENEWAL, NEXT_KEY = "order-key", "order-keys", "renewal", "next-key.pem"
ORDER = (KEY, CA, ORDER_KEY, ORDER_KEYS, RENEWAL, CERTIFICATE)  # in which they are renamed
NEW = ".new"
MOST = 256 * 1024

Terms = NamedTuple("Terms", [("issued_s", float), ("renew_after_s", float)])


class TlsError(Exception):
    """The files cannot be read or written; the text says which and why."""


class TlsFiles(object):
    """The directory of one host."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def read(self, name: str) -> bytes:
        """A file's content; empty if it is not there. :raises TlsError: it cannot be read."""
        try:
            with os.fdopen(plain_files.to_read(self.path(name)), "rb") as file:
                return file.read(MOST)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise TlsError("%s: %s" % (self.path(name), error.strerror)) from None

    def terms(self) -> Optional[Terms]:
        """When the certificate came and when it is renewed; None: it was not enrolled, or nothing of that is known."""
        try:
            found = json.loads(self.read(RENEWAL).decode("utf-8") or "null")
            return None if found is None else Terms(*(float(found.get(name, 0)) for name in Terms._fields))
        except (TlsError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    def next_key(self, make: Callable[[], bytes]) -> str:
        """The path of the key to be certified. Where none waits ``make`` gives one, which is kept first."""
        if not self.read(NEXT_KEY):
            self._write(NEXT_KEY, make())
        return self.path(NEXT_KEY)

    def drop_next_key(self) -> None:
        """The key that waited is not wanted any more."""
        _gone(self.path(NEXT_KEY))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else replaces them meanwhile."""
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TlsError("%s: %s" % (self.directory, error.strerror)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def install(
        self,
        certificate: bytes,
        ca: bytes,
        terms: Terms,
        order_keys: Sequence[str] = (),
        taking: Callable[[], None] = lambda: None,
    ) -> None:
        """Replace certificate, authority and key by these and by the key that waited. No ``order_keys``: they stay.

        ``taking`` is called once all are good and written, right before they take their names.

        :raises TlsError: they do not belong together, or cannot be written; what was there stands.
        """
        with self._locked():
            self._mend()
            key = self.read(NEXT_KEY)
            content = {
                CERTIFICATE: certificate,
                CA: ca,
                RENEWAL: json.dumps(terms._asdict()).encode() + b"\n",
                KEY: key,
            }
            if order_keys:
                content[ORDER_KEY] = order_keys[0].encode() + b"\n"
            if len(order_keys) > 1 or (order_keys and os.path.lexists(self.path(ORDER_KEYS))):
                content[ORDER_KEYS] = "".join(each + "\n" for each in order_keys).encode()
            try:
                self._stage(content)
            except TlsError:
                self._drop()
                raise
            taking()
            self._take()

    def _stage(self, content: Dict[str, bytes]) -> None:
        self._write(CERTIFICATE + NEW, content[CERTIFICATE])
        for name in set(content) - {CERTIFICATE}:
            self._write(name + NEW, content[name])
        if not self._pair(CERTIFICATE + NEW, KEY + NEW):
            raise TlsError("the certificate that came is not one of this host's key")
        try:
            ssl.create_default_context(cafile=self.path(CA + NEW))
        except (ssl.SSLError, OSError):
            raise TlsError("what came with the certificate holds no authority's certificate") from None
        _sync(self.directory)

    @contextlib.contextmanager
    def settled(self) -> Iterator[str]:
        """What an interrupted replacement left is finished or dropped, and nobody replaces them meanwhile.

        Gives what was done, or an empty text. :raises TlsError: it cannot be.
        """
        with self._locked():
            yield self._mend()

    def _mend(self) -> str:
        if not os.path.exists(self.path(CERTIFICATE + NEW)):
            for name in ORDER:
                _gone(self.path(name + NEW))
            return ""
        if self._pair(CERTIFICATE + NEW, KEY):
            self._take()
            return "an interrupted replacement of this host's certificate was finished"
        self._drop()
        return "an interrupted replacement of this host's certificate was dropped; the one before it stands"

    def _pair(self, certificate: str, key: str) -> bool:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS).load_cert_chain(self.path(certificate), self.path(key))
        except (ssl.SSLError, OSError):
            return False
        return True

    def _take(self) -> None:
        try:
            for name in ORDER:
                if os.path.exists(self.path(name + NEW)):
                    os.rename(self.path(name + NEW), self.path(name))
                    _sync(self.directory)
            if self.read(NEXT_KEY) == self.read(KEY):
                self.drop_next_key()
        except OSError as error:
            raise TlsError("%s: %s" % (self.directory, error.strerror)) from None

    def _drop(self) -> None:
        """The certificate's last: while it is there the others are known to be of an unfinished replacement."""
        for name in ORDER:
            _gone(self.path(name + NEW))

    def _write(self, name: str, content: bytes) -> None:
        """Whole, synced, root's alone."""
        path = self.path(name)
        temporary = path + ".part"
        try:
            _gone(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except OSError as error:
            _gone(temporary)
            raise TlsError("%s: %s" % (path, error.strerror)) from None


def _sync(directory: str) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TlsError("%s: %s" % (directory, error.strerror)) from None


def _gone(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
