"""Every proof stands on several facts at once: each of them changed alone, and the refusal that it must give.

A pool is brought, by events, to where the proof stands; one fact of what is known then is replaced by hand. Whoever
takes a condition out of ``proof.py`` is told here, also where another rule stands beside it on every way that a story
goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.core.failover.test_reversals import intended, nobody_serves
from tests.core.failover.test_toolstack import hung, until
from tests.core.known import (
    SECOND,
    Change,
    after,
    both,
    facts,
    failover_of,
    hello,
    live,
    look,
    of_failover,
    of_role,
    of_xapi,
    record,
    said,
    same,
    seen,
    silent,
)
from tests.core.pool import Guarded, address, uuid

from poolwarden_collector.core.evidence import proof as proofs
from poolwarden_collector.core.evidence.proof import Proof, paired_since, verify_human, verify_power
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import BootGate, GateState, HostFacts, Liveness, ProbeOutcome
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import Ms, ProcessId, Role
from poolwarden_collector.core.state.failover_record import Fencing
from poolwarden_collector.core.state.followup_record import Switch
from poolwarden_collector.core.state.live import Pool, PoolLive, PowerState
from poolwarden_collector.core.state.live_slices import (
    ClaimRound,
    CollectorProbe,
    CollectorProbes,
    FencedHosts,
    LastLook,
)
from poolwarden_collector.core.state.pool_record import Confirmed
from poolwarden_collector.core.state.transaction import Transaction

# ------------------------------------------------------------------------------------------------ power


@pytest.fixture(scope="module")
def off() -> Guarded:
    """The old master's power was read OFF twice, and nothing has lived since."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.PROOF)
    return g


def readings(*given: tuple[Power, Ms, Ms, int]) -> Callable[[Guarded], Change]:
    """These readings of bmc-1: power, seconds since it began and since it ended, and the member that ran it."""

    def of(g: Guarded) -> Change:
        found = tuple(
            PowerReading(power, "bmc-1", g.now - began, g.now - ended, through=uuid(n) if n else "")
            for power, began, ended, n in given
        )
        state = replace(g.pool.live.power["bmc-1"], readings=found)
        return live(power={**g.pool.live.power, "bmc-1": state})

    return of


def by_power(tx: Transaction, boot: str = "") -> str:
    return said(verify_power(tx, uuid(1), boot or tx.record.hosts[uuid(1)].boot_id))


OFF, ON, UNKNOWN = Power.OFF, Power.ON, Power.UNKNOWN


@pytest.mark.parametrize(
    "given, code",
    [
        ([(OFF, 5_100, 5_000, 0), (OFF, 1_100, 1_000, 0)], ""),
        ([(OFF, 13_200, 13_100, 0), (OFF, 10_100, 10_000, 0)], ""),
        ([(OFF, 13_202, 13_101, 0), (OFF, 10_101, 10_001, 0)], "STALE"),
        ([(OFF, 14_000, 13_500, 2), (OFF, 10_001, 9_000, 3)], "STALE"),  # a member's word is as old as the question
        ([(OFF, 5_100, 4_000, 0), (OFF, 1_001, 900, 0)], "ONE_READING"),  # from the end of one to the start of the next
        ([(OFF, 5_100, 5_000, 0)], "ONE_READING"),
        ([(OFF, 9_100, 9_000, 0), (UNKNOWN, 5_100, 5_000, 0), (OFF, 1_100, 1_000, 0)], "ONE_READING"),
        ([(OFF, 5_100, 5_000, 0), (ON, 1_100, 1_000, 0)], "POWER_ON"),
        ([(OFF, 5_100, 5_000, 0), (UNKNOWN, 1_100, 1_000, 0)], "POWER_UNKNOWN"),
        ([], "POWER_UNKNOWN"),
    ],
)
def test_of_the_two_off_readings(off: Guarded, given: list[tuple[Power, Ms, Ms, int]], code: str) -> None:
    off = off_long_ago(off)
    assert by_power(after(off, readings(*given)(off))) == code


def off_long_ago(g: Guarded) -> Guarded:
    """The same a minute later, so that no reading of the last 20 s began before the host's last word."""
    later = Guarded.__new__(Guarded)
    later.__dict__ = {**g.__dict__, "now": g.now + 60_000}
    return later


