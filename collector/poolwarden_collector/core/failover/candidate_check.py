"""May this candidate be promoted, for what it would kill and for what it would lose? Else an operator is asked.

Rules
-----
* Asked in every pass up to the promote intent, and before every later send of the order: what was accepted once may not
  be all that is at stake now.
* What cannot be known (a database that cannot be read, VMs that are not listed) is no question but a blocker: nobody
  can say yes to what nobody has seen.
* A copy that is ahead of the master's last known one by more than a pool can have changed meanwhile is one host's word
  against all that was seen: an operator is asked, by the host and the generation that it claims. His yes covers that
  generation; another one is asked about anew.
* A copy on which xapi does not come up, as its agent has read it, is asked about where no other one is sound, and once
  its agent has looked at it since it was claimed.
* Where something failed on the candidate that a promotion rests on, or on the old master that the proof rests on, an
  operator is asked before the intent; after it nothing of that stops what was begun.
* Where the old master's own database is still to be handed over, neither is asked: the file that will be loaded is not
  there yet.
"""

from __future__ import annotations

from poolwarden.assumptions import POWER
from poolwarden_collector.core.decision import database_age, questions
from poolwarden_collector.core.decision.candidate_ranking import failed
from poolwarden_collector.core.decision.database_contents import killing
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.kill_forecast import Kill, forecast
from poolwarden_collector.core.decision.standstill import block
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.operator_confirmation import confirmed
from poolwarden_collector.core.evidence.proof import Proof, verify_human
from poolwarden_collector.core.failover import claims
from poolwarden_collector.core.failover.toolstack_fence import handover_due
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import Failover, Path
from poolwarden_collector.core.state.question_record import Needs
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LOOKED_AGAIN_MS: Ms = 5_000  # two reports, and a moment


def allows(tx: Transaction, failover: Failover, candidate: HostId) -> bool:
    """True if nothing is lost by promoting this candidate, or all of it was accepted; else blocked, and asked."""
    # safety: what its promotion rests on has failed there, so it may not go as it should; a person says yes first.
    if (unsure := failed(tx, candidate)) is not None and not questions.accepted_failed(tx, failover, unsure):
        ask_unsure(tx, candidate, f"promoting {tx.name(candidate)} rests on what has failed there: {unsure}", unsure)
        return False
    if failover.path is Path.TOOLSTACK and handover_due(tx, failover, candidate):
        return True
    kills = expected(tx, failover, candidate)
    if isinstance(kills, Reason):
        why = f"what promoting {tx.name(candidate)} would kill is not known: {kills}"
        block(tx, failover, Blocker.KILL_FORECAST, (candidate, kills.key), why)
        return False
    return not _ask_loss(tx, failover, candidate, kills)


def proof_allows(tx: Transaction, failover: Failover, proof: Proof) -> bool:
    """True if nothing failed of what this proof rests on, or all of it was accepted; else blocked, and asked."""
    if isinstance(verify_human(tx, failover.old_master, failover.old_boot, failover.human), Proof):
        return True  # a person has said that it is off, and how
    if proof.kind is ProofKind.POWER:
        off: tuple[HostId, ...] = (proof.host,)
    elif proof.kind is ProofKind.ROLES:
        off = tuple(host for host in sorted(tx.record.hosts) if tx.heard(host) is None and confirmed(tx, host) is None)
    else:
        return True
    unsure = assumptions.joined(assumptions.refusal(tx, host, POWER) for host in off)
    # safety: a device of which something failed may be another machine's, and its OFF that one's.
    if unsure is None or questions.accepted_failed(tx, failover, unsure):
        return True
    names = " and ".join(tx.name(host) for host in off)
    what = f"that {names} is off rests on what has failed: {unsure}; look at the machine itself"
    ask_unsure(tx, failover.old_master or off[0], what, unsure)
    return False


