"""xapi's health by its behaviour, in one word, one sentence and the command that helps. Pure; for people.

The engine decides on the single signals (liveness on both sockets, emergency flag, orphaned judgement); this is what an
operator reads first. systemd's "active" says nothing about xapi: the service is of Type=simple and stays active while
every thread of it hangs (xapi: scripts/xapi.service).

The words, the first that fits:
  down       no process, or a process that listens nowhere
  starting   a process that was started lately and has not come to its startup cookie
  wedged     it does not even accept connections: its queue is full, its threads are used up
  hung       it accepts connections and has answered nothing for 15 s, on one of its two sockets at least
  emergency  xapi's own flag, with its reason
  orphaned   a member whose master leaves it without an answer; xapi's own flag is usually false then
  slow       it answers, but took longer than a second, or is just not answering
  answers    all is well
"""

from typing import NamedTuple, Optional, Tuple

from poolwarden.xapi_health import EXPLAIN, LOOK_AT_LOG, REASONS, RESTART, SHORT_OF, STOPPED
from poolwarden_agent.core.probe_rules import ANSWERS, DOWN, SILENT, STARTING, UNKNOWN

SLOW, WEDGED, HUNG, ORPHANED, EMERGENCY = "slow", "wedged", "hung", "orphaned", "emergency"
HUNG_MS = 15000
SLOW_MS = 1000


class Look(NamedTuple):
    """One look at the own xapi. Liveness of both doors, how long they took or have been silent (ms), the rest."""

    tcp: str
    tcp_silent_ms: int
    tcp_took_ms: int
    socket: str
    socket_silent_ms: int
    socket_took_ms: int
    accepts: bool
    age_ms: Optional[int]
    emergency: bool
    code: str
    orphaned: bool
    held: bool


class Health(NamedTuple):
    """A word of the list above, one sentence, and what helps (empty: nothing need be done)."""

    word: str
    text: str
    help: str


def plain_words(code: str) -> str:
    """An emergency code of xapi in plain words; an unknown code as it is."""
    known = REASONS.get(code)
    if known is not None:
        return "%s (%s)" % (known[0], code)
    return "xapi says %s" % code if code else ""


def judge(look: Look) -> Health:
    """How this xapi is."""
    for found in (_not_there(look), _stopping(look, _mute(look)), _detached(look), _slow(look)):
        if found is not None:
            return found
    if look.tcp == UNKNOWN:
        return Health(UNKNOWN, "xapi has not been looked at yet", "")
    return Health(ANSWERS, "xapi answers", "")


def _not_there(look: Look) -> Optional[Health]:
    if look.age_ms is None and look.held:
        return Health(DOWN, "xapi is held stopped by a toolstack fence; VMs run on", EXPLAIN)
    if look.age_ms is None and DOWN in (look.tcp, look.socket):
        return Health(DOWN, "xapi does not run", STOPPED)
    if STARTING in (look.tcp, look.socket):
        return Health(STARTING, "xapi has been starting for %s" % span(look.age_ms or 0), "")
    if look.tcp == look.socket == DOWN:
        return Health(DOWN, "xapi's process lives and listens nowhere", RESTART)
    return None


def _stopping(look: Look, found: Optional[Health]) -> Optional[Health]:
    """What a held xapi that is not gone yet says: the hold would keep back a restart by hand."""
    if found is None or not look.held:
        return found
    return Health(found.word, "%s; it is being stopped by a toolstack fence" % found.text, EXPLAIN)


def _mute(look: Look) -> Optional[Health]:
    silent = [
        (name, silence)
        for name, state, silence in (
            ("TCP 80", look.tcp, look.tcp_silent_ms),
            ("its local socket", look.socket, look.socket_silent_ms),
        )
        if state in (SILENT, DOWN)
    ]
    if not silent:
        return None
    longest = max(silence for _, silence in silent)
    where = " and ".join(name for name, _ in silent)
    if not look.accepts:
        return Health(WEDGED, "xapi accepts no connection on %s: its threads are used up" % where, RESTART)
    if longest < HUNG_MS:
        return Health(SLOW, "xapi has not answered on %s for %s" % (where, span(longest)), "")
    refuses = "refuses connections" if all(state == DOWN for state in _states(look)) else "does not answer"
    return Health(HUNG, "xapi %s on %s for %s" % (refuses, where, span(longest)), RESTART)


def _states(look: Look) -> Tuple[str, ...]:
    return tuple(state for state in (look.tcp, look.socket) if state in (SILENT, DOWN))


def _detached(look: Look) -> Optional[Health]:
    if look.emergency:
        help_text = REASONS.get(look.code, ("", LOOK_AT_LOG))[1]
        words = plain_words(look.code) or "it does not say why"
        return Health(EMERGENCY, "xapi is in emergency mode: %s" % words, help_text)
    if look.orphaned:
        return Health(ORPHANED, "its master does not answer this member; its VMs run on", EXPLAIN)
    return None


def _slow(look: Look) -> Optional[Health]:
    took = max(look.tcp_took_ms, look.socket_took_ms)
    if took < SLOW_MS:
        return None
    return Health(SLOW, "xapi took %s to answer" % span(took), SHORT_OF)


def span(ms: int) -> str:
    """A duration for people, coarse where it is long."""
    seconds = ms // 1000
    if seconds < 120:
        return "%d s" % seconds
    return "%d min" % (seconds // 60) if seconds < 7200 else "%d h" % (seconds // 3600)
