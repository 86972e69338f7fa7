"""`poolwarden-agent trust-key KEY`: pin the order key of this host's collector, at the word of root on this host.

Enrolment pins it by itself. This is for hosts whose certificates come from a PKI of their own, and for the day on which
a collector has another key. The running agent takes it up by itself, and tells the collector at its next Hello.
"""

import argparse
import re
from typing import List

from poolwarden_agent.dom0.system import files, order_key

_KEY = re.compile(r"[0-9a-fA-F]{64}\Z")


def main(words: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="poolwarden-agent trust-key", description="Pins the collector's order key.")
    parser.add_argument("key", help="64 hex digits, as poolwarden-collector order-key prints them on the collector")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help="this host's name, where another key is pinned already")
    given = parser.parse_args(words)
    if not _KEY.match(given.key):
        return _no(
            "%.70r is no order key" % given.key, "give the 64 hex digits that poolwarden-collector order-key prints"
        )
    public = bytes.fromhex(given.key)
    pinned = order_key.OrderKeyFile(given.root).look()
    if pinned.public == public:
        print("order key %s is pinned already" % pinned.key_id)
        return 0
    if (pinned.public or pinned.trouble) and not _confirmed(given.root, given.name, pinned.key_id or pinned.trouble):
        return 1
    try:
        order_key.pin(given.root, public)
    except OSError as error:
        return _no("the key cannot be pinned: %s" % error, "make room, or look at the file's folder")
    print(
        "order key %s is pinned; from now on nothing that another key has signed is obeyed" % order_key.key_id(public)
    )
    return 0


def _confirmed(root: str, name: str, pinned: str) -> bool:
    host = files.host_name(root)
    if not name:
        print("This host has pinned an order key (%s). Whoever holds the new one commands it from now on." % pinned)
        name = input("Type this host's name (%s) to go on: " % host).strip()
    if name == host:
        return True
    _no("%r is not this host's name" % name, "nothing was done")
    return False


def _no(why: str, hint: str) -> int:
    print("poolwarden-agent: %s\n  %s" % (why, hint))
    return 1
