"""`poolwarden-agent reset-numbers`: forget the highest epoch and term stored on this host, at the word of root here.

For a host to which something has told numbers that its own collector will not reach. The running agent alone changes
what is durable: this leaves it a request. It is refused wherever an old number may be all that keeps a second master
away: while the toolstack or storage's garbage collection is held, after the host was superseded, with a database placed
here, and while the boot gate is not open.
"""

import argparse
import os
from typing import List

from poolwarden_agent.commands.gate import stored
from poolwarden_agent.core import gate_state
from poolwarden_agent.dom0.system import files
from poolwarden_agent.dom0.system.clock import now_s
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.process import gate_file, link_file


def main(words: List[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="poolwarden-agent reset-numbers", description="Forgets the highest epoch and term stored on this host."
    )
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help="this host's name, instead of typing it")
    given = parser.parse_args(words)
    root, host = given.root, files.host_name(given.root)
    boot_id = files.read(root, files.BOOT_ID) or ""
    try:
        state = stored(root)
    except (SlotError, ValueError) as error:
        return _no("durable state cannot be read: %s" % error, "poolwarden-agent gate status")
    print("stored: epoch %d, term %d" % (state.epoch, state.term))
    print("collector: %s" % link_file.shown(root, boot_id, " " * 11))
    word = gate_file.heard(root, boot_id, int(now_s() * 1000))
    why = gate_state.kept_by(state)
    if word is not None and not word.allows:
        why = why or "the boot gate is not open (%s)" % word.reason
    if why:
        return _no("the numbers stay: %s" % why, "poolwarden-agent gate status")
    if word is None:
        return _no("the agent alone may change that, and it does not run", "systemctl start poolwarden-agent")
    name = given.name
    if not name:
        print("Orders of a collector that was replaced are obeyed again. Do so only where no failover is under way.")
        name = input("Type this host's name (%s) to go on: " % host).strip()
    if name != host:
        return _no("%r is not this host's name" % name, "nothing was done")
    gate_file.request(root, gate_file.RESET, boot_id, os.environ.get("SUDO_USER") or os.environ.get("USER") or "root")
    print("asked for; the agent's log tells what comes of it")
    return 0


def _no(why: str, hint: str) -> int:
    print("poolwarden-agent: %s\n  %s" % (why, hint))
    return 1
