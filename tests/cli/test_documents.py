"""Every command line in a code block of docs and README is typed as it stands, against a fake collector.

Rules
-----
* A code block is a fenced one without a language, or of ``sh`` or ``console``, or four spaces deep. In one with ``$ ``
  only what follows that is typed; what a page shows as answers is not.
* ``HOST``, ``POOL`` and ``DIR`` stand for a name; what asks for a name or a reason gets one. The collector that
  ``--collector`` names is the fake one.
* The exit status is 0. What cannot be typed here stands in ``NOT_TYPED`` with the reason.
* ``poolwarden-collector`` is parsed by its own parser, and not run.
"""

import io
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from tests.project.tree import ROOT

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.main import poolwarden as every_command
from poolwarden_collector.shell.main import main as collectors_commands
from poolwarden_collector.shell.store import telemetry
from poolwarden_collector.shell.store.journal import Journal
from poolwarden_lab.story.advice import commands as commands_in

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector

Call = Callable[..., Said]
PAPERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("poolwarden", "poolwarden-collector")
PLACEHOLDERS = {"KEY": "0" * 64, "HOST": "lab-h1", "POOL": "lab", "UUID": HOSTS[0], "NAME": "anna", "DIR": "/srv/ca"}
NOT_TYPED = {
    "poolwarden restat-xapi lab-h1": "shows what a mistyped command says (test_errors.py)",
    "poolwarden pause": "shows what is said where several pools are guarded (test_errors.py)",
    "poolwarden drill POOL": "walks until its drill is over (tests/lab/test_first_trial.py)",
    "poolwarden watch lab": "runs until somebody ends it (test_watch.py)",
    **{
        f"poolwarden completion {shell}": "its lines are a shell's (test_completing.py)"
        for shell in ("bash", "zsh", "fish")
    },
    **{
        f"poolwarden drill lab {words}": "walks until its drill is over (test_drill.py, tests/lab/test_drill.py)"
        for words in (
            "--host lab-h3",
            "--steps restart,hold",
            "--power-loss",
            "--resume",
            "--yes --steps fence,restart,hold --host lab-h3 --name lab-h3 --json",
        )
    },
    **{
        f"poolwarden pool {words}": "logs in by ssh (tests/packaging/test_pool_by_ssh.py)"
        for words in ("add root@192.0.2.11 --mode observe", "upgrade POOL", "remove POOL --reason given back")
    },
    **{
        f"poolwarden export {words}": "writes a file, of a failover that there is (test_export.py)"
        for words in (
            "FAILOVER --out f.tar.gz",
            "--since 2h --pool POOL --out f.tar.gz",
            "FAILOVER --redact --out for-the-vendor.tar.gz",
        )
    },
    "poolwarden fence setup HOST [--write /etc/poolwarden/collector.toml]": "a synopsis (test_fence_setup.py)",
}


def blocks(text: str) -> Iterator[list[str]]:
    """The code blocks of a Markdown page that may hold commands, as lists of lines."""
    block: list[str] = []
    language: str | None = None  # of the fence that is open
    for line in [*text.splitlines(), ""]:
        fence = re.match(r" *```(\w*)", line)
        if fence or (language is None and not line.startswith("    ")):
            if block:
                yield block
            block = []
        if fence:
            language = fence[1] if language is None else None
        elif (language is None and line.startswith("    ")) or language in ("", "sh", "console"):
            block.append(line.strip())


def typed(block: list[str]) -> list[str]:
    answers = [line for line in block if line.startswith("$ ")]
    return [line.removeprefix("$ ") for line in answers or block]


def commands(line: str) -> Iterator[list[str]]:
    """Each call of our programs in a line of shell, as its words."""
    if not re.search(r"(^|[\s/(])poolwarden(-collector)? ", line):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] | None = None
    before = ""
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            if words and ">" in token and words[-1].isdigit():
                words.pop()  # the number of a redirected stream
            if words is not None and len(words) > 1:
                yield words
            words = None
        elif token.rpartition("/")[2] in PROGRAMS and before not in ("-u", "-o", "-g"):  # else it is the user's name
            words = [token.rpartition("/")[2]]
        elif words is not None:
            words.append(token)
        before = token


