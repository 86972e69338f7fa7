"""policy.conf: this host's own rules (core/local_policy.py), read by root alone and again whenever the file changes.

Rules
-----
* A key that is left out has its safe default, and so has a file that is not there.
* A file that cannot be used is told, and every default stands: nothing that it has allowed is allowed by a broken one.
  What it denies beyond the defaults is not known then, so orders that change this host are refused until it is mended.
* A file that another user could write is not used.
"""

import configparser
import os
import stat
from typing import Dict, NamedTuple, Optional, Tuple

from poolwarden_agent.core import local_policy, order_kinds
from poolwarden_agent.core.local_policy import LocalPolicy

FILE = "etc/poolwarden/policy.conf"
IN_USE = "var/lib/poolwarden/fence-proxy-in-use"  # the package's note (poolwarden-agent.spec)
LONGEST = 65536
# What a broken file leaves: looking, and whatever makes a pool safe again.
LEFT = order_kinds.LOOKING + ("claim", "set_tombstone", "toolstack_release", "release_gc", "show_message")
BROKEN = LocalPolicy(deny=tuple(kind for kind in order_kinds.KNOWN if kind not in LEFT), place_database="never")
_CHOICES = {
    "addresses": (local_policy.KNOWN_ALONE, local_policy.DATABASE, local_policy.ANY),
    "place_database": (local_policy.UNATTENDED, local_policy.APPROVED, local_policy.NEVER, local_policy.ANY),
}
_NUMBERS = {"generation_window": (1, 10**9), "orders_per_hour": (1, 1000), "probe_targets": (0, 128)}
_SWITCHES = {"yes": True, "no": False}


class Read(NamedTuple):
    """The rules in force; ``trouble``: why they are not the file's, in one sentence."""

    policy: LocalPolicy
    trouble: str


class PolicyFile(object):
    """The file below one root."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, FILE)
        self._stamp: Optional[Tuple[int, int, int]] = None
        self._known = Read(LocalPolicy(), "")

    def look(self) -> Read:
        """The rules now."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self._stamp, self._known = None, Read(LocalPolicy(), "")
            return self._known
        except OSError as error:
            return Read(BROKEN, "%s cannot be read: %s" % (self._path, error.strerror))
        stamp = (found.st_ino, found.st_ctime_ns, found.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._known = stamp, self._read(found)
        return self._known

    def _read(self, found: os.stat_result) -> Read:
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            return Read(BROKEN, "%s is not a file that root alone can write: not used" % self._path)
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                text = os.read(descriptor, LONGEST).decode("utf-8")
            finally:
                os.close(descriptor)
            return Read(parsed(text), "")
        except OSError as error:
            return Read(BROKEN, "%s cannot be read: %s" % (self._path, error.strerror))
        except ValueError as error:
            text = "%s: %s; orders that change this host are refused until it is mended"
            return Read(BROKEN, text % (self._path, error))


def keep_fence_proxy(root: str) -> None:
    """Allow fence agents in a policy.conf that has just been installed beside an agent.conf that names some.

    The package has left a note, because the version before had no such file: what is in use stays so. Once.
    :raises OSError: it cannot be done; it is tried at the next installation.
    """
    note, path = os.path.join(root, IN_USE), os.path.join(root, FILE)
    if not os.path.lexists(note):
        return
    with open(path, encoding="utf-8") as file:
        text = file.read()
    temporary = path + ".new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text.replace("\nfence_proxy = no\n", "\nfence_proxy = yes\n"))
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    os.unlink(note)


def parsed(text: str) -> LocalPolicy:
    """The rules that this text says. :raises ValueError: the key, what is wrong with it and what is expected."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    strange = [name for name in parser.sections() if name != "policy"]
    if strange or not parser.has_section("policy"):
        raise ValueError("expected one section [policy]" + (", not [%.40s]" % strange[0] if strange else ""))
    given = dict(parser.items("policy"))
    unknown = sorted(set(given) - set(LocalPolicy._fields))
    if unknown:
        raise ValueError("unknown key %.40s; known are %s" % (unknown[0], ", ".join(LocalPolicy._fields)))
    return LocalPolicy(**_values(given))


def _values(given: Dict[str, str]) -> Dict[str, object]:
    return {key: _value(key, text.strip()) for key, text in given.items()}


def _value(key: str, text: str) -> object:
    if key == "deny":
        kinds = tuple(item.strip() for item in text.split(",") if item.strip())
        strange = [kind for kind in kinds if kind not in order_kinds.KNOWN]
        if strange:
            raise ValueError("deny names %.40s; known are %s" % (strange[0], ", ".join(order_kinds.KNOWN)))
        return kinds
    if key in _CHOICES:
        if text not in _CHOICES[key]:
            raise ValueError("%s is %.40r; expected %s" % (key, text, " or ".join(_CHOICES[key])))
        return text
    if key in _NUMBERS:
        least, most = _NUMBERS[key]
        if not text.isdigit() or not least <= int(text[:12]) <= most:
            raise ValueError("%s is %.40r; expected %d..%d" % (key, text, least, most))
        return int(text)
    if text not in _SWITCHES:
        raise ValueError("%s is %.40r; expected yes or no" % (key, text))
    return _SWITCHES[text]
