"""A fake collector on a Unix socket, and `poolwarden` run in this process against it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from poolwarden_collector.cli.main import run

from .fake_collector import FakeCollector, serve, socket_of


class Said(NamedTuple):
    """What one call of the command line printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed."""
        return json.loads(self.out)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCollector]:
    """A running fake; POOLWARDEN_COLLECTOR points at it."""
    collector = FakeCollector()
    server, _ = serve(collector, socket_of(tmp_path))
    monkeypatch.setenv("POOLWARDEN_COLLECTOR", socket_of(tmp_path))
    yield collector
    collector.hold_stream.set()
    server.stop(None).wait(5)


@pytest.fixture
def poolwarden(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Call the command line with these arguments; every line of text for people is checked to fit 80 columns."""

    def call(*arguments: str) -> Said:
        status = run(list(arguments))
        out, err = capsys.readouterr()
        if not {"--json", "check"}.intersection(arguments):  # a check prints one line, whatever its length
            typed = "poolwarden-agent enrol "  # to be copied, so it is one line
            assert [line for line in out.splitlines() if len(line) > 80 and not line.startswith(typed)] == []
        return Said(status, out, err)

    return call