def test_the_proof_by_power_is_of_one_boot_and_of_a_bound_device(off: Guarded) -> None:
    assert by_power(after(off, same)) == ""
    assert by_power(after(off, same), "another boot") == "UNBOUND"
    unbound = record(devices=replace(off.pool.record.devices, bonds={}))
    assert by_power(after(off, unbound)) == "POWER_UNKNOWN"


def test_nothing_is_proven_by_power_while_that_power_is_being_switched(off: Guarded) -> None:
    switch = Switch.__new__(Switch)
    switching = record(after=replace(off.pool.record.after, switches={uuid(1): switch}))
    assert by_power(after(off, switching)) == "SWITCHING"
    other = record(after=replace(off.pool.record.after, switches={uuid(2): switch}))
    assert by_power(after(off, other)) == ""


def test_a_reading_that_began_before_a_probe_was_answered_is_none_of_the_two(off: Guarded) -> None:
    first = off.pool.live.power["bmc-1"].readings[-2].started_at

    def answered(at: Ms, host: str = uuid(1)) -> Change:
        return live(CollectorProbes, newest=CollectorProbe(host, ProbeOutcome.NO_ANSWER, off.now, at))

    assert by_power(after(off, answered(first))) == "ONE_READING"
    assert by_power(after(off, answered(first - 1))) == ""
    assert by_power(after(off, answered(off.now))) == "POWER_UNKNOWN"  # there is not one
    assert by_power(after(off, answered(off.now, uuid(2)))) == ""


def test_both_feeds_must_be_read_off_and_be_bound_to_that_boot(off: Guarded) -> None:
    two = {uuid(1): (FenceDevice("bmc-1", uuid(1)), FenceDevice("pdu-1", uuid(1)))}
    bonds, seen = off.pool.record.devices.bonds, off.pool.live.power
    state = replace(seen["bmc-1"], readings=tuple(replace(r, device="pdu-1") for r in seen["bmc-1"].readings))

    def pool(before: Pool, power: dict[str, Any], bound: dict[str, Any]) -> Pool:
        before = replace(before, devices=two)
        return live(power=power)(record(devices=replace(before.record.devices, bonds=bound))(before))

    both = {**bonds, "pdu-1": bonds["bmc-1"]}
    assert by_power(after(off, lambda p: pool(p, {**seen, "pdu-1": state}, both))) == ""
    assert by_power(after(off, lambda p: pool(p, seen, both))) == "POWER_UNKNOWN"
    assert by_power(after(off, lambda p: pool(p, {**seen, "pdu-1": state}, bonds))) == "POWER_UNKNOWN"


def via_members(pool: Pool) -> Pool:
    """The device's agent is run by members; hosts 2 and 3 may."""
    for n in (2, 3):
        pool = hello(n, fence_agents=frozenset({"fence_x"}))(pool)
    return replace(pool, devices={uuid(1): (FenceDevice("bmc-1", uuid(1), agent="fence_x", via_members=True),)})


def test_where_two_members_can_read_it_the_two_readings_are_of_two(off: Guarded) -> None:
    off = off_long_ago(off)

    def read_by(*numbers: int) -> Transaction:
        first, second = numbers
        given = readings((OFF, 5_100, 5_000, first), (OFF, 1_100, 1_000, second))(off)
        return replace_agents(after(off, lambda pool: via_members(given(pool))), off.now)

    assert by_power(read_by(2, 3)) == "" and by_power(read_by(2, 2)) == "ONE_READING"


def replace_agents(tx: Transaction, now: Ms) -> Transaction:
    """Hosts 2 and 3 have only just been heard."""
    fresh = {h: replace(a, last_heard=now) if h != uuid(1) else a for h, a in tx.live.agents.items()}
    tx.change(PoolLive, agents=fresh)
    return tx


def test_a_last_look_is_from_after_the_first_pair_of_independent_readings(off: Guarded) -> None:
    off = off_long_ago(off)

    def since(*given: tuple[Power, Ms, Ms, int], change: Change = same) -> Ms:
        fitting = readings(*given)(off)
        d = replace_agents(after(off, lambda pool: change(fitting(pool))), off.now)
        return off.now - paired_since(d, uuid(1))

    assert since((OFF, 9_000, 8_900, 0), (OFF, 7_000, 6_900, 0), (OFF, 5_000, 4_900, 0), (OFF, 1_000, 900, 0)) == 5_000
    assert since((OFF, 9_000, 8_900, 0), (ON, 7_000, 6_900, 0), (OFF, 5_000, 4_900, 0), (OFF, 1_000, 900, 0)) == 1_000
    twice = (OFF, 9_000, 8_900, 2), (OFF, 5_000, 4_900, 2), (OFF, 1_000, 900, 3)
    assert since(*twice, change=via_members) == 1_000  # of two members, where members run it


