"""Old masters that come back, with the shipped parts: real agents, the packaged drop-in and wrapper, a real collector.

The same stories in virtual time, to the last word: tests/scenarios.
"""

import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab_rig import Lab
from test_gate import conf, gate, succeeded

pytestmark = pytest.mark.needs("namespaces", "ip", "nft")
FAST = ("--time-factor", "20")
BY_HAND = """
import xmlrpc.client
xapi = xmlrpc.client.ServerProxy("http://10.99.0.12", allow_none=True)
session = xapi.session.slave_local_login_with_password("root", "xenroot")["Value"]
answer = xapi.pool.emergency_transition_to_master(session)
assert answer["Status"] == "Success", answer
"""


def kinds(lab: Lab) -> list[str]:
    return [entry.kind for entry in lab.history()]


def healthy_under(lab: Lab, address: str, limit_s: float = 90) -> None:
    def seen() -> bool:
        pool = lab.pool()
        return pool.verdict == "Healthy" and pool.master_address == address

    lab.wait(seen, f"healthy under {address}", limit_s)


def power(lab: Lab, word: str, *hosts: str) -> None:
    """All at once: a command takes seconds on a busy machine, and they are of one event."""
    with ThreadPoolExecutor(len(hosts)) as at_once:
        list(at_once.map(lambda host: lab.lab("fault", host, word), hosts))


def test_s28_a_dark_site_lets_its_old_master_win(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(3, *FAST)
    power(lab, "power", "h2", "h3", "h1")
    lab.wait(lambda: lab.pool().verdict == "PoolDark", "PoolDark")
    power(lab, "power-on", "h2", "h3", "h1")
    healthy_under(lab, "10.99.0.11")
    assert not {"promote-intent", "fence-intent"} & set(kinds(lab))


def test_s36_while_the_collector_is_away_the_members_word_opens_the_gate_of_a_master_that_nobody_succeeded(
    new_lab: Callable[[], Lab],
) -> None:
    lab = new_lab().up(3, *FAST)
    lab.lab("fault", "collector", "freeze")
    power(lab, "power", "h1")
    power(lab, "power-on", "h1")
    lab.wait(lambda: "xapi:       may start" in gate(lab, "h1"), "the members' word", 60)
    assert conf(lab, "h1") == "master"
    lab.lab("fault", "collector", "thaw")
    healthy_under(lab, "10.99.0.11")
    assert "promote-intent" not in kinds(lab)


@pytest.mark.long
def test_s39_an_isolated_old_master_stays_shut_until_a_person_there_opens_it(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(3, *FAST)
    power(lab, "power", "h1")
    address = succeeded(lab)
    power(lab, "isolate", "h1")
    power(lab, "power-on", "h1")
    lab.wait(lambda: "management link is down" in gate(lab, "h1"), "the gate's reason", 60)
    assert "xapi:       waits" in gate(lab, "h1") and conf(lab, "h1") == "master"
    said = lab.lab("exec", "h1", "--", "cat", "var/log/agent.log", check=False).stdout
    opened = ("exec", "h1", "--", "opt/poolwarden/bin/poolwarden-agent", "gate", "open", "--name")
    wrong = lab.lab(*opened, "another", check=False)
    assert wrong.returncode == 1 and "is not this host's name" in wrong.stdout + wrong.stderr + said
    lab.lab(*opened, "lab-h1")
    lab.wait(lambda: "xapi:       may start" in gate(lab, "h1"), "the gate that a person opened")
    lab.lab("heal", "h1")
    # Two hosts act as master now: the collector says so, and the one that was succeeded is made a member.
    lab.wait(lambda: conf(lab, "h1") == f"slave:{address}", "the old master follows", 90)
    healthy_under(lab, address)


@pytest.mark.long
def test_s40_an_old_master_that_returns_amid_the_promotion_finds_its_gate_shut(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(3, *FAST)
    power(lab, "power", "h1")
    lab.wait_kind("promote-intent")
    power(lab, "power-on", "h1")
    address = succeeded(lab)
    lab.wait(lambda: conf(lab, "h1") == f"slave:{address}", "the old master follows", 90)
    assert kinds(lab).count("promote-intent") == 1
    before = lab.lab("exec", "h1", "--", "cat", "var/lib/poolwarden/pool.conf.before").stdout
    assert before.strip() == "master", "what pool.conf said before is kept"


@pytest.mark.long
def test_s72_a_cold_start_without_the_collector_opens_at_the_members_word(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(2, *FAST)
    lab.lab("fault", "collector", "freeze")
    power(lab, "power", "h1", "h2")
    power(lab, "power-on", "h1")
    lab.wait(lambda: "xapi:       waits" in gate(lab, "h1"), "the gate that asks", 40)
    power(lab, "power-on", "h2")
    lab.wait(lambda: "xapi:       may start" in gate(lab, "h1"), "the member's word", 60)
    assert conf(lab, "h1") == "master"


@pytest.mark.long
def test_s73_and_s74_a_returned_master_gets_its_role_back_and_its_next_boot_is_not_gated_against_it(
    new_lab: Callable[[], Lab],
) -> None:
    lab = new_lab().up(3, *FAST)
    power(lab, "power", "h1")
    address = succeeded(lab)
    assert "cool-down" in lab.cli("explain", "lab").stdout
    power(lab, "power-on", "h1")  # S73: during the cool-down
    lab.wait(lambda: conf(lab, "h1") == f"slave:{address}", "the old master follows")
    lab.wait(lambda: not lab.pool().owed and lab.pool().verdict == "Healthy", "nothing is owed", 90)
    done = lab.wait(lambda: _designated(lab), "the role handed back", 60)
    assert done
    healthy_under(lab, "10.99.0.11")
    power(lab, "power", "h1")
    power(lab, "power-on", "h1")
    lab.wait(lambda: conf(lab, "h1") == "master" and "may start" in gate(lab, "h1"), "its next boot")
    healthy_under(lab, "10.99.0.11")
    assert kinds(lab).count("promote-intent") == 1


def _designated(lab: Lab) -> bool:
    with contextlib.suppress(AssertionError):
        return lab.cli("designate", "lab-h1").returncode == 0
    return False


def test_s79_a_promotion_by_hand_is_adopted_and_its_next_boot_is_not_gated_against_it(
    new_lab: Callable[[], Lab],
) -> None:
    lab = new_lab().up(2, *FAST)
    lab.lab("fault", "collector", "freeze")
    power(lab, "power", "h1")
    lab.lab("exec", "h2", "--", sys.executable, "-c", BY_HAND)
    lab.wait(lambda: conf(lab, "h2") == "master", "the promotion by hand")
    lab.lab("fault", "collector", "thaw")
    lab.wait(lambda: lab.pool().master_address == "10.99.0.12", "the new master adopted", 90)
    assert "promote-intent" not in kinds(lab)
    power(lab, "power", "h2")
    power(lab, "power-on", "h2")
    lab.wait(lambda: conf(lab, "h2") == "master" and "may start" in gate(lab, "h2"), "its next boot", 90)


@pytest.mark.long
def test_s80_a_candidate_that_dies_for_good_leaves_the_role_to_the_gated_old_master(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(2, *FAST)
    power(lab, "power", "h1")
    lab.wait_kind("promote-intent")
    power(lab, "power", "h2")
    power(lab, "power-on", "h1")
    lab.wait(lambda: conf(lab, "h1") == "master" and "may start" in gate(lab, "h1"), "the old master's turn", 150)
    lab.wait(lambda: lab.pool().master_address == "10.99.0.11", "it serves again", 60)
