"""What can be asked of the stage: ``closed``, ``verdict Healthy``, ``vm web on h1``. So or not, and what is so instead.

The same signs serve `run until [not] SIGN`, `expect SIGN` and `expect not SIGN`. A sign is a state where it can be one
(``closed``: there was a failover and none is open), so that waiting for what is already so does not wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.journal import Kind
from poolwarden_lab.story.grammar import Lexicon
from poolwarden_lab.story.stage import Stage

SIGNS = Lexicon("sign", "Signs")


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether it is so, and what was found."""

    so: bool
    found: str


def _joined(items: list[str], none: str = "nobody") -> str:
    return ", ".join(items) or none


# ------------------------------------------------------------------------------------------------ verdict and failover


@SIGNS.form("verdict VERDICT", "The pool's verdict at this moment.")
def verdict(stage: Stage, word: str) -> Seen:
    return Seen(stage.world.verdict == word, f"the verdict is {stage.world.verdict}")


@SIGNS.form("seen VERDICT", "The pool had this verdict at some time since the log began.")
def seen_verdict(stage: Stage, word: str) -> Seen:
    words = list(dict.fromkeys(str(entry.data["verdict"]) for entry in stage.entries(Kind.VERDICT)))
    return Seen(word in words, f"the verdicts were {_joined(words, 'none')}")


def _step(stage: Stage) -> str:
    failover = stage.record.failover
    if failover is None:
        return "there is no failover"
    blocked = f", {failover.blocked}: {failover.blocker}" if failover.blocked else ""
    return f"the failover is {failover.step.value}{blocked}"


@SIGNS.form("failover open", "A failover is decided and not over.")
def failover_open(stage: Stage) -> Seen:
    failover = stage.record.failover
    return Seen(failover is not None and failover.open, _step(stage))


@SIGNS.form("failover", "A failover was decided since the log began.")
def failover(stage: Stage) -> Seen:
    return Seen(bool(stage.entries(Kind.DECIDED)), _step(stage))


@SIGNS.form("failovers NUMBER", "So many were decided since the log began.")
def failovers(stage: Stage, number: int) -> Seen:
    found = len(stage.entries(Kind.DECIDED))
    return Seen(found == number, f"{found} were decided")


@SIGNS.form("{closed|aborted|superseded}", "The last failover ended like this.")
def ended(stage: Stage, how: str) -> Seen:
    last = stage.record.failover
    return Seen(last is not None and last.step.value == how.upper(), _step(stage))


@SIGNS.form("blocked [WORD]", "The open failover names a blocker (BLOCKED_... or its end, e.g. NEEDS_HUMAN).")
def blocked(stage: Stage, code: str | None) -> Seen:
    last = stage.record.failover
    found = last.blocked if last is not None and last.open else ""
    return Seen(bool(found) and (code is None or found in (code, f"BLOCKED_{code}")), _step(stage))


@SIGNS.form("proof WORD", "The last failover's proof: power, human, toolstack, rebooted or roles.")
def proof(stage: Stage, kind: str) -> Seen:
    last = stage.record.failover
    found = last.proof.kind if last is not None and last.proof is not None else "none"
    return Seen(found == kind, f"the proof is {found}")


@SIGNS.form("healed", "One master serves, everybody with power follows it, no failover is open, nothing is starting.")
def healed(stage: Stage) -> Seen:
    masters = stage.world.masters()
    so = len(masters) == 1 and stage.world.healed(masters[0])
    return Seen(so, f"master: {_joined(masters)}; {_step(stage)}")


@SIGNS.form("recovered", "Healthy: one master serves, every host with power follows it, no failover is open.")
def recovered(stage: Stage) -> Seen:
    masters, record = stage.world.masters(), stage.record
    over = record.failover is None or not record.failover.open
    follow = len(masters) == 1 and all(
        stage.world.pool.pool_conf(host.name) == f"slave:{stage.world.pool.hosts[masters[0]].address}"
        for host in stage.world.pool.hosts.values()
        if host.power and host.name != masters[0]
    )
    so = over and follow and stage.world.verdict == "Healthy"
    return Seen(so, f"{stage.world.verdict}; master: {_joined(masters)}; {_step(stage)}")