def found(program: str) -> list[tuple[str, tuple[str, ...]]]:
    lines = {(paper.name, line) for paper in PAPERS for block in blocks(paper.read_text()) for line in typed(block)}
    return sorted({(name, tuple(words[1:])) for name, line in lines for words in commands(line) if words[0] == program})


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Journal and telemetry of a collector that has just begun."""
    folder = tmp_path_factory.mktemp("state")
    journal = Journal(folder, "watch-1", ("log",))
    journal.begin_epoch()
    journal.close()
    telemetry._open(folder / telemetry.FILE).conn.close()
    return folder


@pytest.fixture
def lab(fake: FakeCollector) -> FakeCollector:
    """The pool lab of the documents: it is ready, and the collector is well."""
    pool = fake.status.pools[0]
    pool.name = "lab"
    for host in pool.hosts:
        host.name, host.pool_name = host.name.replace("host-", "lab-h"), "lab"
    fake.readiness.pools.add(pool_uuid=POOL, name="lab", ready=True)
    fake.plan = api.PlanReply(
        pool_uuid=POOL, pool_name="lab", headline="healthy", outcome="heals", outcome_text="heals"
    )
    return fake


class Keyboard(io.StringIO):
    """Somebody at a terminal, who types the name of the command's host and a reason."""

    def isatty(self) -> bool:
        return True


def as_typed(words: tuple[str, ...], state: Path) -> list[str]:
    """With names in the place of placeholders, and the collector and the files that there are."""
    real = [PLACEHOLDERS.get(word, word) for word in words if word != "$@"]
    for option in ("--collector", "--tls", "--state"):
        if option in real:
            del real[real.index(option) : real.index(option) + 2]
    return [*real, "--state", str(state)] if real[0] == "query" else real


COMMANDS = found("poolwarden")
TYPED = [(paper, words) for paper, words in COMMANDS if f"poolwarden {' '.join(words)}" not in NOT_TYPED]


@pytest.mark.parametrize(("paper", "words"), TYPED, ids=[f"{paper}: {' '.join(words)}" for paper, words in TYPED])
def test_it_is_accepted_as_it_stands(
    paper: str,
    words: tuple[str, ...],
    lab: FakeCollector,
    poolwarden: Call,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = as_typed(words, state)
    host = next((word for word in real if word.startswith("lab-h")), "")
    monkeypatch.setattr(sys, "stdin", Keyboard(f"{host}\nboth power cords are pulled\n"))
    said = poolwarden(*real)
    assert said.status == 0, f"{paper}: {said.err}"


def test_the_exceptions_are_there_and_few() -> None:
    there = {f"poolwarden {' '.join(words)}" for _, words in COMMANDS}
    assert set(NOT_TYPED) <= there
    assert len(there) > 40


@pytest.mark.parametrize(("paper", "words"), found("poolwarden-collector"))
def test_the_collectors_own_commands_are_understood(paper: str, words: tuple[str, ...]) -> None:
    name, command, rest = collectors_commands.resolve_command(click.Context(collectors_commands), list(words))
    assert command is not None, paper
    command.make_context(name, rest)


INLINE = re.compile(r"`poolwarden ([^`]+)`")


def unknown(words: list[str]) -> list[str]:
    """Of a command line that may be shortened: the words that are neither a command nor an option of it."""
    command: click.Command = every_command
    wrong = []
    for word in words:
        if isinstance(command, click.Group):
            if not re.fullmatch(r"[a-z][a-z-]+", word) or word == "lab":  # POOL, COMMAND, an option of all
                break
            child = command.get_command(click.Context(command), word)
            wrong += [] if child else [word]
            command = child or click.Command(None)
        elif word.startswith("--"):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            wrong += [word] if word.partition("=")[0] not in known else []
    return wrong


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
def test_commands_within_sentences_exist(paper: Path) -> None:
    text = re.sub(r"```.*?```", "", paper.read_text(), flags=re.DOTALL)
    assert [line for line in INLINE.findall(text) if unknown(line.split())] == []


def advised(paper: Path) -> list[str]:
    """The commands that alerts tell somebody to give; their lines are folded."""
    shown = re.findall(r"```text\n(.*?)```", paper.read_text(), flags=re.DOTALL)
    texts = [re.sub(r"\bonce\b", "when", re.sub(r"\n {2,}", " ", text)) for text in shown]  # also what is for later
    return sorted({command for text in texts for each in commands_in(text) for command in each})


ADVISED = advised(ROOT / "docs/alerts-shown.md")


@pytest.mark.parametrize("line", ADVISED)
def test_what_an_alert_tells_somebody_to_type_is_understood(line: str) -> None:
    words = shlex.split(line)
    command: click.Command = every_command
    context = click.Context(command, info_name="poolwarden")
    while isinstance(command, click.Group):
        name, found_one, words = command.resolve_command(context, words)
        assert found_one is not None
        context = found_one.make_context(name, list(words), parent=context)
        command = context.command
        words = [*context._protected_args, *context.args]


def test_the_advice_of_the_alerts_is_found() -> None:
    assert {"poolwarden approve", "poolwarden confirm-fenced", "poolwarden start-lost"} <= {
        f"poolwarden {line.split()[0]}" for line in ADVISED
    }
