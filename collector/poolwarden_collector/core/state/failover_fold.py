"""A failover folded from its journal entries: one function for its course, and one for each of its slices.

An entry without this failover's id changes nothing of it (owed work is journaled with none), but for the three that end
one: they are written of the open failover alone.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import ProcessId
from poolwarden_collector.core.state.failover_record import (
    REVERSIBLE,
    Failover,
    Fencing,
    HeldMaster,
    MemberReturn,
    Path,
    Promotion,
    RecordedProof,
    Standstill,
    Step,
)

_ENDS = {Kind.CLOSED: Step.CLOSED, Kind.ABORTED: Step.ABORTED, Kind.SUPERSEDED: Step.SUPERSEDED}


def fold_failover(failover: Failover | None, entry: Entry) -> Failover | None:
    """The last failover after one entry. Raises KeyError, ValueError or TypeError for an entry that lacks something."""
    if entry.kind is Kind.DECIDED:
        return _decided(failover, entry)
    if failover is None:
        return None
    if (end := _ENDS.get(entry.kind)) is not None:
        return replace(failover, step=end, standstill=replace(failover.standstill, blocker=None, why="", topic=""))
    if entry.failover != failover.id:
        return failover
    after = fold_course(failover, entry)
    fencing, hold = fold_fencing(after.fencing, entry), fold_hold(after.hold, entry)
    promotion, members = fold_promotion(after.promotion, entry), fold_members(after.members, entry)
    standstill = fold_standstill(after.standstill, entry)
    parts = (fencing, hold, promotion, members, standstill)
    had = (after.fencing, after.hold, after.promotion, after.members, after.standstill)
    if all(part is before for part, before in zip(parts, had, strict=True)):
        return after
    return replace(after, fencing=fencing, hold=hold, promotion=promotion, members=members, standstill=standstill)


def _decided(before: Failover | None, entry: Entry) -> Failover:
    data = entry.data
    pending = before.fencing.pending if before is not None and before.old_master == data["old_master"] else None
    return Failover(
        entry.failover,
        data["old_master"],
        data["old_boot"],
        entry.term,
        path=Path(data.get("path", "power")),
        old_machine=data.get("old_machine", ""),
        epoch=data.get("epoch", 0),
        restless=data.get("restless", False),
        loops=data.get("loops", False),
        fencing=Fencing(pending=pending),
    )


def fold_course(failover: Failover, entry: Entry) -> Failover:
    """Its step, and what stands for all of it: who claimed, the candidate, the proof, words and approvals."""
    data = entry.data
    match entry.kind:
        case Kind.CLAIMED:
            return replace(failover, step=Step.CLAIMED, claimed=tuple(data["hosts"]))
        case Kind.CANDIDATE:
            return replace(failover, step=Step.CANDIDATE, candidate=data["host"])
        case Kind.FENCED:
            return replace(failover, step=Step.FENCED)
        case Kind.PROOF:
            proof = RecordedProof(ProofKind.of(data["kind"]), data["old_master"], data["boot_id"], data["facts"])
            return replace(failover, step=Step.PROVED if failover.step in REVERSIBLE else failover.step, proof=proof)
        case Kind.HUMAN_CONFIRMED:
            return replace(failover, human=dict(data))
        case Kind.APPROVED:
            return replace(failover, approval=dict(data))
        case Kind.PROMOTE_INTENT:
            return replace(failover, step=Step.PROMOTING)
        case Kind.DEMOTED:
            return replace(failover, proof=None, human=None)
        case Kind.PROMOTED:
            return replace(failover, step=Step.PROMOTED)
    return failover


def fold_fencing(fencing: Fencing, entry: Entry) -> Fencing:
    """Attempts to power the old master off."""
    data = entry.data
    if entry.kind is Kind.FENCE_INTENT:
        attempts = (*fencing.attempts, (data["device"], data["attempt"]))
        beside = fencing.beside or dict(data.get("beside", {}))
        return replace(fencing, attempts=attempts, pending=(data["device"], data["run"]), beside=beside)
    if entry.kind is not Kind.FENCE_RESULT:
        return fencing
    if data.get("begun", True):
        return replace(fencing, pending=None)
    mine = [index for index, (device, _) in enumerate(fencing.attempts) if device == data["device"]]
    attempts = tuple(item for index, item in enumerate(fencing.attempts) if index not in mine[-1:])
    return replace(fencing, pending=None, attempts=attempts, unbegun=(*fencing.unbegun, (data["device"], entry.text)))


def fold_hold(hold: HeldMaster, entry: Entry) -> HeldMaster:
    """The hold of the old master's toolstack, and the handover of its database."""
    data = entry.data
    match entry.kind:
        case Kind.TOOLSTACK_INTENT:
            return replace(hold, order=data["order"])
        case Kind.HANDOVER_INTENT:
            placed = (*(host for host in hold.placed_on if host != data["target"]), data["target"])
            return replace(hold, transfer=data["transfer"], handed_over=None, placed_on=placed)
        case Kind.HANDOVER_RESULT:
            return replace(hold, handed_over=dict(data))
    return hold


def fold_promotion(promotion: Promotion, entry: Entry) -> Promotion:
    """The order to the candidate, and its answer."""
    data = entry.data
    match entry.kind:
        case Kind.PROMOTE_INTENT:
            return replace(
                promotion,
                order=data["order"],
                process=ProcessId(data["pid"], data["start_ticks"]),
                copy_age_ms=data.get("copy_age_ms"),
                copy_text=data.get("copy_text", ""),
            )
        case Kind.PROMOTE_ANSWER:
            return replace(promotion, result=data["outcome"])
        case Kind.DEMOTED:
            return replace(promotion, order="", result="", attempt=promotion.attempt + 1)
    return promotion


def fold_members(members: MemberReturn, entry: Entry) -> MemberReturn:
    """Members that were pointed at the new master, restarted, and are back."""
    data = entry.data
    match entry.kind:
        case Kind.REPOINT_INTENT:
            return replace(members, repointing={**members.repointing, data["host"]: data["order"]})
        case Kind.RESTART_INTENT:
            return replace(members, restarted=(*members.restarted, data["host"]))
        case Kind.MEMBERS_BEFORE:
            return replace(members, before=dict(data["hosts"]))
        case Kind.MEMBER_BACK:
            remarks = {**members.remarks, data["host"]: data["remark"]} if data["remark"] else members.remarks
            return replace(members, back=(*members.back, data["host"]), remarks=remarks)
    return members


def fold_standstill(standstill: Standstill, entry: Entry) -> Standstill:
    """Why it stands still, until it goes on."""
    data = entry.data
    if entry.kind is Kind.BLOCKED:
        step, told = data.get("next_step", ""), data.get("told", True)
        return Standstill(Blocker(data["code"]), data["why"], step, told, data.get("topic", ""))
    return Standstill() if entry.kind is Kind.UNBLOCKED else standstill