# ------------------------------------------------------------------------------------------------ a person's word


@pytest.fixture(scope="module")
def unreadable() -> Guarded:
    g = Guarded()
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    g.run(60_000)
    return g


WORD = {"by": "alice", "how": "cord pulled", "typed": "host-1"}


def by_word(tx: Transaction, word: dict[str, Any] | None) -> str:
    return said(verify_human(tx, uuid(1), "boot-1-1", word))


def test_a_persons_word_is_of_this_run_and_young(unreadable: Guarded) -> None:
    g, fresh = unreadable, unreadable.policy.human_proof_fresh
    assert by_word(after(g, live(FencedHosts, word_used=g.now)), WORD) == ""
    assert by_word(after(g, live(FencedHosts, word_used=g.now)), None) == "NO_CONFIRMATION"
    assert by_word(after(g, live(FencedHosts, word_used=None)), WORD) == "CONFIRM_AGAIN"
    assert by_word(after(g, live(FencedHosts, word_used=g.now), fresh), WORD) == ""
    assert by_word(after(g, live(FencedHosts, word_used=g.now), fresh + 1), WORD) == "CONFIRM_AGAIN"


def test_a_persons_word_does_not_stand_against_later_life_of_that_host(unreadable: Guarded) -> None:
    g = unreadable
    at = g.now - 10 * SECOND

    def life(when: Ms, n: int = 1) -> Transaction:
        return after(g, both(live(FencedHosts, word_used=at), live(contrary=(when, "its xapi answered", uuid(n)))))

    assert by_word(life(at + 1), WORD) == "LIFE_SEEN"
    assert by_word(life(at), WORD) == "" and by_word(life(at + 1, 2), WORD) == ""


def test_a_persons_word_does_not_stand_against_a_power_that_reads_on_unless_he_said_so(unreadable: Guarded) -> None:
    g = unreadable
    on = readings((ON, 1_100, 1_000, 0))(g)

    def both(pool: Pool) -> Pool:
        return live(FencedHosts, word_used=g.now)(on(pool))

    assert by_word(after(g, both), WORD) == "POWER_ON"
    assert by_word(after(g, both), {**WORD, "despite_power_on": True}) == ""


def test_only_the_verifiers_make_a_proof() -> None:
    with pytest.raises(TypeError):
        Proof(object(), ProofKind.POWER, uuid(1), "boot-1-1", {})


def test_each_kind_of_proof_is_known_by_its_word_and_says_itself() -> None:
    assert all(ProofKind.of(kind.word) is kind for kind in ProofKind)
    with pytest.raises(ValueError, match="'silence' is no kind of proof"):
        ProofKind.of("silence")
    said = ProofKind.REBOOTED.sentence("host-1", {"gate_term": 7})
    assert said == "host-1 has booted anew, and its boot gate is shut at term 7"


# ------------------------------------------------------------------------------------------------ toolstack


@pytest.fixture(scope="module")
def held() -> Guarded:
    """The old master holds its toolstack, and members are refused there; the order to promote gets no answer."""
    g = hung()
    g.on_order = lambda host, order: None if order.kind_name == "promote" else g.default(host, order)
    until(g, Kind.PROMOTE_INTENT)
    return g


def of_hold(**changes: Any) -> Change:
    def change(f: HostFacts) -> HostFacts:
        assert f.hold is not None
        return replace(f, hold=replace(f.hold, **changes))

    return facts(1, change)


def by_hold(g: Guarded, change: Change, later: Ms = 0) -> str:
    return said(proofs.verify_toolstack(after(g, change, later), failover_of(g)))


def test_the_toolstack_proof_stands_on_each_of_its_facts(held: Guarded) -> None:
    g = held
    assert by_hold(g, same) == ""
    assert by_hold(g, silent(1)) == "AGENT_LOST"
    assert by_hold(g, hello(1, boot_id="boot-1-2")) == "BOOTED"
    assert by_hold(g, facts(1, lambda f: replace(f, hold=None))) == "NOT_HELD"
    for term in (failover_of(g).term - 1, failover_of(g).term + 1):
        assert by_hold(g, of_hold(term=term)) == "NOT_HELD"
    assert by_hold(g, seen(1, None)) == "STALE"
    assert by_hold(g, of_hold(stopped=False)) == by_hold(g, of_hold(ports_closed=False)) == "NOT_STOPPED"
    assert by_hold(g, of_xapi(1, liveness=Liveness.ANSWERS)) == "NOT_STOPPED"
    assert by_hold(g, live(LastLook, round=None)) == "NO_PROBE"
    assert by_hold(g, look(alive="host-2 was answered")) == "LIFE_SEEN"


