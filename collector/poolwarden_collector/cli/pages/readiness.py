"""`poolwarden readiness`: would a pool survive losing its master now, and what mends each reason why not."""

from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Tone
from poolwarden_collector.cli.pages.collectors import missing

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

WORDS: dict[str, tuple[str, Tone]] = {"critical": ("NOT READY", "bad"), "warning": ("weak", "warn")}


def readiness_page(reply: "api.ReadinessReply") -> Page:
    """Each pool's answer, then its reasons, the worst first."""
    page: Page = [*missing(reply.asked)]
    for pool in sorted(reply.pools, key=lambda pool: (pool.ready, pool.name)):
        page += [*_pool(pool), Line()]
    return page[:-1] or [Line("no pool is known yet: no agent has reported to this collector")]


def _pool(pool: "api.PoolReadiness") -> Page:
    name = pool.name or pool.pool_uuid
    warnings = sum(reason.severity != "critical" for reason in pool.reasons)
    weak = f"; {warnings} thing{'s' if warnings != 1 else ''} could be better" if warnings else ""
    said = "READY: losing its master now would heal by itself" if pool.ready else "NOT READY to lose its master now"
    page: Page = [Line(f"{said}{weak}", "good" if pool.ready else "bad", label=f"{name}  ")]
    for reason in pool.reasons:
        word, tone = WORDS.get(reason.severity, (reason.severity, ""))
        page += [Line(reason.sentence, tone, indent=2, label=f"{word + ':':<11}")]
        page += [Line(reason.fix, indent=13, label="fix: ")]
    return page
