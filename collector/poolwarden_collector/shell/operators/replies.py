"""The core's plain values as the operator contract's messages; their field names are the same on purpose."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.decision.database_age import CopyAge
from poolwarden_collector.core.evidence.evidence_lines import EvidenceLine
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.report.advise import Advice
from poolwarden_collector.core.report.drill_report import DrillStatus
from poolwarden_collector.core.report.explain import Explanation
from poolwarden_collector.core.report.journal_view import JournalView, PastChange, PastDrill
from poolwarden_collector.core.report.plan import Plan
from poolwarden_collector.core.report.pool_details import PoolDetails
from poolwarden_collector.core.report.pool_line import PoolLine
from poolwarden_collector.core.report.readiness import CRITICAL, Unready
from poolwarden_collector.core.report.status import FailoverStatus, HostStatus, LostVmStatus, PoolStatus
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store.journal import Row

_OF_POOL = ("failover", "hosts", "not_ready", "owed", "lost_vms", "question", "situation", "alerts", "drill")


def pool_status(value: PoolStatus) -> pb.PoolStatus:
    message = pb.PoolStatus(**_plain(value, *_OF_POOL))
    if value.pause_left_ms:
        message.pause_until = clock.text_of(clock.wall_ms() + value.pause_left_ms)
    if value.failover is not None:
        message.failover.CopyFrom(_failover(value.failover))
    message.hosts.extend(_host(host) for host in value.hosts)
    message.not_ready.extend(value.not_ready)
    message.owed.extend(value.owed)
    message.lost_vms.extend(lost_vm(vm) for vm in value.lost_vms)
    message.situation.CopyFrom(pb.Situation(**_plain(value.situation, "lines", "todo")))
    message.situation.lines.extend(value.situation.lines)
    message.situation.todo.extend(value.situation.todo)
    message.alerts.extend(pb.OpenAlert(**_plain(alert)) for alert in value.alerts)
    if value.question is not None:
        message.question.CopyFrom(pb.Question(**_plain(value.question, "stakes"), stakes=value.question.stakes))
    if value.drill is not None:
        message.drill.CopyFrom(drill(value.drill))
    return message


def pool_line(value: PoolLine) -> pb.PoolLine:
    message = pb.PoolLine(**_plain(value, "alerts"))
    message.alerts.extend(counted(value.alerts))
    return message


def pool_details(value: PoolDetails) -> pb.PoolDetails:
    message = pb.PoolDetails(**_plain(value, "filling"))
    message.filling.extend(pb.FillingDisk(**_plain(disk)) for disk in value.filling)
    return message


def counted(counts: Iterable[tuple[str, int]]) -> list[pb.Counted]:
    return [pb.Counted(word=word, count=count) for word, count in counts]


def drill(value: DrillStatus) -> pb.DrillStatus:
    message = pb.DrillStatus(**_plain(value, "steps"))
    for step in value.steps:
        shown = pb.DrillStep(**_plain(step, "phases"))
        shown.phases.extend(pb.DrillPhase(**_plain(phase)) for phase in step.phases)
        message.steps.append(shown)
    return message


def drill_plan(value: DrillStatus | Refused) -> pb.CommandReply:
    if isinstance(value, Refused):
        return pb.CommandReply(text=value.why, code=value.code, next_step=value.next_step)
    return pb.CommandReply(accepted=True, text="nothing of it is done", drill=drill(value))


def lost_vm(value: LostVmStatus) -> pb.LostVm:
    return pb.LostVm(**_plain(value))


def _failover(value: FailoverStatus) -> pb.FailoverStatus:
    message = pb.FailoverStatus(**_plain(value, "steps"))
    message.steps.extend(pb.FailoverStep(**_plain(step)) for step in value.steps)
    return message


def _host(value: HostStatus) -> pb.HostStatus:
    lists = ("disks", "probes", "fillers", "cleanable", "facts", "fence_devices", "assumptions")
    message = pb.HostStatus(**_plain(value, "machine", *lists))
    message.machine.CopyFrom(pb.MachineStatus(**_plain(value.machine)))
    message.disks.extend(pb.DiskStatus(**_plain(disk)) for disk in value.disks)
    message.fence_devices.extend(pb.FenceDeviceStatus(**_plain(each)) for each in value.fence_devices)
    message.assumptions.extend(pb.AssumptionStatus(**_plain(each)) for each in value.assumptions)
    message.facts.extend(pb.FactStatus(**_plain(fact)) for fact in value.facts)
    message.fillers.extend(pb.FillerStatus(**_plain(item)) for item in value.fillers)
    message.cleanable.extend(pb.CleanableStatus(**_plain(item)) for item in value.cleanable)
    message.probes.extend(pb.ProbeStatus(**_plain(probe)) for probe in value.probes)
    return message


def explanation(pool: Pool, value: Explanation) -> pb.ExplainReply:
    message = pb.ExplainReply(
        pool_uuid=pool.record.pool, pool_name=pool.record.name, **_plain(value, "evidence", "copies", *_LISTS)
    )
    message.copies.extend(_copy(copy) for copy in value.copies)
    message.evidence.extend(_evidence(line) for line in value.evidence)
    for name in _LISTS:
        getattr(message, name).extend(getattr(value, name))
    return message


def _copy(copy: CopyAge) -> pb.CopyAge:
    return pb.CopyAge(
        host_uuid=copy.host,
        name=copy.name,
        generation=copy.generation,
        behind=max(0, copy.behind),
        age_ms=copy.age_ms or 0,
        age_known=copy.age_ms is not None,
        text=copy.text,
    )


def readiness(pool: Pool, reasons: tuple[Unready, ...]) -> pb.PoolReadiness:
    ready = all(reason.severity != CRITICAL for reason in reasons)
    message = pb.PoolReadiness(pool_uuid=pool.record.pool, name=pool.record.display_name, ready=ready)
    message.reasons.extend(pb.Unready(**_plain(reason)) for reason in reasons)
    return message


def advice(pool: Pool, host: HostId, value: Advice) -> pb.AdviseReply:
    message = pb.AdviseReply(
        pool_uuid=pool.record.pool,
        pool_name=pool.record.display_name,
        host_uuid=host,
        host_name=pool.record.name_of(host) if host else "",
        answer=value.answer,
        sentence=value.sentence,
    )
    message.lines.extend(pb.AdviceLine(**_plain(line)) for line in value.lines)
    return message


def plan(pool: Pool, value: Plan) -> pb.PlanReply:
    lists = ("devices", "hosts", "kills", "vms", "phases", "refused")
    message = pb.PlanReply(
        pool_uuid=pool.record.pool, pool_name=pool.record.display_name, refused=value.refused, **_plain(value, *lists)
    )
    message.devices.extend(pb.PlanDevice(**_plain(each)) for each in value.devices)
    message.hosts.extend(pb.PlanHost(**_plain(each)) for each in value.hosts)
    message.kills.extend(pb.PlanKill(**_plain(each)) for each in value.kills)
    message.vms.extend(pb.PlanVm(**_plain(each)) for each in value.vms)
    message.phases.extend(pb.PlanPhase(**_plain(each)) for each in value.phases)
    return message


def journal_view(
    rows: list[Row], now_ms: int, inside: str, several: bool, certificates: tuple[tuple[str, str], ...] = ()
) -> JournalView:
    """Changes of master and drills by the entries that ended them, the newest first; ``now_ms``: by the wall clock."""
    changes, drills = [], []
    for row in reversed(rows):
        data, at, planned = json.loads(row.data), clock.ms_of(row.at), row.kind != Kind.CLOSED.value
        if row.kind == Kind.DRILL_ENDED.value:
            drills += [_past_drill(data, max(0, now_ms - at))] if at is not None else []
            continue
        if at is not None and (not planned or data.get("outcome") == "done"):
            durations = data.get("durations_ms", {}) if not planned else {}
            changes.append(PastChange(max(0, now_ms - at), planned, durations))
    return JournalView(tuple(changes), inside, certificates, tuple(drills), several)


def _past_drill(data: dict[str, Any], ago_ms: int) -> PastDrill:
    failed = tuple(f"{s['part']} of {s['name']}: {s['why']}" for s in data["steps"] if s["state"] == "failed")
    return PastDrill(ago_ms, any(s["state"] in ("passed", "failed") for s in data["steps"]), failed)


_LISTS = ("permitted", "refused", "not_ready", "plan", "limitations")


def _evidence(line: EvidenceLine) -> pb.EvidenceLine:
    age = line.age_ms
    return pb.EvidenceLine(
        subject=line.subject,
        value=line.value,
        age_ms=max(0, age or 0),
        age_known=age is not None,
        witness=line.witness,
        text=line.text,
    )


def history_entry(row: Row, pool_name: str) -> pb.HistoryEntry:
    return pb.HistoryEntry(
        seq=row.seq,
        at=row.at,
        mono_ms=row.mono_ms,
        epoch=row.epoch,
        term=row.term,
        pool_uuid=row.pool,
        pool_name=pool_name,
        failover=row.failover,
        kind=row.kind,
        actor=row.actor,
        text=row.text,
        data=_without_input(row),
    )


def _without_input(row: Row) -> str:
    """The facts of an entry; a decision's stored input is named by the entry's number, for ``poolwarden replay``."""
    if '"input":' not in row.data:
        return row.data
    data = json.loads(row.data)
    if not isinstance(data.pop("input", None), str):
        return row.data
    data.pop("step", None)
    return json.dumps({**data, "replay": row.seq}, ensure_ascii=False)


def decision(row: Row) -> pb.DecisionReply:
    """A decision's stored input, compressed as one JSON object."""
    data = json.loads(row.data)
    stored = {"input": data["input"], "step": data["step"], "text": row.text, "at": row.at, "kind": row.kind}
    return pb.DecisionReply(id=str(row.seq), pool_uuid=row.pool, input=zlib.compress(json.dumps(stored).encode()))