def test_what_the_toolstack_proof_stands_on_is_ten_seconds_old_at_most(held: Guarded) -> None:
    g, fresh = held, held.policy.reading_fresh
    assert by_hold(g, seen(1, g.now - fresh)) == "" and by_hold(g, seen(1, g.now - fresh - 1)) == "STALE"
    assert by_hold(g, look(at=g.now - fresh)) == "" and by_hold(g, look(at=g.now - fresh - 1)) == "NO_PROBE"


def test_only_the_refusal_of_one_who_has_reached_that_xapi_counts(held: Guarded) -> None:
    g = held
    assert by_hold(g, look(refused=())) == "NO_PROBER"
    assert by_hold(g, look(refused=(uuid(1),))) == "NO_PROBER"  # its own word on its own port

    def stranger(pool: Pool) -> Pool:
        return record(standing={})(look(refused=(uuid(2),))(pool))

    assert by_hold(g, stranger) == "NO_PROBER"
    its_own = {**g.pool.record.standing, uuid(1): ""}
    assert by_hold(g, lambda pool: record(standing=its_own)(look(refused=(uuid(1),))(pool))) == "NO_PROBER"


def test_the_collectors_own_refused_probe_counts_if_it_ever_was_answered_there(held: Guarded) -> None:
    g, fresh = held, held.policy.reading_fresh

    def own(asked: bool = True, n: int = 1, at: Ms = 0, answered: Ms | None = 1, refused: bool = True) -> str:
        outcome = ProbeOutcome.REFUSED if refused else ProbeOutcome.NO_ANSWER
        probe = CollectorProbe(uuid(n), outcome, g.now - at, answered)

        def change(pool: Pool) -> Pool:
            pool = replace(pool, policy=replace(pool.policy, collector_probe=asked))
            return live(CollectorProbes, newest=probe)(look(refused=())(pool))

        return by_hold(g, change)

    assert own() == "" and own(at=fresh) == ""
    for other in (own(asked=False), own(n=2), own(at=fresh + 1), own(answered=None), own(refused=False)):
        assert other == "NO_PROBER"


# ------------------------------------------------------------------------------------------------ rebooted


@pytest.fixture(scope="module")
def rebooted() -> Guarded:
    """The old master has booted anew behind a gate that is shut at the failover's term."""
    g = intended()
    g.run(1_000)
    old = g.host(1)
    old.boot, old.agent, old.power = "boot-1-2", True, Power.ON
    old.liveness, old.socket, old.process, old.serves = Liveness.DOWN, Liveness.DOWN, ProcessId(0, 0), False
    old.gate = BootGate(GateState.SHUT, "a successor was intended", g.now, failover_of(g).term)
    g.connect(old)
    g.report(old)
    return g


def by_reboot(g: Guarded, change: Change) -> str:
    return said(proofs.verify_rebooted(after(g, change), failover_of(g)))


def gate(g: Guarded, state: GateState, term: int) -> Change:
    return facts(1, lambda f: replace(f, boot_gate=BootGate(state, "", g.now, term)))


def test_the_rebooted_proof_stands_on_each_of_its_facts(rebooted: Guarded) -> None:
    g, term = rebooted, failover_of(rebooted).term
    assert by_reboot(g, same) == "" and by_reboot(g, gate(g, GateState.SHUT, term + 1)) == ""
    assert by_reboot(g, silent(1)) == by_reboot(g, hello(1, boot_id="boot-1-1")) == "NOT_REBOOTED"
    machine = g.pool.live.agents[uuid(1)].hello.machine
    assert by_reboot(g, hello(1, machine=replace(machine, system_uuid="dmi-9"))) == "OTHER_MACHINE"
    assert by_reboot(g, gate(g, GateState.SHUT, term - 1)) == "GATE_OPEN"  # of an older change of master
    assert by_reboot(g, facts(1, lambda f: replace(f, boot_gate=None))) == "GATE_OPEN"
    for state in set(GateState) - {GateState.SHUT}:
        assert by_reboot(g, gate(g, state, term)) == "GATE_OPEN"
    assert by_reboot(g, of_xapi(1, process=ProcessId(7, 7))) == "NOT_STOPPED"
    fresh = g.policy.reading_fresh
    assert by_reboot(g, seen(1, None)) == by_reboot(g, seen(1, g.now - fresh - 1)) == "STALE"
    assert by_reboot(g, seen(1, g.now - fresh)) == ""


