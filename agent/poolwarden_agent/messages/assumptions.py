"""Findings about assumptions in the contract's shape. Imports protobuf, never grpc."""

from typing import Iterable

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import findings

_FINDING = {
    findings.HOLDS: pb.AssumptionResult.HOLDS,
    findings.FAILS: pb.AssumptionResult.FAILS,
    findings.NOT_SEEN: pb.AssumptionResult.FINDING_UNSPECIFIED,
}


def assumptions(results: Iterable[findings.Result]) -> pb.AssumptionList:
    """Each with its evidence, for this pool's own people."""
    return pb.AssumptionList(results=[_result(each) for each in results])


def _result(each: findings.Result) -> pb.AssumptionResult:
    return pb.AssumptionResult(
        id=each.id,
        finding=_FINDING.get(each.finding, pb.AssumptionResult.FINDING_UNSPECIFIED),
        evidence=findings.shown(each.evidence),
        release=findings.shown(each.release)[: findings.LONGEST_RELEASE],
        seen_wall_ms=each.wall_ms,
        boot_id=each.boot_id,
        seen_mono_ms=each.mono_ms,
    )