def ask_unsure(tx: Transaction, host: HostId, what: str, unsure: Reason) -> None:
    """Ask whether to go on although this failed; a yes covers exactly these, by host and assumption."""
    show = f"look first: poolwarden host show {tx.name(host)}"
    questions.ask(tx, Ask.ASSUMPTION, host, what, (show,), failed=unsure.subjects)


def unaccepted(pool: Snapshot, failover: Failover, candidate: HostId) -> Reason | None:
    """After the intent: what is at stake now with this candidate that nobody has accepted; None: nothing is."""
    kills = expected(pool, failover, candidate)
    if isinstance(kills, Reason):
        return kills
    if far := _unaccepted_leap(pool, failover, candidate):
        return Reason(Cause.FAR_COPY, far, (candidate,))
    if (unsound := _unaccepted_fault(pool, failover, candidate)) is not None:
        return unsound
    if not questions.covers(pool, failover, tuple(kill.vm for kill in kills)):
        names = ", ".join(f"{kill.name} on {pool.name(kill.host)} ({kill.why})" for kill in kills)
        return killing(kills, f"promoting {pool.name(candidate)} would kill {len(kills)} running VMs now: {names}")
    old = database_age.too_old(pool, candidate)
    # safety: the old master may have served since the intent; what a yes covered then may be less than is lost now.
    if old is not None and not database_age.accepted_by(old, questions.accepted_stale(pool, failover)):
        text = f"the copy of the database on {old.name} is older now than is promoted without asking: {old.text}"
        return Reason(Cause.OLD_COPY, text, (candidate,))
    return None


def ask_again(tx: Transaction, failover: Failover, candidate: HostId) -> None:
    """Ask for what is at stake at this very instant, if it is known and anything is: an answer has just come."""
    if failover.path is Path.TOOLSTACK and handover_due(tx, failover, candidate):
        return
    kills = expected(tx, failover, candidate)
    if not isinstance(kills, Reason):
        _ask_loss(tx, failover, candidate, kills, at_once=True)


def expected(pool: Snapshot, failover: Failover, candidate: HostId) -> tuple[Kill, ...] | Reason:
    """The running VMs that promoting this candidate would terminate, or why that is not known."""
    claim = pool.live.claims.answers.get(candidate)
    spared = "" if failover.path is Path.TOOLSTACK and pool.heard(failover.old_master) else failover.old_master
    return forecast(pool, candidate, spared, claim.placements if claim is not None else None)


def _ask_loss(
    tx: Transaction, failover: Failover, candidate: HostId, kills: tuple[Kill, ...], at_once: bool = False
) -> bool:
    """Ask for whatever is at stake with this candidate and not accepted, in one question; False: nothing is."""
    if far := _unaccepted_leap(tx, failover, candidate):
        _ask_leap(tx, candidate, far, at_once)
        return True
    if (unsound := _unaccepted_fault(tx, failover, candidate)) is not None:
        if not _before_the_claim(tx, candidate):
            _ask_unsound(tx, candidate, unsound, at_once)
        return True
    old = database_age.too_old(tx, candidate)
    # safety: more VMs than were accepted, others than were named, or an older copy: asked again, up to the intent.
    unaccepted = not questions.covers(tx, failover, tuple(kill.vm for kill in kills))
    stale = old is not None and not database_age.accepted_by(old, questions.accepted_stale(tx, failover))
    if not unaccepted and not stale:
        return False
    name = tx.name(candidate)
    needs = Needs(len(kills), database_age.needed(old) if old is not None else 0)
    if unaccepted:
        names = ", ".join(f"{kill.name} on {tx.name(kill.host)} ({kill.why})" for kill in kills)
        what = f"promoting {name} would kill {len(kills)} running VM{'s'[: len(kills) > 1]}: {names}"
    else:
        asks = f"older than the {in_words(database_age.limit(tx))} that are promoted without asking"
        what = f"{name} has the newest copy of the database, and it is {asks}"
    stakes = [f"VM {kill.name} on {tx.name(kill.host)} would be killed: {kill.why}" for kill in kills]
    stakes.append(f"the copy on {name}: {database_age.age(tx, candidate).text}")
    kind, vms = Ask.KILL if unaccepted else Ask.STALE, tuple(kill.vm for kill in kills)
    questions.ask(tx, kind, candidate, what, tuple(stakes), needs, vms, at_once=at_once)
    return True


