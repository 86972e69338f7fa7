"""The collector is killed with SIGKILL at every step of a failover: same failover, same candidate, one master."""

import contextlib
import json

import pytest

from poolwarden_lab.processes.control import LabError

pytestmark = pytest.mark.needs("namespaces", "ip")

STEPS = ("decided", "claimed", "candidate", "proof", "promote-intent", "promote-answer", "promoted", "repoint-intent",
         "member-back")  # fmt: skip


def killed_at(lab, kinds):
    """Lose the master's power, kill the collector at the first entry of each kind, and wait for the end."""
    lab.lab("fault", "h1", "power")
    left = set(kinds)
    for entry in lab.follow(240):
        if entry.kind in left:
            left.discard(entry.kind)
            kill(lab)
        if entry.kind == "closed":
            break
        assert entry.kind not in ("aborted", "superseded")
    assert not left, f"never reached: {left}"
    check(lab)
    assert starts(lab) >= 1 + len(kinds)


def starts(lab):
    return lab.ask(op="status")["status"]["collector"]["starts"]


def kill(lab):
    """Entries of one commit are seen together: the collector may still be down from the last kill."""

    before = starts(lab)

    def killed():
        with contextlib.suppress(LabError):
            lab.ask(op="fault", host="collector", kind="kill")
        return starts(lab) > before

    lab.wait(killed, "the killed collector's next start", 20)


def check(lab):
    history = lab.history()
    assert len([e for e in history if e.kind == "decided"]) == 1
    intents = [json.loads(e.data) for e in history if e.kind == "promote-intent"]
    assert len({intent["host"] for intent in intents}) == 1
    assert len({intent["order"] for intent in intents}) == 1
    assert len([e for e in history if e.kind == "promoted"]) == 1
    masters = [h for h in lab.ask(op="status")["status"]["hosts"] if h["alive"] and h["pool_conf"] == "master"]
    assert [h["uuid"] for h in masters] == [intents[0]["host"]]
    assert lab.wait(lambda: lab.pool().master_address, "a verified master") == masters[0]["address"]


@pytest.mark.long
def test_killed_at_every_step_of_one_failover(new_lab):
    killed_at(new_lab().up(3, "--time-factor", "20"), STEPS)


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_this_step_alone(new_lab, step):
    killed_at(new_lab().up(3, "--time-factor", "20"), (step,))
