"""What a story's author mistypes: one line that says where, what was expected, and the nearest word that is known."""

import pytest

from poolwarden_lab.story import play
from poolwarden_lab.story.text import read_text
from poolwarden_lab.virtual.checks.invariants import InvariantBroken
from poolwarden_lab.virtual.world.pool import Simulation
from poolwarden_lab.xapi.actions import Event

BEFORE = ("log", "chassis", "one", "mute")  # words that stand before `start`


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("log with bodis", "did you mean bodies?"),
        ("state.db of h1 truncatd", "did you mean truncated?"),
        ("state.db of h9 empty", "unknown host 'h9'"),
        ("pool.conf of h1 unloadable", "none of truncated, empty, zeros, missing"),
        ("restore_db of h1 newer", "something is missing at the end"),
        ("chassis of h1", "name two or more hosts of one pool"),
        ("one bmc for h1 h7", "unknown host 'h7'"),
        ("mute devices on h5", "unknown host 'h5'"),
        ("root on h1 gate opn", "expected 'open'"),
        ("device pdu-a-h1 wired to h2", "unknown device 'pdu-a-h1'"),
        ("expect asked or", "a sign on both sides of `or`"),
        ("expect asked since mark", "has not said `mark`"),
        ("expect count blockd at most 1", "did you mean blocked?"),
        ("expect alerts at moost 1", "did you mean most?"),
        ("status in B", "unknown pool 'B'"),
    ],
)
def test_a_mistyped_line_is_refused_with_what_would_be_right(line: str, said: str) -> None:
    words = [line, "start"] if line.split()[0] in BEFORE else ["start", line]
    played = play.play(read_text("story", "\n".join(["pool 3", "vm web on h1", *words])))
    assert played.code == play.UNREADABLE
    assert len(played.problems) == 1 and said in played.problems[0].splitlines()[0]


def test_since_mark_stands_behind_what_looks_back_alone() -> None:
    played = play.play(read_text("story", "pool 2\nstart\nmark\nexpect master h1 since mark"))
    assert played.code == play.UNREADABLE and "leave `since mark` out" in played.problems[0]


def test_a_fault_of_the_model_is_no_success() -> None:
    """A host whose inventory names no installation cannot even begin: that is this model's end, not xapi's."""
    sim = Simulation(2).begin()
    sim.pool._note("h2", Event("model-fault", {"error": "ValueError('of a test')"}))
    with pytest.raises(InvariantBroken, match="MODEL"):
        sim.check()
