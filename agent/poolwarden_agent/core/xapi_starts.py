"""How often xapi's process began without anybody having asked for it. Pure.

A process that answers for a moment and dies looks alive to every look; its successors have other identities. Counted
is each other process than the one seen before, unless

* an order, or an operator on this host, has had xapi started or stopped (``asked``): one start, within ``ASKED_MS``;
* pool.conf says another role than it did for the process before: somebody has changed it (a designate, a promotion by
  hand), and xapi restarts for that (xapi: ocaml/xapi/xapi_fuse.ml);
* it is the first that this agent sees: of a boot, or from before the agent's own start.

Looks come each few seconds: what begins and ends between two of them is not seen, so the count is never too high.
"""

from typing import NamedTuple, Tuple

from poolwarden_agent.core.host_now import NO_PROCESS, Process

WINDOW_MS = 600000
ASKED_MS = 240000  # two waits of systemd for a stop (TimeoutStopSec), and a start
MOST = 64  # starts that are remembered
SAME_TICKS = 100  # of the kernel's clock: a second

Starts = NamedTuple(
    "Starts",
    [
        ("process", Process),  # the last one that was seen, running or not
        ("role", Tuple[str, str]),  # what pool.conf said for it
        ("gone", bool),  # it was found gone
        ("began", Tuple[int, ...]),  # when each start that nobody asked for was seen
        ("ended_ms", int),  # when a process was last found gone; 0: never
        ("asked_ms", int),  # until when the next start was asked for; 0: it was not
    ],
)
NONE_SEEN = Starts(NO_PROCESS, ("", ""), False, (), 0, 0)


def asked(before: Starts, now_ms: int) -> Starts:
    """Somebody has xapi started, stopped or take another role: its next start is no surprise."""
    return before._replace(asked_ms=now_ms + ASKED_MS)


def _same(one: Process, other: Process) -> bool:
    """A process's start is told on a clock that may be corrected a little; another process has another number."""
    return one.pid == other.pid and abs(one.start_ticks - other.start_ticks) <= SAME_TICKS


def looked(before: Starts, process: Process, role: Tuple[str, str], now_ms: int) -> Starts:
    """After a look: ``role`` is what pool.conf says at that instant."""
    began = tuple(at for at in before.began if now_ms - at < WINDOW_MS)
    known = before._replace(began=began, asked_ms=before.asked_ms if before.asked_ms > now_ms else 0)
    if _same(process, known.process):
        # pool.conf is written some ten seconds before the process that reads it begins: the new role is not its own.
        return known._replace(process=process)
    if process == NO_PROCESS:
        return known if known.gone else known._replace(gone=True, ended_ms=now_ms)
    ended = known.ended_ms if known.gone or known.process == NO_PROCESS else now_ms
    after = known._replace(process=process, role=role, gone=False, ended_ms=ended, asked_ms=0)
    if known.process == NO_PROCESS or known.asked_ms or known.role != role:
        return after
    return after._replace(began=(began + (now_ms,))[-MOST:])
