"""Following advice: the commands that alerts and answers print, given in a copy of the world at that very moment.

Rules
-----
* A command is read by the command line's own parser, becomes the collector's own event by the operator interface's own
  translation, and its answer is the collector's. Only the connection between them is not there.
* The copy is a fork of this process: the played story goes on as if nobody had followed anything.
* Who is told to make sure that a host is off, or to switch it off, does so first; who is asked for a name or
  how, says it. A host that is heard is nothing that a person can merely make sure of: that is a finding of its own.
* Commands that are joined by "then" are given one after the other. One that is said to come "once" something else is so
  is not for now.
* A word in capitals is a placeholder. What is for a shell on a host (``xe``, ``systemctl``) cannot be followed here; it
  must have no placeholder but those in PLACEHOLDERS, which no program can fill in.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli import collector as client
from poolwarden_collector.cli import main
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.operators import replies as messages
from poolwarden_collector.shell.operators.command_call import CommandCall
from poolwarden_collector.shell.operators.names import Ambiguous, Names, Unknown

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.story.stage import Stage

ANSWER_MS = 60_000  # a command that waits for evidence is answered by then
OWNED_MS = 60_000  # a pool that some collector can own has an owner by then
_NO_WORD = r"(?!(?:or|and|says|tells|ends|shows|names|reads|lists)\b)"
_COMMAND = re.compile(rf"\bpoolwarden ([a-z][a-z-]*(?: {_NO_WORD}[^\s;,:()]*[^\s;,:().])*)")
_SHELL = re.compile(r"\b((?:xe|systemctl|poolwarden-agent) [^;,()\n]*)")
_LATER = re.compile(r"\bonce\b[^.;]*$", re.IGNORECASE)  # what stands right before a command that is not for now
_NEXT = re.compile(r"[;,.]? then:? ")
_HOLE = re.compile(r"(?<![-\w=])[A-Z][A-Z_]+(?![-\w])")
PLACEHOLDERS = ("ADDRESS",)
DESPITE = "--despite-power-on"


@dataclass(frozen=True)
class Advice:
    """One command that somebody was told to give."""

    commands: tuple[str, ...]  # to be given in this order
    text: str  # the whole text that it stands in
    where: str  # the alert's title, or the refused command
    ms: int


@dataclass(frozen=True)
class Followed:
    """What came of it: the exit status of ``poolwarden`` and what it printed."""

    advice: Advice
    command: str  # the last one that was given
    status: int
    said: str

    @property
    def line(self) -> str:
        first = self.said.strip().splitlines()[0] if self.said.strip() else ""
        return f"{self.advice.ms / 1000:.1f} {self.advice.where}: poolwarden {self.command}: {first}"


def commands(text: str) -> list[tuple[str, ...]]:
    """The ``poolwarden`` commands in a text, without that word: each alone, or those that follow each other."""
    found: list[tuple[str, ...]] = []
    end = 0
    for match in _COMMAND.finditer(text):
        between, end, command = text[end : match.start()], match.end(), match.group(1).rstrip(".")
        if _LATER.search(between):
            continue
        if found and _NEXT.fullmatch(between):
            found[-1] = (*found[-1], command)
        else:
            found.append((command,))
    return found


def holes(text: str) -> list[str]:
    """Words that somebody would have to fill in, in commands for a shell on a host."""
    found = [hole for match in _SHELL.finditer(text) for hole in _HOLE.findall(match.group(1))]
    return [hole for hole in found if hole not in PLACEHOLDERS]


class _Looked(Exception):
    """A command that only shows something was understood."""


def _pools(known: dict[str, SimCollector]) -> dict[str, Pool]:
    return {uuid: shell.pools[uuid] for uuid, shell in known.items()}


class _InStory:
    """The command line's collector: one of a story's, in this process."""

    def __init__(self, stage: Stage, node: str) -> None:
        self.stage, self.node = stage, node

    def __enter__(self) -> _InStory:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        raise _Looked(name)

    def status(self, pool: str = "") -> pb.StatusReply:
        known = self.guarded()
        uuids = [Names(_pools(known), {}).pool(pool)] if pool else list(known)
        found = [status(known[u].pools[u], known[u].now, known[u].site(u)) for u in uuids]
        return pb.StatusReply(pools=[messages.pool_status(each) for each in found])

    def guarded(self) -> dict[str, SimCollector]:
        """Who guards each pool: this collector, of several ones the pool's own."""
        world = self.stage.world
        if world.cluster is None:
            shell = world.stations[self.node].shell
            assert shell is not None
            return dict.fromkeys(shell.pools, shell)
        return {pool.uuid: pool.shell for pool in world.pools.values() if pool.shell is not None}

    def command(self, request: pb.CommandRequest, limit_s: float = 0) -> pb.CommandReply:
        if request.WhichOneof("command") in ("move", "drain"):
            raise _Looked("which collector has a pool is not the engine's")
        known = self.guarded()
        call: Any = object.__new__(CommandCall)
        pool, said = call._said(request, Names(_pools(known), {}))
        shell = known[pool] if pool else next(iter(known.values()))
        shell.say(said, pool)
        self.stage.run_until(lambda: said.request_id in shell.replies or not shell.alive, ANSWER_MS)
        reply = shell.replies.get(said.request_id)
        if reply is None:
            return pb.CommandReply(accepted=False, code="timeout", text="no answer came")
        return pb.CommandReply(accepted=reply.accepted, code=reply.code, text=reply.text, next_step=reply.next_step)