def test_a_machine_that_does_not_tell_which_it_is_is_not_known_to_be_the_same(rebooted: Guarded) -> None:
    g = rebooted
    unnamed = replace(failover_of(g), old_machine="")
    machine = replace(g.pool.live.agents[uuid(1)].hello.machine, system_uuid="")
    assert said(proofs.verify_rebooted(after(g, hello(1, machine=machine)), unnamed)) == "OTHER_MACHINE"
    # What a vendor has left in place is the UUID of many machines.
    sample = "03000200-0400-0500-0006-000700080009"
    failover, machine = replace(failover_of(g), old_machine=sample), replace(machine, system_uuid=sample)
    assert said(proofs.verify_rebooted(after(g, hello(1, machine=machine)), failover)) == "OTHER_MACHINE"


# ------------------------------------------------------------------------------------------------ roles


@pytest.fixture(scope="module")
def nobody() -> Guarded:
    """Every host is a member of another one; each has answered the claim."""
    g = nobody_serves()
    g.on_order = lambda host, order: None if order.kind_name == "promote" else g.default(host, order)
    until(g, Kind.PROMOTE_INTENT)
    return g


def by_roles(g: Guarded, change: Change) -> str:
    return said(proofs.verify_roles(after(g, change), failover_of(g)))


def test_the_roles_proof_needs_every_host_as_a_member(nobody: Guarded) -> None:
    g, fresh = nobody, nobody.policy.reading_fresh
    assert by_roles(g, same) == ""
    assert by_roles(g, silent(3)) == "HOST_SILENT"
    claims = {host: claim for host, claim in g.pool.live.claims.answers.items() if host != uuid(3)}
    assert by_roles(g, live(ClaimRound, answers=claims)) == "NO_CLAIM"
    assert by_roles(g, seen(3, None)) == by_roles(g, seen(3, g.now - fresh - 1)) == "STALE"
    assert by_roles(g, seen(3, g.now - fresh)) == ""
    for other in (Role.MASTER, Role.BROKEN, Role.UNKNOWN):
        assert by_roles(g, of_role(3, pool_conf=other)) == "MAY_BE_MASTER"
    assert by_roles(g, of_role(3, running=Role.MASTER)) == "MAY_BE_MASTER"
    assert by_roles(g, of_role(3, serves_as_master=True)) == "MAY_BE_MASTER"


def test_a_running_xapi_of_which_the_role_is_not_known_may_be_a_master(nobody: Guarded) -> None:
    g = nobody

    def unknown(process: ProcessId) -> Change:
        return lambda pool: of_xapi(3, process=process)(of_role(3, running=Role.UNKNOWN)(pool))

    assert by_roles(g, unknown(ProcessId(7, 7))) == "MAY_BE_MASTER"
    assert by_roles(g, unknown(ProcessId(0, 0))) == ""  # none runs, and pool.conf makes the next one a member


def test_whom_a_member_follows_must_be_heard_or_known_to_be_off(nobody: Guarded) -> None:
    g = nobody
    assert by_roles(g, of_role(3, master_address="10.0.0.99")) == "NAMES_STRANGER"
    assert by_roles(g, of_role(3, master_address=address(2))) == ""


def test_a_silent_host_that_is_followed_is_off_by_its_power_or_a_word_of_this_run(nobody: Guarded) -> None:
    g = nobody
    word = Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled")

    def gone(pool: Pool) -> Pool:
        known = replace(pool.live.agents[uuid(3)], connected=False, last_heard=0)
        pool = live(agents={**pool.live.agents, uuid(3): known}, power={**pool.live.power, "bmc-3": PowerState()})(pool)
        return facts(2, lambda f: replace(f, probes=()))(facts(1, lambda f: replace(f, probes=()))(pool))

    def said(at: Ms | None) -> Change:
        words = {} if at is None else {uuid(3): at}
        return lambda pool: live(FencedHosts, words_at=words)(record(confirmed={uuid(3): word})(gone(pool)))

    def read_off(pool: Pool) -> Pool:
        given = tuple(PowerReading(OFF, "bmc-3", g.now - ago - 100, g.now - ago) for ago in (5_000, 1_000))
        return live(power={**pool.live.power, "bmc-3": PowerState(given)})(gone(pool))

    def followed(change: Change) -> Change:
        return lambda pool: of_role(2, master_address=address(3))(change(pool))

    assert by_roles(g, gone) == "HOST_SILENT"
    for off in (read_off, said(g.now), said(None)):
        assert by_roles(g, of_role_elsewhere(off)) == ""
    assert by_roles(g, followed(read_off)) == "" and by_roles(g, followed(said(g.now))) == ""
    assert by_roles(g, followed(said(None))) == "NAMES_STRANGER"  # the likeliest master, by a word of an earlier run
    assert by_roles(g, followed(said(g.now - g.policy.human_proof_fresh - 1))) == "NAMES_STRANGER"


