"""`poolwarden-agent trust-key`: whose orders this host obeys, at the word of root on this host.

    poolwarden-agent trust-key --list
    poolwarden-agent trust-key KEY             this key alone, in place of whatever is pinned
    poolwarden-agent trust-key --add KEY       this key as well: of a second collector, or the next one of the first
    poolwarden-agent trust-key --remove KEY    not this key any more; KEY may be its id

Enrolment pins the keys of its collectors by itself. This is for hosts whose certificates come from a PKI of their own,
and for the day on which a collector has another key. The running agent takes it up by itself, and tells the collector
at its next Hello. The last key is not removed: without any, whatever is unsigned would be obeyed.
"""

import argparse
import re
from typing import List, Optional, Sequence

from poolwarden_agent.dom0.system import files, order_key
from poolwarden_agent.host_port import PinnedKeys

_KEY = re.compile(r"[0-9a-fA-F]{64}\Z")
_ID = re.compile(r"[0-9a-fA-F]{16}\Z")
NO_KEY = "give the 64 hex digits that poolwarden-collector order-key prints"


def main(words: List[str]) -> int:
    given = _arguments(words)
    pinned = order_key.OrderKeys(given.root).look()
    if given.list:
        return _list(pinned)
    text = given.key or given.add or given.remove or ""
    if not (_KEY.match(text) or (given.remove and _ID.match(text))):
        return _no("%.70r is no order key" % text, NO_KEY)
    if given.remove:
        return _remove(given.root, given.name, pinned, text.lower())
    return _pin(given.root, given.name, pinned, bytes.fromhex(text), bool(given.add))


def _arguments(words: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="poolwarden-agent trust-key", description="Whose orders this host obeys.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "key", nargs="?", default=None, help="64 hex digits, as poolwarden-collector order-key prints them"
    )
    what.add_argument("--add", default="", metavar="KEY", help="obey what this key signs as well")
    what.add_argument("--remove", default="", metavar="KEY", help="obey it no longer; its id will do")
    what.add_argument("--list", action="store_true", help="show the keys that are pinned, and change nothing")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help="this host's name, where another key is pinned already")
    return parser.parse_args(words)


def _list(pinned: PinnedKeys) -> int:
    for each in pinned.keys:
        print("%s  %s" % (each.key_id, each.public.hex()))
    if pinned.trouble:
        return _no(
            "%s: nothing is obeyed" % pinned.trouble, "mend it, or pin a key anew: poolwarden-agent trust-key KEY"
        )
    if not pinned.keys:
        print("no order key is pinned: orders are taken unsigned")
    return 0


def _pin(root: str, name: str, pinned: PinnedKeys, public: bytes, add: bool) -> int:
    """This key alone, or beside the others."""
    there = [each.public for each in pinned.keys]
    wanted = there + [public] if add else [public]
    if there == [public] or (add and public in there):
        print("order key %s is pinned already" % order_key.key_id(public))
        return 0
    if add and pinned.trouble:
        return _no(pinned.trouble, "mend it first, or pin this key alone: poolwarden-agent trust-key KEY")
    if len(wanted) > order_key.MOST:
        return _no("%d keys are pinned, and more are not" % len(there), "poolwarden-agent trust-key --remove KEY")
    said = "Whoever holds the new one commands it %s from now on." % ("as well" if add else "alone")
    if (there or pinned.trouble) and not _confirmed(root, name, pinned, said):
        return 1
    why = _written(root, wanted)
    if why is not None:
        return why
    others = "an unpinned key has signed" if add and there else "another key has signed"
    print("order key %s is pinned; from now on nothing that %s is obeyed" % (order_key.key_id(public), others))
    return 0


def _remove(root: str, name: str, pinned: PinnedKeys, wanted: str) -> int:
    gone = [each for each in pinned.keys if wanted in (each.key_id, each.public.hex())]
    kept = [each.public for each in pinned.keys if each not in gone]
    if pinned.trouble:
        return _no(pinned.trouble, "mend it first, or pin a key anew: poolwarden-agent trust-key KEY")
    if not gone:
        return _no("that order key is not pinned", "poolwarden-agent trust-key --list")
    if not kept:
        return _no(
            "it is the only one: without it unsigned orders would be obeyed", "poolwarden-agent trust-key NEW-KEY"
        )
    if not _confirmed(root, name, pinned, "Nothing that %s has signed is obeyed from now on." % gone[0].key_id):
        return 1
    why = _written(root, kept)
    if why is not None:
        return why
    print("order key %s is not pinned any more" % gone[0].key_id)
    return 0


def _written(root: str, keys: Sequence[bytes]) -> Optional[int]:
    """None if they are pinned, else the exit status."""
    try:
        order_key.pin(root, keys)
    except OSError as error:
        return _no("the key cannot be pinned: %s" % error, "make room, or look at the file's folder")
    return None


def _confirmed(root: str, name: str, pinned: PinnedKeys, said: str) -> bool:
    host = files.host_name(root)
    if not name:
        print("This host has pinned an order key (%s). %s" % (pinned.trouble or ", ".join(pinned.ids), said))
        name = input("Type this host's name (%s) to go on: " % host).strip()
    if name == host:
        return True
    _no("%r is not this host's name" % name, "nothing was done")
    return False


def _no(why: str, hint: str) -> int:
    print("poolwarden-agent: %s\n  %s" % (why, hint))
    return 1
