"""The whole model: one world's steps, the goal that must stay reachable, and the swap of like members."""

from __future__ import annotations

from collections.abc import Iterator

from .collectors import collector_steps
from .explorer import Found, Step, explore
from .hosts import deliveries, host_steps
from .world import MASTER, Collector, Host, Message, Setting, World

SWAP = {1: 2, 2: 1}


def steps(w: World, s: Setting) -> Iterator[Step]:
    """Everything that can happen next."""
    yield from collector_steps(w, s)
    yield from deliveries(w, s)
    yield from host_steps(w, s)


def over(w: World) -> bool:
    """Has every collector ended its failover, or gone read-only, or a blocker to name that only a person can lift?"""
    return all(c.phase in ("stale", "absent") or not c.journal.failover or _named(w, c) for c in w.collectors)


def _named(w: World, c: Collector) -> bool:
    """TERM_PASSED: another term has overtaken it. And where a second opinion has interfered: UNVERIFIED (the order was
    carried out, and another host serves), PROOF_NOT_RENEWED (the old master runs as a member by the other's word).
    """
    f = c.journal.failover
    if len(w.collectors) < 2:
        return c.journal.term > f.term
    serving = any(h.run == MASTER and index != f.candidate for index, h in enumerate(w.hosts))
    runs_on = 0 <= w.hosts[f.old].run < MASTER
    return c.journal.term > f.term or (f.learned and serving) or runs_on


def run(s: Setting, *, only: str = "", live: bool = False, like: bool = False) -> Found:
    """Explore a configuration.

    ``only`` names the one property that is looked at (I1: two masters); ``live`` looks also for states in which a
    failover can never end; ``like`` takes states that differ only in the two members' names for one (the traces then
    mix these names).
    """

    def next_steps(w: World) -> Iterator[Step]:
        if not like or s.hosts < 3:
            return steps(w, s)
        return (found._replace(after=_lesser(found.after)) for found in steps(w, s))

    return explore(s.start(), next_steps, wanted=lambda name: only in ("", name), goal=over if live else None)


def _lesser(w: World) -> World:
    """Of a world and the same with S1 and S2 exchanged, always the same one.

    Sound: nothing in the model distinguishes the two members, so whatever one world can do the other can, renamed.
    """
    if w.hosts[1] < w.hosts[2]:
        return w
    other = _swapped(w)
    if w.hosts[1] > w.hosts[2]:
        return other
    return min(w, other, key=lambda world: (world.collectors, world.left, sorted(world.messages)))


def _swapped(w: World) -> World:
    first, one, two = w.hosts
    hosts = (_host(first), _host(two), _host(one))
    messages = frozenset(_message(m) for m in w.messages)
    left = w.left._replace(promoted_by_hand=SWAP.get(w.left.promoted_by_hand, w.left.promoted_by_hand))
    return World(hosts, messages, tuple(_collector(c) for c in w.collectors), left)


def _order(order: int) -> int:
    kind, whom = divmod(order, 5)
    return kind * 5 + SWAP.get(whom, whom) if order else 0


def _host(h: Host) -> Host:
    conf, run = SWAP.get(h.conf, h.conf), SWAP.get(h.run, h.run)
    return h._replace(conf=conf, run=run, mark=_order(h.mark), result=_order(h.result), acted=_order(h.acted))


def _message(m: Message) -> Message:
    host, old = SWAP.get(m.host, m.host), SWAP.get(m.old, m.old)
    return m._replace(order=_order(m.order), host=host, old=old)


def _bits(mask: int) -> int:
    return mask & 1 | (mask >> 1 & 1) << 2 | (mask >> 2 & 1) << 1


def _collector(c: Collector) -> Collector:
    j, live = c.journal, c.live
    failover = j.failover
    if failover:
        old, candidate = SWAP.get(failover.old, failover.old), SWAP.get(failover.candidate, failover.candidate)
        failover = failover._replace(old=old, candidate=candidate)
    journal = j._replace(master=SWAP.get(j.master, j.master), owed=_bits(j.owed), failover=failover)
    live = live._replace(claims=_bits(live.claims), target=SWAP.get(live.target, live.target))
    return c._replace(journal=journal, live=live)