@SIGNS.form("explained", "Recovered, or an alert is open that says what stands in the way.")
def explained(stage: Stage) -> Seen:
    seen: Seen = recovered(stage)
    return Seen(seen.so or bool(stage.record.open_alerts), f"{seen.found}; no alert is open")


@SIGNS.form("settled", "Healthy, nothing owed, out of quiet time, every device bound, every member live and enabled.")
def settled(stage: Stage) -> Seen:
    return Seen(stage.world.settled(), f"the verdict is {stage.world.verdict}; {_step(stage)}")


@SIGNS.form("paused", "An operator has paused the pool.")
def paused(stage: Stage) -> Seen:
    return Seen(stage.record.paused is not None, f"paused: {stage.record.paused}")


@SIGNS.form("term NUMBER", "The pool's term.")
def term(stage: Stage, number: int) -> Seen:
    return Seen(stage.record.term == number, f"the term is {stage.record.term}")


# ------------------------------------------------------------------------------------------------ hosts and VMs


@SIGNS.form("master HOST", "This host, and no other of its pool, serves as master: the truth, not anybody's opinion.")
def master(stage: Stage, host: str) -> Seen:
    masters = stage.world.masters()
    return Seen(masters == [host], f"serving: {_joined(masters)}")


@SIGNS.form("nobody serves", "No xapi serves as master.")
def no_master(stage: Stage) -> Seen:
    masters = stage.world.masters()
    return Seen(not masters, f"serving: {_joined(masters)}")


@SIGNS.form("member HOST of HOST", "pool.conf of the first says member of the second.")
def follows(stage: Stage, host: str, master: str) -> Seen:
    said = stage.world.pool.pool_conf(host)
    return Seen(said == f"slave:{stage.world.pool.hosts[master].address}", f"pool.conf of {host}: {said}")


@SIGNS.form("promotion", "A xapi was told to become master.")
def promotion(stage: Stage) -> Seen:
    return Seen(bool(stage.promotions()), f"promoted: {_joined(stage.promotions())}")


@SIGNS.form("promotions HOSTS...", "Exactly these were told so, in this order.")
def promotions(stage: Stage, hosts: list[str]) -> Seen:
    return Seen(stage.promotions() == hosts, f"promoted: {_joined(stage.promotions())}")


@SIGNS.form("promotion within TIME", "The order to become master was sent so soon after the log began.")
def promotion_within(stage: Stage, ms: int) -> Seen:
    events = stage.world.pool.events("promote-call", since_ms=stage.book.zero)
    first = events[0].ms - stage.book.zero if events else None
    return Seen(first is not None and first <= ms, "never" if first is None else f"after {first / 1000:.1f} s")


@SIGNS.form("power HOST {on|off}", "The machine's power.")
def power(stage: Stage, host: str, state: str) -> Seen:
    found = "on" if stage.world.pool.hosts[host].power else "off"
    return Seen(found == state, f"the power of {host} is {found}")


@SIGNS.form("xapi HOST {running|stopped}", "Is there a xapi process?")
def xapi(stage: Stage, host: str, state: str) -> Seen:
    found = "running" if stage.world.pool.hosts[host].model is not None else "stopped"
    return Seen(found == state, f"xapi on {host} is {found}")


@SIGNS.form("tombstone HOST", "The agent of this host has stored a tombstone.")
def tombstone(stage: Stage, host: str) -> Seen:
    side = stage.world.agents[host].side
    marked = side is not None and side.state.tombstone is not None
    return Seen(marked, f"{host} has {'a' if marked else 'no'} tombstone")


@SIGNS.form("vm VM on HOST", "The VM runs there.")
def vm_on(stage: Stage, vm: str, host: str) -> Seen:
    where = stage.vm_hosts(vm)
    return Seen(where == [host], f"{vm} runs on {_joined(where)}")


@SIGNS.form("vm VM down", "The VM runs nowhere.")
def vm_down(stage: Stage, vm: str) -> Seen:
    where = stage.vm_hosts(vm)
    return Seen(not where, f"{vm} runs on {_joined(where)}")