def alert(row: dict[str, Any], pool_name: str) -> pb.Alert:
    message = pb.Alert(
        key=row["key"],
        pool_uuid=row["pool"],
        pool_name=pool_name,
        severity=row["severity"],
        title=row["title"],
        body=row["body"],
        raised_at=row["raised_at"],
        resolved_at=row["resolved_at"],
        message=str(json.loads(row["data"]).get("message", "")),
        silence=silence(row),
        taken=taken(row),
    )
    message.deliveries.extend(
        pb.Delivery(
            sink=item["sink"] + ("" if item["state"] == "firing" else f" ({item['state']})"),
            state=item["status"],
            attempts=item["attempts"],
            last_error=item["last_error"],
            sent_at=item["sent_at"],
        )
        for item in row["deliveries"]
    )
    return message


def silence(row: dict[str, Any]) -> pb.AlertSilence | None:
    """How an alert is silenced; None: it is not."""
    found = row["silence"]
    if found is None:
        return None
    return pb.AlertSilence(
        by=found["actor"],
        since=found["since"],
        until=found["until"],
        left_ms=found["left_ms"],
        reason=found["reason"],
    )


def taken(row: dict[str, Any]) -> pb.AlertTaken | None:
    """Who sees to an alert; None: nobody has said so."""
    found = row["taken"]
    return None if found is None else pb.AlertTaken(by=found["actor"], at=found["at"], reason=found["reason"])