def _arguments(stage: Stage, command: str, node: str) -> list[str]:
    """A command as a person types it, who answers what he would be asked."""
    words = shlex.split(command)
    verb = words[0] if words[0] != "fence" else " ".join(words[:2])
    host = next((word for word in words[len(verb.split()) :] if not word.startswith("-")), "")
    name = host.split("/")[-1]
    if verb in ("confirm-fenced", "declare-dead", "fence off", "fence bind", "release") and "--name" not in words:
        words += ["--name", name]
    if verb in ("confirm-fenced", "fence bind") and "--how" not in words:
        words += ["--how", "seen by eye"]
    if "--shoot" in words and "--name" not in words:
        words += ["--name", _asked_about(stage, node)]
    return words


def _asked_about(stage: Stage, node: str) -> str:
    """The name of the host that is to be powered off."""
    pools = [pool for pool in _InStory(stage, node).status().pools if pool.question.host_uuid]
    shot = {pool.failover.old_master_uuid or pool.question.host_uuid for pool in pools}
    named = [host.name for pool in pools for host in pool.hosts if host.host_uuid in shot]
    return named[0] if named else ""


def follow(stage: Stage, advice: Advice, node: str = "") -> Followed:
    """Give the commands here and now, until one is refused; to be called in a copy of the world."""
    node = node or stage.guardian(stage.world.of())
    stage.beside = None
    stage.forget_moments()
    followed = Followed(advice, "", 0, "")
    # Among several collectors a pool may be nobody's for a moment: a person has to wait for its next owner.
    stage.run_until(lambda: bool(_InStory(stage, node).guarded()), OWNED_MS)
    for command in advice.commands:
        followed = _give(stage, advice, command, node)
        if followed.status and command.startswith("confirm-fenced") and DESPITE in followed.said:
            followed = _give(stage, advice, f"{command} {DESPITE}", node)  # the device reads ON, and lies
        if followed.status:
            break
    return followed


def _give(stage: Stage, advice: Advice, command: str, node: str) -> Followed:
    words = _arguments(stage, command, node)
    if words[0] == "confirm-fenced" and (found := _switched_off(stage, words[1], advice, node)):
        return Followed(advice, command, 1, found)
    if words[0] == "drill" and "--abandon" not in words:
        return Followed(advice, command, 0, "")  # it walks with a person at its terminal (tests/lab/test_drill.py)
    collector = _InStory(stage, node)
    out = io.StringIO()
    # Where every command takes it from at its call, whatever of them this process has imported before.
    client.Collector = lambda _settings: collector  # type: ignore[assignment,misc,return-value]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main._invoke(words)
        except _Looked:
            code = 0
        except (Unknown, Ambiguous) as error:
            code, _ = 1, print(error)
        except Exception as error:  # the command line's own errors: refusals and what cannot be read
            step = getattr(error, "next_step", "")
            print(getattr(error, "sentence", "") or getattr(error, "message", "") or error, step)
            code = 1
    return Followed(advice, command, code, out.getvalue())


