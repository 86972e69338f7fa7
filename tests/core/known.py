"""What the engine knows at one instant, with one fact of it changed by hand: for tests of single conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.evidence.proof import NoProof, Proof
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Effect, SendOrder
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import SLICES, Pool, PoolLive, Site
from poolwarden_collector.core.state.live_slices import LastLook
from poolwarden_collector.core.state.transaction import Transaction

Change = Callable[[Pool], Pool]
SECOND: Ms = 1_000


def record(**changes: Any) -> Change:
    return lambda pool: replace(pool, record=replace(pool.record, **changes))


def live(part: type = PoolLive, /, **changes: Any) -> Change:
    """Live state with fields of a slice changed, or single ones."""

    def change(pool: Pool) -> Pool:
        if part is PoolLive:
            return replace(pool, live=replace(pool.live, **changes))
        name = SLICES[part]
        return live(**{name: replace(getattr(pool.live, name), **changes)})(pool)

    return change


def look(**changes: Any) -> Change:
    def change(pool: Pool) -> Pool:
        assert pool.live.look.round is not None
        return live(LastLook, round=replace(pool.live.look.round, **changes))(pool)

    return change


def facts(n: int, change: Callable[[HostFacts], HostFacts]) -> Change:
    """What host ``n`` says, changed."""

    def changed(pool: Pool) -> Pool:
        agent = pool.live.agents[uuid(n)]
        agents = {**pool.live.agents, uuid(n): replace(agent, facts=change(agent.facts))}
        return live(agents=agents)(pool)

    return changed


def hello(n: int, **changes: Any) -> Change:
    def changed(pool: Pool) -> Pool:
        agent = pool.live.agents[uuid(n)]
        agents = {**pool.live.agents, uuid(n): replace(agent, hello=replace(agent.hello, **changes))}
        return live(agents=agents)(pool)

    return changed


def silent(*numbers: int) -> Change:
    """These hosts' agents are gone."""

    def changed(pool: Pool) -> Pool:
        gone = {uuid(n): replace(pool.live.agents[uuid(n)], connected=False) for n in numbers}
        return live(agents={**pool.live.agents, **gone})(pool)

    return changed


def same(pool: Pool) -> Pool:
    return pool


def after(g: Guarded, change: Change, later: Ms = 0) -> Transaction:
    return Transaction(change(g.pool), g.now + later, g.site)


def failover_of(g: Guarded) -> Failover:
    assert g.pool.record.failover is not None
    return g.pool.record.failover


def said(found: Proof | NoProof) -> str:
    """The refusal's code; empty: it is a proof."""
    return found.code if isinstance(found, NoProof) else ""


def of_xapi(n: int, **changes: Any) -> Change:
    return facts(n, lambda f: replace(f, xapi=replace(f.xapi, **changes)))


def seen(n: int, at: Ms | None) -> Change:
    return facts(n, lambda f: replace(f, observed=replace(f.observed, host=at)))


def of_role(n: int, **changes: Any) -> Change:
    return facts(n, lambda f: replace(f, role=replace(f.role, **changes)))


def of_failover(part: type = Failover, /, **changes: Any) -> Change:
    """The failover with fields of a slice changed, or its own."""

    def change(pool: Pool) -> Pool:
        failover: Any = pool.record.failover
        assert failover is not None
        if part is Failover:
            return record(failover=replace(failover, **changes))(pool)
        name = next(each.name for each in fields(failover) if isinstance(getattr(failover, each.name), part))
        return of_failover(**{name: replace(getattr(failover, name), **changes)})(pool)

    return change


def both(*changes: Change) -> Change:
    def change(pool: Pool) -> Pool:
        for each in changes:
            pool = each(pool)
        return pool

    return change


@dataclass(frozen=True)
class Moment:
    """A step of the engine: what it knew, what happened, and when."""

    pool: Pool
    event: ev.Event
    now: Ms
    site: Site

    def again(self, change: Change = same, **of_site: Any) -> StepResult:
        """The same step with something changed before it."""
        return step(change(self.pool), self.event, self.now, replace(self.site, **of_site))


def moment_of(act: Callable[[Effect], bool], make: Callable[[], object], nth: int = 1) -> Moment:
    """The step in which this was done (for the nth time) while that pool was made to do it."""
    return moment_when(lambda outcome: did(outcome, act), make, nth)


def moment_when(is_it: Callable[[StepResult], bool], make: Callable[[], object], nth: int = 1) -> Moment:
    """The step (the nth of them) with such an outcome while that pool was made to come to it."""
    found: list[Moment] = []
    feed = Guarded.feed

    def watched(g: Guarded, event: ev.Event) -> StepResult:
        before = Moment(g.pool, event, g.now, g.site)
        outcome = feed(g, event)
        if is_it(outcome):
            found.append(before)
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guarded, "feed", watched)
        make()
    # A nested step, the answer to an effect, has ended before the one around it: in order of their beginning.
    return sorted(found, key=lambda moment: moment.now)[nth - 1]


def sends(kind: str) -> Callable[[Effect], bool]:
    return lambda effect: isinstance(effect, SendOrder) and effect.order.kind_name == kind


def did(outcome: StepResult, act: Callable[[Effect], bool]) -> bool:
    return any(act(effect) for effect in outcome.effects)
