"""``poolwarden-agent verify``: what Poolwarden believes of a dom0, looked at on this one. Changes nothing, in seconds.

It needs no running agent and no configuration. What this host has shown before (a promotion, a restart) is read from
the agent's own file. Exit status: 0 all holds or is not seen, 1 something fails, 2 it cannot be run as it was asked.

``--report FILE`` writes the same for somebody outside: without names, addresses, UUIDs and serials. What a look has
marked as private is left out whole; ids, sentences and figures are ours. The file is new, and its owner's alone (0600).
"""

import argparse
import os
import sys
import textwrap
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from poolwarden import assumptions as table
from poolwarden_agent import __version__
from poolwarden_agent.config import ConfigError, load
from poolwarden_agent.core import findings, probe_rules
from poolwarden_agent.core.findings import FAILS, HOLDS, NOT_SEEN, Result, Seen
from poolwarden_agent.dom0.assumptions import scene, static
from poolwarden_agent.dom0.dom0 import SLOTS
from poolwarden_agent.dom0.system import learned
from poolwarden_agent.dom0.xapi import probes

Words = Callable[[str], str]  # how evidence is told to whom it is for
Doors = Tuple[Tuple[str, int], int]

WIDTH = 79
USUAL = (("127.0.0.1", 80), 443)
ANSWER_S = 1.5


def main(words: List[str]) -> int:
    """The command with these arguments; its exit status."""
    parser = argparse.ArgumentParser(
        prog="poolwarden-agent verify", description="What Poolwarden believes of a dom0, looked at on this one."
    )
    parser.add_argument("--root", default="/", help="the directory that is this host's / (default: /)")
    parser.add_argument("--report", default="", metavar="FILE", help="write it without names and addresses, to send")
    given = parser.parse_args(words)
    if given.report and os.path.lexists(given.report):
        return _fail("%s is there already: name a new file" % given.report)
    seen, release = _look(given.root, _doors(given.root))
    results = _all(seen, release, _kept(given.root))
    if given.report:
        try:
            _write(given.report, page(results, release, findings.nameless))
        except OSError as error:
            return _fail("%s: %s" % (given.report, (error.strerror or str(error)).lower()))
    for line in page(results, release, findings.shown):
        sys.stdout.write(line + "\n")
    if given.report:
        sys.stdout.write("\nWritten without names and addresses: %s\n" % given.report)
    return 1 if any(result.finding == FAILS for result in results) else 0


def _fail(text: str) -> int:
    sys.stderr.write("poolwarden-agent verify: %s\n" % text)
    return 2


def _write(path: str, lines: Sequence[str]) -> None:
    """A new file with these lines. :raises OSError: there is one of that name, or it cannot be written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(("\n".join(lines) + "\n").encode("utf-8"))


# ---------------------------------------------------------------------------------------------- looking


def _doors(root: str) -> Doors:
    """Where xapi is asked: as agent.conf says, or on the usual ports where that cannot be used."""
    try:
        config = load(os.path.join(root, "etc/poolwarden/agent.conf"), root)
    except ConfigError:
        return USUAL
    return config.xapi_http, config.xapi_tls_port


def _look(root: str, doors: Doors) -> Tuple[Dict[str, Seen], str]:
    http, tls = doors
    known: List[Optional[bool]] = []

    def answers() -> Optional[bool]:
        if not known:  # asked once: a xapi that hangs keeps a thread for each question
            outcome = probes.is_alive(http[0], http[1], ANSWER_S, False).outcome
            known.append({probe_rules.ANSWERED: True, probe_rules.REFUSED: False}.get(outcome))
        return known[0]

    def fresh() -> scene.Scene:
        return scene.Scene(root, http, tls, scene.this_machine(), answers, lambda: _placed(root))

    return static.look(fresh, time.sleep)


def _placed(root: str) -> Optional[bool]:
    """Has the agent placed a database here? None: its state cannot be read."""
    from poolwarden_agent.commands.gate import stored
    from poolwarden_agent.dom0.system.slots import SlotError

    try:
        return stored(root).placed is not None
    except (SlotError, ValueError, OSError):
        return None


def _kept(root: str) -> Dict[str, Result]:
    """What the agent has learned here."""
    try:
        data = learned.load(os.path.join(root, SLOTS))
        return findings.decode(data) if data else {}
    except (OSError, ValueError):
        return {}


def _all(seen: Dict[str, Seen], release: str, kept: Dict[str, Result]) -> List[Result]:
    """A result for each assumption of the table, in its order."""
    results = []
    for each in table.TABLE:
        unseen = Result(each.id, NOT_SEEN, "", "", 0, "", 0)
        if each.id in seen:
            unseen = unseen._replace(finding=seen[each.id].finding, evidence=seen[each.id].evidence, release=release)
        results.append(findings.today(kept.get(each.id, unseen), release))
    return results


# ---------------------------------------------------------------------------------------------- the page


def page(results: Sequence[Result], release: str, words: Words) -> List[str]:
    """The whole page, worst first, in lines of at most WIDTH characters."""
    failing = [each for each in results if each.finding == FAILS]
    holding = [each for each in results if each.finding == HOLDS]
    unseen = [each for each in results if each.finding == NOT_SEEN]
    failing.sort(key=lambda each: not set(table.BY_ID[each.id].rests) & set(table.RESTRICTED))
    lines = ["%s, agent %s" % (words(release), __version__)]
    lines.append("%d fail, %d hold, %d not seen" % (len(failing), len(holding), len(unseen)))
    lines += _part("FAILS", [line for each in failing for line in _failed(each, words)], len(failing))
    by_look = [each for each in unseen if table.BY_ID[each.id].how == table.STATIC]
    lines += _part("NOT SEEN by this look", _told(by_look, words), len(by_look))
    for how, title in (
        (table.PASSIVE, "NOT SEEN: has not happened here yet"),
        (table.DRILL, "NOT SEEN: needs a drill"),
    ):
        named = [each.id for each in unseen if table.BY_ID[each.id].how == how]
        lines += _part(title, _wrapped(", ".join(named), "  ", "  "), len(named))
    return lines + _part("HOLDS", _told(holding, words), len(holding))


def _part(title: str, lines: List[str], count: int) -> List[str]:
    return ["", "%s (%d)" % (title, count)] + lines if count else []


def _failed(each: Result, words: Words) -> List[str]:
    about = table.BY_ID[each.id]
    lines = _wrapped("%s, for: %s" % (each.id, ", ".join(about.rests)), "  ", "    ")
    lines += _wrapped(about.sentence, "    ", "    ")
    return lines + _wrapped("Seen: %s" % _evidence(each, words), "    ", "      ")


def _told(chosen: Sequence[Result], words: Words) -> List[str]:
    return [line for each in chosen for line in _wrapped("%s: %s" % (each.id, _evidence(each, words)), "  ", "    ")]


def _evidence(each: Result, words: Words) -> str:
    """What was seen; of what was learned before, also when and on which release."""
    if not each.wall_ms:
        return words(each.evidence)
    day = time.strftime("%Y-%m-%d", time.gmtime(each.wall_ms // 1000))
    return "%s (%s, %s)" % (words(each.evidence), day, words(each.release) or "release unknown")


def _wrapped(text: str, first: str, others: str) -> List[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