def _switched_off(stage: Stage, wanted: str, advice: Advice, node: str) -> str:
    """The host loses its power, as the advice says; or why nobody can be told that."""
    guarding = _InStory(stage, node).guarded()
    try:
        pool, host = Names(_pools(guarding), {}).host(wanted)
    except (Unknown, Ambiguous):
        return ""
    if not re.search(r"switch", advice.text, re.IGNORECASE) and _heard(guarding[pool], pool, host):
        return f"{wanted} is heard: nobody can make sure that it is off"
    guarded = next(each for each in stage.world.pools.values() if each.uuid == pool)
    name = guarded.name_of(host)
    if guarded.pool.hosts[name].power:
        stage.world.power_off(name)
        stage.run(12_000)
    return ""


def _heard(shell: SimCollector, pool: str, host: HostId) -> bool:
    known, policy = shell.pools[pool].live.agents.get(host), shell.pools[pool].policy
    return known is not None and known.connected and (shell.now - known.last_heard < policy.suspect_after)


def in_a_copy(act_: Callable[[], Followed]) -> Followed | str:
    """What ``act_`` gives in a fork of this process, or why it gave nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - ends without a report
        os.close(reader)
        try:
            try:
                result: Any = act_()
            except BaseException as error:
                result = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(told) if told else "the copy ended without a word"  # noqa: S301


class Follower:
    """Follows every command that a story's alerts and refusals print, each text once."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.followed: list[Followed | str] = []
        self.holes: list[str] = []
        self._commits: dict[str, int] = {}
        self._replies = 0
        self._seen: set[tuple[str, tuple[str, ...]]] = set()

    @property
    def refused(self) -> list[str]:
        """What was not accepted when it was followed, and what nobody could follow; a line each."""
        failed = [each for each in self.followed if not isinstance(each, Followed) or each.status != 0]
        return [each.line if isinstance(each, Followed) else each for each in failed] + self.holes

    def look(self) -> None:
        """After each event of the world."""
        for node, advice in self._news():
            if (advice.where, advice.commands) in self._seen:
                continue
            self._seen.add((advice.where, advice.commands))
            self.followed.append(in_a_copy(lambda advice=advice, node=node: follow(self.stage, advice, node)))  # type: ignore[misc]

    def _news(self) -> Iterator[tuple[str, Advice]]:
        stage, world = self.stage, self.stage.world
        for node, station in world.stations.items():
            commits = station.ledger.commits
            news = commits[min(self._commits.get(node, len(commits)), len(commits)) :]
            self._commits[node] = len(commits)
            if station.shell is None or not station.shell.alive or station.shell.frozen:
                continue
            for commit in news:
                for alert in commit.alerts:
                    if isinstance(alert, AlertRaised):
                        self.holes += [f"{alert.title}: {hole}" for hole in holes(alert.body)]
                        for given in commands(alert.body):
                            yield node, Advice(given, alert.body, alert.title, stage.now)
        for _, node, reply in world.replied[self._replies :]:
            if reply.accepted:
                for given in commands(reply.text):
                    yield node, Advice(given, reply.text, f"accepted: {reply.text}", stage.now)
            else:
                self.holes += [f"{reply.text}: {hole}" for hole in holes(reply.next_step)]
                for given in commands(reply.next_step):
                    yield node, Advice(given, reply.next_step, f"refused: {reply.text}", stage.now)
        self._replies = len(world.replied)


__all__ = ["Advice", "Follower", "commands", "follow", "holes"]
