"""What an operator may order, each answered with a reason; what he answers to questions is in answers.py.

Rules
-----
* A confirmation is accepted for any silent host, and covers that host's silence in that boot alone (fenced_hosts.py).
  It is refused while the host's agent or xapi answers, and while its power reads ON unless the operator says that he
  knows. About the master that vanished it is a proof too, as long as nothing contradicts it, and decides a failover.
* A command is journaled with its actor whether it is obeyed or refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from poolwarden_collector.core.decision import questions, unheard_members
from poolwarden_collector.core.decision.permission import deposed, quiet_time
from poolwarden_collector.core.evidence import announcements, fenced_hosts
from poolwarden_collector.core.evidence.operator_confirmation import reads_on
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import Verdict, judge
from poolwarden_collector.core.followups import declare_dead, lost_vms, power_switch
from poolwarden_collector.core.followups import lost_vms as lost
from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.operator import (
    answers,
    ask_why,
    attest_device,
    drill,
    enable_host,
    pauses,
    restart_xapi,
)
from poolwarden_collector.core.recovery import adopt_master, adopted_holds, master_vanished, recover_members, switchover
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def command(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> None:
    """Obey or refuse one command, and answer it."""
    handler = _VERBS.get(said.verb)
    answer = (
        handler(tx, said, verdict)
        if handler
        else Refused("unknown-verb", f"{said.verb!r} is no command of this collector")
    )
    if isinstance(answer, Refused):
        _refuse(tx, said, answer)
    elif answer:
        tx.do(Reply(said.request_id, True, _named(tx, answer)))


def _refuse(tx: Transaction, said: OperatorSaid, no: Refused) -> None:
    tx.note(Kind.OPERATOR_REFUSED, f"{said.verb} by {said.actor} refused: {no.why}", said.actor, code=no.code)
    tx.do(Reply(said.request_id, False, no.why, no.code, _named(tx, no.next_step)))


def _named(pool: Snapshot, text: str) -> str:
    """Every command in an answer names this pool, so that it can be typed as it stands."""
    return re.sub(r"\bPOOL\b", pool.record.display_name, text)


def _confirm(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """The word that a silent host is off; about the master that vanished it decides a failover, or is its proof."""
    refusal = _confirm_refusal(tx, said)
    if refusal is not None:
        return refusal
    host, name, how = said.host, tx.name(said.host), said.arg("how")
    fenced_hosts.confirm(tx, host, said.actor, how, said.arg("typed_name"))
    if tx.record.planned is not None and tx.record.planned.host == host:
        announcements.end_planned(tx, f"{said.actor} does not wait for {name} any more", said.actor)
        verdict = judge(signs(tx))
    if adopt_master.adopt(tx, verdict):
        verdict = judge(signs(tx))
    if why := master_vanished.word_refusal(tx, host, verdict):
        return f"confirmed: {name} counts as off until it gives a sign of life; {why}"
    master_vanished.by_word(tx, host)
    failover = tx.failover
    if failover is None:
        return "confirmed"
    asked = [host for host in unheard_members.unheard_alive(tx) if host not in questions.accepted_unheard(tx, failover)]
    if asked:
        which = unheard_members.said(tx, tuple(asked))
        return f"confirmed; before failover {failover.id} goes on one thing more is asked (poolwarden status): {which}"
    return f"confirmed; failover {failover.id} goes on with a last look at every member"


def _confirm_refusal(pool: Snapshot, said: OperatorSaid) -> Refused | None:
    """Why nobody may say that this host is off."""
    host, name, typed = said.host, pool.name(said.host), said.arg("typed_name")
    if host not in pool.record.hosts:
        return Refused("unknown-host", f"{name} is no host of this pool")
    if typed not in (name, host):
        return Refused("name-differs", f"typed {typed!r}, the host's name is {name!r}", "Type the host's name exactly.")
    if not said.arg("how").strip():
        return Refused("no-reason", "how the host was made safe is missing", 'For example: --how "power cord pulled"')
    if (held := deposed(pool)) is not None:
        return Refused("held", held.text)
    if pool.heard(host) is not None:
        return Refused("agent-alive", f"the agent of {name} answers: it is not dead", "poolwarden explain POOL")
    if why := fenced_hosts.lives(pool, host):
        return Refused("xapi-alive", f"{why}: it is not dead", "poolwarden explain POOL")
    if host not in pool.live.agents and pool.quiet:
        # Its agent may be on its way back to this collector.
        return Refused("held", f"{quiet_time(pool)}: {name} may not have had its time to be heard")
    if reads_on(pool, host) and said.arg("despite_power_on") != "yes":
        step = (
            f"Switch it off at its BMC, or repeat with --despite-power-on if you know that this is not {name}'s power."
        )
        return Refused("power-on", f"the power of {name} reads ON", step)
    return None


def pending_commands(tx: Transaction, verdict: Verdict) -> None:
    """Commands that waited for evidence: try again, give up after their time."""
    for said, until in waiting_commands.take_all(tx):
        if tx.now < until:
            before = len(tx.live.pending)
            command(tx, said, verdict)
            if len(tx.live.pending) > before:
                waiting_commands.until_as_before(tx, said, until)
        else:
            _refuse(tx, said, _TOO_LATE.get(said.verb, _too_late)(tx, said))


def _too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """Of any command that waits for evidence and has no words of its own: total, so that no step ever fails for one."""
    why = f"what {said.verb} rests on could not be read in time"
    return Refused("no-evidence", why, "Try again; poolwarden explain POOL shows who is not heard.")


_TOO_LATE: dict[str, Callable[[Transaction, OperatorSaid], Refused]] = {
    "restart-xapi": restart_xapi.too_late,
    "declare-dead": declare_dead.too_late,
    "start-lost": lost.too_late,
    "fence-test": power_switch.test_too_late,
    "release": adopted_holds.too_late,
    "host-why": ask_why.too_late,
}
_VERBS: dict[str, Callable[[Transaction, OperatorSaid, Verdict], str | Refused]] = {
    "pause": pauses.pause,
    "resume": pauses.resume,
    "confirm-fenced": _confirm,
    "restart-xapi": restart_xapi.command_restart,
    "designate": switchover.command_designate,
    "declare-dead": declare_dead.command_declare_dead,
    "start-lost": lost_vms.command_start_lost,
    "fence-on": power_switch.command_on,
    "fence-off": power_switch.command_off,
    "fence-test": power_switch.command_test,
    "fence-bind": attest_device.command_bind,
    "failover-to": switchover.failover_to,
    "approve": answers.approve,
    "deny": answers.deny,
    "acknowledge": answers.acknowledge,
    "release": adopted_holds.command_release,
    "host-enable": enable_host.command_enable,
    "host-why": ask_why.command_why,
    "recover-members": recover_members.command_recover,
    **drill.VERBS,
}