def mark_alert(alert: pb.OpenAlert, row: dict[str, Any]) -> None:
    """Say of an open alert whether it is silenced and who sees to it."""
    if (found := silence(row)) is not None:
        alert.silence.CopyFrom(found)
    if (who := taken(row)) is not None:
        alert.taken.CopyFrom(who)


def audit_entry(row: dict[str, Any], pool_name: str) -> pb.AuditEntry:
    """A recorded call."""
    return pb.AuditEntry(pool_uuid=row["pool"], pool_name=pool_name, **{k: v for k, v in row.items() if k != "pool"})


def late_entry(row: dict[str, Any]) -> pb.LateEntry:
    """A line that a host told late; an instant that is not known is left out."""
    return pb.LateEntry(
        at=clock.text_of(row["at_ms"]) if row["at_ms"] else "",
        kind=row["kind"],
        text=row["text"],
        dropped=row["dropped"],
        heard=clock.text_of(row["heard_ms"]),
    )


def _plain(value: Any, *without: str) -> dict[str, Any]:
    """The value's fields but ``without``; a negative duration (clock read a moment apart) is none."""
    found = {name: getattr(value, name) for name in value.__slots__ if name not in without}
    return {name: max(0, v) if isinstance(v, int) and not isinstance(v, bool) else v for name, v in found.items()}