def of_role_elsewhere(change: Change) -> Change:
    """Nobody who is heard follows host 3."""
    return lambda pool: of_role(1, master_address=address(2))(of_role(2, master_address=address(1))(change(pool)))


# ------------------------------------------------------------------------------------------------ another machine's OFF


def fallen(off: Guarded, *changes: Change, beside: dict[str, str] | None = None) -> str:
    """Why an OFF that may be another machine's proves nothing: the device cannot tell which one it switches."""
    said = {uuid(n): off.pool.live.agents[uuid(n)].hello.boot_id for n in (2, 3)} if beside is None else beside
    pool = of_failover(Fencing, beside=said, attempts=(("bmc-1", 1),))(off.pool)
    untold = record(
        devices=replace(
            pool.record.devices,
            bonds={
                **pool.record.devices.bonds,
                "bmc-1": replace(pool.record.devices.bonds["bmc-1"], said=DeviceIdentity()),
            },
        )
    )
    mute = live(power={**pool.live.power, "bmc-1": replace(pool.live.power["bmc-1"], said=DeviceIdentity())})
    for change in (untold, mute, *changes):
        pool = change(pool)
    tx = Transaction(pool, off.now, off.site)
    assert tx.failover is not None
    first = min(agent.last_heard for host, agent in off.pool.live.agents.items() if host != uuid(1))
    found = proofs._fallen_silent(tx, uuid(1), first)
    return "" if found is None else found.code


def last_heard(n: int, at: Ms) -> Change:
    def change(pool: Pool) -> Pool:
        agent = replace(pool.live.agents[uuid(n)], last_heard=at)
        return live(agents={**pool.live.agents, uuid(n): agent})(pool)

    return change


def stream_opened(n: int, at: Ms) -> Change:
    def change(pool: Pool) -> Pool:
        agent = replace(pool.live.agents[uuid(n)], connected_at=at)
        return live(agents={**pool.live.agents, uuid(n): agent})(pool)

    return change


def test_an_off_that_took_another_machine_proves_nothing(off: Guarded) -> None:
    """Whoever was heard when it was switched off is heard since, in that boot; else it may be his power that went."""
    assert fallen(off) == ""
    assert fallen(off, last_heard(3, 0)) == "ANOTHER_FELL_SILENT"
    assert fallen(off, hello(3, boot_id="boot-3-2")) == "ANOTHER_FELL_SILENT"
    without = {host: agent for host, agent in off.pool.live.agents.items() if host != uuid(3)}
    assert fallen(off, live(agents=without)) == "ANOTHER_FELL_SILENT"
    first = min(agent.last_heard for host, agent in off.pool.live.agents.items() if host != uuid(1))
    assert fallen(off, last_heard(3, first - 1)) == "STALE"  # heard, and not yet since then
    # What it had said before it fell silent waited with its stream, and was read as that was let in.
    assert fallen(off, last_heard(3, first), stream_opened(3, first)) == "STALE"
    lived = first + off.pool.policy.suspect_after
    assert fallen(off, last_heard(3, lived), stream_opened(3, first)) == ""
    gone = {host: known for host, known in off.pool.record.hosts.items() if host != uuid(3)}
    assert fallen(off, last_heard(3, 0), record(hosts=gone)) == ""  # it is no host of the pool any more
    tells = record(devices=off.pool.record.devices)  # by its own word it switches this host's machine
    for other in (of_failover(old_master=uuid(2)), of_failover(Fencing, attempts=()), tells):
        assert fallen(off, last_heard(3, 0), other) == "", other
    assert proofs._fallen_silent(after(off, record(failover=None)), uuid(1), 0) is None
    assert fallen(off, last_heard(3, 0), beside={}) == ""