def _unaccepted_leap(pool: Snapshot, failover: Failover, candidate: HostId) -> str:
    """Is its copy too far ahead to be believed, and has nobody said yes to it? In one sentence without a full stop."""
    more, agent = database_age.ahead(pool, candidate), pool.agent(candidate)
    claimed = agent.facts.database.generation if agent is not None else 0
    # safety: the highest generation wins, so whoever claims one out of nowhere would be promoted on its word alone.
    if not more or questions.accepted_generation(pool, failover, candidate) == claimed:
        return ""
    known = database_age.last_known(pool)
    last = f"the last that is known is {known}" if known else "none is known to hold it against"
    bound = f"at most {pool.policy.generation_leap} more are believed without asking"
    return (
        f"the copy on {pool.name(candidate)} has generation {claimed}, and {last}: {more} changes more, where {bound}"
    )


def _unaccepted_fault(pool: Snapshot, failover: Failover, candidate: HostId) -> Reason | None:
    """What is wrong with its copy that nobody has said yes to."""
    unsound, agent = unsound_reason(pool, candidate), pool.agent(candidate)
    claimed = agent.facts.database.generation if agent is not None else 0
    # safety: the yes is to this very copy; another file of this host is asked about anew.
    return None if questions.accepted_unsound(pool, failover, candidate) == claimed else unsound


def _before_the_claim(pool: Snapshot, candidate: HostId) -> bool:
    """Was its file last looked at before the claim that has just been answered, and may so be another one now?

    A file that was mended has no other generation; the next report tells of it. One that never comes is not waited for.
    """
    agent, at = pool.agent(candidate), claims.answered_at(pool, candidate)
    seen = agent.facts.observed.host if agent is not None else None
    return at is not None and seen is not None and seen < at and pool.now - at < LOOKED_AGAIN_MS


def _ask_unsound(tx: Transaction, candidate: HostId, unsound: Reason, at_once: bool) -> None:
    """No copy that could be promoted is sound: it is ranked behind every one that is."""
    name, agent = tx.name(candidate), tx.agent(candidate)
    claimed = agent.facts.database.generation if agent is not None else 0
    what = f"xapi may not come up on the database of {name}, and no other copy is better: {unsound}"
    stakes = (
        f"the copy on {name}: {database_age.age(tx, candidate).text}",
        "to mend it: on a member, systemctl stop xapi, put a whole state.db into /var/lib/xcp, systemctl start xapi; "
        "it is looked at again by itself",
        f"yes means: {name} is promoted all the same, and nobody else afterwards",
    )
    questions.ask(tx, Ask.UNSOUND, candidate, what, stakes, at_once=at_once, generation=claimed)


def _ask_leap(tx: Transaction, candidate: HostId, what: str, at_once: bool) -> None:
    name, agent = tx.name(candidate), tx.agent(candidate)
    claimed = agent.facts.database.generation if agent is not None else 0
    told = [f"{copy.name}: {copy.generation}" for copy in database_age.ages(tx) if copy.generation]
    stakes = (
        f"the copies, by generation: {', '.join(told)}",
        f"yes means: {name} holds this pool's newest database; look at it there (/var/lib/xcp/state.db)",
        f"if it does not: stop its agent (systemctl stop poolwarden-agent on {name}); another member is chosen then",
    )
    questions.ask(tx, Ask.GENERATION, candidate, what, stakes, at_once=at_once, generation=claimed)