@SIGNS.form("killed VM...", "Exactly these VMs were terminated by a xapi.")
def killed(stage: Stage, vms: list[str]) -> Seen:
    return Seen(sorted(stage.killed()) == sorted(vms), f"killed: {_joined(stage.killed())}")


@SIGNS.form("kill", "A xapi has terminated some VM.")
def kill(stage: Stage) -> Seen:
    return Seen(bool(stage.killed()), f"killed: {_joined(stage.killed())}")


@SIGNS.form("shot [DEVICE]", "A fence device was asked to switch off (this one).")
def shot(stage: Stage, name: str | None) -> Seen:
    shots = stage.world.shots()
    return Seen(bool(shots) if name is None else name in shots, f"asked to switch off: {_joined(shots)}")


@SIGNS.form("shots NUMBER", "So many times a fence device was asked to switch off.")
def shots(stage: Stage, number: int) -> Seen:
    found = stage.world.shots()
    return Seen(len(found) == number, f"asked to switch off: {_joined(found)}")


# ---------------------------------------------------------------------------------------- journal, alerts, words


def _matching(stage: Stage, kind: Kind, text: str | None) -> list[str]:
    said = [stage.names.of(entry.text) for entry in stage.entries(kind)]
    return [each for each in said if text is None or text in each]


@SIGNS.form("journal KIND [TEXT]", "Such an entry was written since the log began (with this in its sentence).")
def journal(stage: Stage, kind: Kind, text: str | None) -> Seen:
    found = _matching(stage, kind, None)
    return Seen(bool(_matching(stage, kind, text)), f"{len(found)} entries: {_joined(found[-2:], 'none')}")


@SIGNS.form("count KIND NUMBER", "So many such entries were written since the log began.")
def count(stage: Stage, kind: Kind, number: int) -> Seen:
    found = len(_matching(stage, kind, None))
    return Seen(found == number, f"there are {found}")


@SIGNS.form("alert [TEXT]", "An alert was raised since the log began (with this in its title or body).")
def alert(stage: Stage, text: str | None) -> Seen:
    said = [stage.names.of(f"{each.title}\n{each.body}") for each in stage.alerts()]
    so = any(text is None or text in each for each in said)
    return Seen(so, f"alerts: {_joined([each.splitlines()[0] for each in said], 'none')}")


@SIGNS.form("open alert [TEXT]", "Such an alert is not over.")
def open_alert(stage: Stage, text: str | None) -> Seen:
    said = [stage.names.of(f"{each.title}\n{each.body}") for each in stage.open_alerts()]
    so = any(text is None or text in each for each in said)
    return Seen(so, f"open alerts: {_joined([each.splitlines()[0] for each in said], 'none')}")


@SIGNS.form("asked [TEXT]", "An operator was asked something (with this in the question).")
def asked(stage: Stage, text: str | None) -> Seen:
    return journal(stage, Kind.ASKED, text)  # type: ignore[no-any-return]


@SIGNS.form("owed [HOST]", "Work is owed (to this host).")
def owed(stage: Stage, host: str | None) -> Seen:
    items = [f"{item.what} to {stage.world.name_of(item.host)}" for item in stage.record.owed]
    so = any(host is None or item.endswith(f" to {host}") for item in items)
    return Seen(so, f"owed: {_joined(items, 'nothing')}")


@SIGNS.form("answer {yes|no} [TEXT]", "The last operator's command was accepted or refused (with this in the answer).")
def answer(stage: Stage, word: str, text: str | None) -> Seen:
    reply = stage.last_reply
    if reply is None:
        return Seen(False, "there is no answer yet")
    said = stage.names.of(f"{reply.code} {reply.text} {reply.next_step}")
    so = reply.accepted == (word == "yes") and (text is None or text in said)
    return Seen(so, f"the answer was {'yes' if reply.accepted else 'no'}: {said.strip()}")


@SIGNS.form("log TEXT", "A line of the log contains this.")
def log(stage: Stage, text: str) -> Seen:
    return Seen(any(text in line for line in stage.book.lines()), "it is not in the log")


@SIGNS.form("collector {running|dead}", "The collector's process.")
def collector(stage: Stage, state: str) -> Seen:
    found = "running" if stage.world.shell is not None and stage.world.shell.alive else "dead"
    return Seen(found == state, f"the collector is {found}")
