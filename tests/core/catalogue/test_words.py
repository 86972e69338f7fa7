"""Whoever raises an alert gives every word that its message names: a word that is missing would end a pool's step."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from string import Formatter

import pytest
from tests.project.tree import python_files, statements

from poolwarden_collector.core.catalogue import failovers, hosts, journal, lost_vms, ownership, questions, verdicts
from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.told_words import common

KNOWN = {
    name: value
    for module in (failovers, hosts, journal, lost_vms, ownership, questions, verdicts)
    for name, value in vars(module).items()
}
# Where the message is chosen by a value, each that it may be.
BY_VALUE: dict[str, tuple[Message, ...]] = {
    "QUESTIONS[asked.kind]": tuple(questions.QUESTIONS.values()),
    "REFUSALS[kind]": tuple(questions.REFUSALS.values()),
    "BLOCKERS[blocker]": tuple(failovers.BLOCKERS.values()),
    "report/incident_alerts.py:message": verdicts.ALL,
}


def needed(message: Message) -> set[str]:
    texts = (message.title, message.died, message.did, message.you, message.open)
    return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}


def raised() -> Iterator[tuple[str, ast.Call, ast.FunctionDef]]:
    """Each raising of an alert: its file, the call, and the function around it."""
    for path in python_files("collector/poolwarden_collector/core"):
        text = path.read_text()
        if "raise_alert(" not in text:
            continue
        where = str(path).partition("/core/")[2]
        for function in (node for node in statements(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and raises_an_alert(node.func):
                    yield where, node, function


def raises_an_alert(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and ast.unparse(called) == "tx.raise_alert"


def messages_of(where: str, call: ast.Call, function: ast.FunctionDef) -> tuple[Message, ...]:
    """Every message that may stand there."""
    given = call.args[1]
    text = ast.unparse(given)
    if text in BY_VALUE or f"{where}:{text}" in BY_VALUE:
        return BY_VALUE.get(text) or BY_VALUE[f"{where}:{text}"]
    if isinstance(given, ast.Name) and given.id not in KNOWN:
        given = assigned(given.id, function)
    names = [node.id for node in ast.walk(given) if isinstance(node, ast.Name) and node.id in KNOWN]
    return tuple(KNOWN[name] for name in names if isinstance(KNOWN[name], Message))


def assigned(name: str, function: ast.FunctionDef) -> ast.expr:
    found = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and name in [ast.unparse(target) for target in node.targets]
    ]
    assert len(found) == 1, f"{function.name}: {name}"
    return found[0]


def words_of(call: ast.Call, function: ast.FunctionDef) -> set[str]:
    given = call.args[3]
    if isinstance(given, ast.Name):
        given = assigned(given.id, function)
    assert isinstance(given, ast.Dict), ast.unparse(given)
    return {ast.literal_eval(key) for key in given.keys if key is not None}


ALWAYS = set(common(Snapshot(Pool(PoolRecord("p"), Policy()), 0, Site(1, 0, 0))))
RAISED = list(raised())


@pytest.mark.parametrize(
    ("where", "call", "function"),
    RAISED,
    ids=[f"{where}:{call.lineno}" for where, call, _ in RAISED],
)
def test_every_word_is_given(where: str, call: ast.Call, function: ast.FunctionDef) -> None:
    found = messages_of(where, call, function)
    assert found, f"{ast.unparse(call.args[1])}: say in BY_VALUE which messages that may be"
    given = words_of(call, function) | ALWAYS
    assert {message.id: needed(message) - given for message in found if needed(message) - given} == {}


def test_every_message_is_raised_somewhere() -> None:
    told = {message.id for where, call, function in RAISED for message in messages_of(where, call, function)}
    told.add(journal.JOURNAL_DAMAGED.id)  # of no pool: by the journal (shell/store/damage_calls.py)
    told.add(hosts.COLLECTOR_BEHIND.id)  # of no pool: by the loop (shell/loop/engine_loop.py)
    told.add(hosts.HOOK_FAILED.id)  # by what runs hooks (shell/hooks/hooks.py)
    told |= {hosts.CANNOT_SIGN.id, hosts.KEY_WAITS.id}  # by what certifies hosts (shell/enrolment)
    told |= {message.id for message in ownership.ALL}  # of none's journal (shell/loop/ownership_alerts.py)
    named = {message.id for message in (*verdicts.ALL, *failovers.ALL, *hosts.ALL, *journal.ALL, *ownership.ALL)}
    assert named - told == set()
