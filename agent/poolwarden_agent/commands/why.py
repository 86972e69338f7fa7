"""``poolwarden-agent why``: why xapi does not start here, and the command that helps. Changes nothing.

It reads the ends of the logs in /var/log and a few files; it needs no configuration, no running agent, no xapi and no
room on any disk. Exit status: 0 nothing is known to be wrong, 1 a cause is named, 2 xapi is down and why is not known.
"""

import argparse
import sys
import textwrap
from typing import List

from poolwarden.xapi_causes import UNKNOWN
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.log_lines import shown
from poolwarden_agent.dom0.system import files
from poolwarden_agent.dom0.system.storage_mounts import mounted, waiting
from poolwarden_agent.dom0.system.surroundings import Reader
from poolwarden_agent.dom0.xapi import trouble_look

WIDTH = 80


def main(words: List[str]) -> int:
    """The command with these arguments; its exit status."""
    parser = argparse.ArgumentParser(prog="poolwarden-agent why", description=__doc__.split("\n")[0])
    parser.add_argument("--root", default="/", help="the directory that is this host's / (default: /)")
    root = parser.parse_args(words).root
    running = Process(*files.xapi_process(root)) != NO_PROCESS
    found = trouble_look.look(root, Reader(root, {}), 0, running)
    if not found.cause:
        _say("xapi runs, and its log names nothing that kept it from starting" if running else "xapi was told to end")
    elif running and found.cause == UNKNOWN and not found.lines:
        _say("xapi runs; %s" % found.sentence)
    else:
        _say("%s: %s" % (_begins(root, running), found.sentence))
        _say("cause: %s" % found.cause)
        sys.stdout.write("helps: %s\n" % found.help)  # on one line: it is copied
        for line in found.lines:
            _say(line, "  ", "    ")
    _storage(root)
    return 0 if not found.cause else 2 if found.cause == UNKNOWN else 1


def _begins(root: str, running: bool) -> str:
    """How a sentence on what is wrong begins. Its start may be through, and something that it needs has ended since."""
    if not running:
        return "xapi does not run"
    return "xapi has started" if files.exists(root, files.INIT_COMPLETE) else "xapi is there and not up"


def _storage(root: str) -> None:
    """What waits for a disk just now: no file system is asked, because this command must end."""
    for each in waiting(root)[:5]:
        where = " in %s" % each.waits_in if each.waits_in else ""
        _say("process %s (pid %d) waits for a disk%s" % (shown(each.name), each.pid, where))
    names = [shown(mount.source) for mount in mounted(root)]
    if names:
        _say("storage over the network here: %s" % ", ".join(names[:8]))


def _say(text: str, first: str = "", others: str = "  ") -> None:
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    sys.stdout.write("\n".join(wrapped) + "\n")
