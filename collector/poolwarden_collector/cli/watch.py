"""`poolwarden watch [POOL]`: the pools as they are now, anew each second; lines where nobody is at a terminal.

Rules
-----
* What is shown is a status reply; where the collector does not answer, the last one stays, and it says so.
* A key alone never says yes: whoever presses y types the host's name, and then the very command runs that the question
  shows. Everything is checked again by the collector.
* The terminal is left as it was found, however this ends.
"""

import contextlib
import os
import select
import shlex
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli import answer
from poolwarden_collector.cli.errors import CommandError, Unreachable
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from rich.text import Text

    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector
    from poolwarden_collector.cli.layout import Page

EACH_S = 1.0
FEW = 30  # pools, each told whole
BUSY_SHOWN = 5  # of more pools: those whose failover is shown step by step


@click.command(short_help="POOL, or all, as it is now, until Ctrl-C.")
@click.argument("pool", required=False, default="")
@common_options
@click.pass_obj
def watch(settings: Settings, pool: str) -> None:
    """POOL, or every pool, as it is now: a failover step by step, what is asked, what to do. Ctrl-C ends.

    Where standard output is no terminal (or with --plain): a line for each change.
    """
    from poolwarden_collector.cli.layout import at_terminal

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job has it ignored
    with connect(settings) as collector, contextlib.suppress(KeyboardInterrupt):
        if at_terminal(settings):
            _live(Watch(collector, pool), settings)
        else:
            _lines(Watch(collector, pool))


class Watch:
    """What is known now, and since when the collector has not answered."""

    def __init__(self, collector: "Collector", pool: str) -> None:
        self._collector, self._pool = collector, pool
        self.reply: api.StatusReply = self._ask()
        self.trouble = ""
        self.expected: dict[str, dict[str, int]] = {}
        self._failed_at = 0.0

    def look(self) -> None:
        """Ask again; what each pool's steps are expected to take is asked once, when a failover is seen."""
        try:
            self.reply = self._ask()
            for pool in self.reply.pools:
                if pool.HasField("failover") and pool.pool_uuid not in self.expected:
                    plan = self._collector.plan(pool.pool_uuid)
                    self.expected[pool.pool_uuid] = {phase.name: phase.expected_ms for phase in plan.phases}
            self.trouble, self._failed_at = "", 0.0
        except Unreachable as error:
            self._failed_at = self._failed_at or time.monotonic()
            self.trouble = f"{error.sentence}, for {time.monotonic() - self._failed_at:.0f} s: what follows is old"

    def _ask(self) -> "api.StatusReply":
        """One pool; all; of very many a line of each, and those in which a failover is open or something is asked."""
        if self._pool:
            return self._collector.status(self._pool)
        reply = self._collector.overview(few=FEW)
        if not reply.pools:
            busy = [line for line in reply.overview.lines if line.failover or line.waiting]
            for line in busy[:BUSY_SHOWN]:
                reply.pools.extend(self._collector.status(line.pool_uuid).pools)
        return reply

    @property
    def asked(self) -> "api.PoolStatus | None":
        """The pool whose question a key answers: the only one in which something is asked."""
        found = [pool for pool in self.reply.pools if pool.HasField("question")]
        return found[0] if len(found) == 1 else None

    def page(self) -> "Page":
        from poolwarden_collector.cli.pages.watch import watch_page

        return watch_page(self.reply, self.expected, self.trouble)


def _lines(watch: Watch) -> None:
    from poolwarden_collector.cli.layout import printable
    from poolwarden_collector.cli.pages.watch import changes

    told: dict[str, tuple[str, ...]] = {}
    trouble = ""
    while True:
        said = [watch.trouble] if watch.trouble and not trouble else changes(watch.reply, told)
        trouble = watch.trouble
        for text in said:
            print(f"{time.strftime('%H:%M:%S')}  {printable(text)}", flush=True)
        time.sleep(EACH_S)
        watch.look()


def _live(watch: Watch, settings: Settings) -> None:
    from rich.console import Console
    from rich.live import Live

    console, said = Console(highlight=False), ""
    while True:
        with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            pool, key = None, ""
            while pool is None or key not in ("y", "n"):
                watch.look()
                live.update(_text(watch.page(), said, console.width), refresh=True)
                pool, key = watch.asked, pressed(EACH_S)
        said = _answer(pool, key, settings)


def _text(page: "Page", said: str, width: int) -> "Text":
    from rich.text import Text

    from poolwarden_collector.cli.layout import STYLES, WIDEST, Line, lay_out

    lines = lay_out([*page, *([Line(said, "strong")] if said else [])], max(40, min(width, WIDEST)))
    text = Text(no_wrap=True)
    for line in lines:
        text.append_text(Text.assemble(*((piece.text, STYLES[piece.tone]) for piece in line), "\n"))
    return text


def _answer(pool: "api.PoolStatus", key: str, settings: Settings) -> str:
    """Carry out what was pressed, once it is confirmed; what came of it, in one line."""
    from poolwarden_collector.cli.layout import as_text
    from poolwarden_collector.cli.pages.pools import question_lines

    question = pool.question
    name = next((host.name for host in pool.hosts if host.host_uuid == question.host_uuid), "") or pool.name
    click.echo(as_text(question_lines(question, answers=False)))
    try:
        if key == "n":
            words = shlex.split(question.deny)
            click.echo(f"{question.deny}   (Ctrl-C: go back)")
            words += ["--reason", click.prompt("Why not", default="", show_default=False)]
        else:
            click.echo(f"{question.approve}   (Ctrl-C: go back)")
            # safety: a name that is spelt out says which host was looked at; no key alone is a yes.
            if click.prompt(f"Type the name {name} to say yes").strip() != name:
                return f"that is not {name}: nothing was answered"
            words = shlex.split(question.approve)
            words += ["--name", name] if "--shoot" in words else []
        return _run(words, settings)
    except (click.Abort, KeyboardInterrupt):
        return "nothing was answered"


def _run(words: list[str], settings: Settings) -> str:
    """Run ``poolwarden approve ...`` or ``deny ...`` as if it had been typed."""
    command = {"approve": answer.approve, "deny": answer.deny}[words[1]]
    try:
        with command.make_context(words[1], words[2:], obj=settings) as context:
            command.invoke(context)
    except CommandError as error:
        return f"refused: {error.sentence}. {error.next_step}"
    return f"done: {shlex.join(words[:3])}"


@contextlib.contextmanager
def _keys() -> "Iterator[_Pressed]":
    """Single keys without Enter while this lasts; the terminal as it was afterwards."""
    at = sys.stdin.fileno()
    before = termios.tcgetattr(at)
    tty.setcbreak(at)
    try:
        yield _Pressed(at)
    finally:
        termios.tcsetattr(at, termios.TCSADRAIN, before)


class _Pressed:
    """Waits for a key."""

    def __init__(self, at: int) -> None:
        self._at = at

    def __call__(self, within_s: float) -> str:
        """The key that was pressed within this time, in lower case; empty: none was."""
        ready, _, _ = select.select([self._at], [], [], within_s)
        return os.read(self._at, 1).decode(errors="replace").lower() if ready else ""
