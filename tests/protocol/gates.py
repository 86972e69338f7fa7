"""What a collector answers to boot gates, whom it adopts as master, and what it does once a master serves."""

from __future__ import annotations

from collections.abc import Iterator

from .explorer import Step
from .hosts import put, step
from .passes import INTENDED, changed, ended, exchange, noted, proved, unless_same, who
from .world import (
    ASKING,
    DOWN,
    MASTER,
    NAMES,
    NEWER,
    SHUT,
    Collector,
    Exempt,
    Failover,
    Host,
    Live,
    Message,
    Rule,
    Setting,
)
from .world import World as W


def gate_answers(w: W, s: Setting, number: int, c: Collector) -> Iterator[Step]:
    """A host that booted with pool.conf master asks."""
    for index, host in enumerate(w.hosts):
        if host.run not in (ASKING, SHUT) or host.conf != MASTER:
            continue
        refused = exchange(w, s, number, c, index, c.journal.term)
        if refused is not None:
            yield from unless_same(refused, w)
            continue
        f = c.journal.failover
        if f and f.step == INTENDED and f.candidate == index:
            yield from _own_candidate(w, s, number, c, f)
            continue
        intended = bool(f) and f.step == INTENDED and f.old == index and s.keeps(Rule.GATE_INTENT)
        if c.journal.master != index or c.journal.owed >> index & 1 or intended:
            yield from _shut(w, s, number, c, index)
        else:
            yield from _opened(w, s, number, c, index)


def _own_candidate(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    """It acted on the order and was rebooted: it may go on only as the order might be sent now."""
    if proved(w, s, c, f, c.live):
        yield _word(w, number, c._replace(live=Live()), f.candidate, f.term, f.old)


def _word(w: W, number: int, c: Collector, index: int, term: int, old: int) -> Step:
    host = w.hosts[index]
    message = Message("open", 0, index, host.boot, c.epoch, term, old, True)
    return changed(w._replace(messages=w.messages | {message}), number, c, f"answers the gate of {NAMES[index]}: open")


def _shut(w: W, s: Setting, number: int, c: Collector, index: int) -> Iterator[Step]:
    """Shut; pool.conf names the successor as soon as there is one. On a full disk that cannot be written."""
    host, master = w.hosts[index], c.journal.master
    shut = host._replace(run=SHUT, epoch=max(host.epoch, c.epoch), term=max(host.term, c.journal.term))
    said = f"{who(number)} answers the gate of {NAMES[index]}: shut"
    if master == index:
        if shut != host:
            yield step(w, s, said, index, shut)
        return
    yield step(w, s, f"{said}, it follows {NAMES[master]} now", index, shut._replace(conf=master))
    if shut != host and w.left.full_disks:
        full = w._replace(left=w.left._replace(full_disks=w.left.full_disks - 1))
        yield step(full, s, f"{said}; its disk is full, pool.conf stays as it is", index, shut)


def _opened(w: W, s: Setting, number: int, c: Collector, index: int) -> Iterator[Step]:
    """It is the master on record, owes nothing, and nobody else is known to act: it may open, which ends a failover."""
    others = [(i, h) for i, h in enumerate(w.hosts) if i != index and h.conf == MASTER]
    acting = [i for i, h in others if h.up and (h.run == MASTER or s.keeps(Rule.ROLE_VETO))]
    f = c.journal.failover
    if f and f.old == index:
        c = ended(c, s, c.journal.term)
    taken = _word(w, number, c, index, c.journal.term, -1)
    if w.left.promoted_by_hand in acting and Exempt.BY_HAND in s.exempt:
        taken = taken._replace(excused=Exempt.BY_HAND.name)
    elif Exempt.SPLIT_COLLECTORS in s.exempt and any(
        _unheard_candidate(w, number, i) for i in range(len(w.hosts)) if i != index
    ):
        taken = taken._replace(excused=Exempt.SPLIT_COLLECTORS.name)
    if not acting or taken.excused:
        yield taken


def _unheard_candidate(w: W, number: int, index: int) -> bool:
    """May the first collector be promoting this host, while it has never heard the second, which is this one?"""
    host = w.hosts[index]
    if w.collectors[number].epoch < NEWER or host.epoch >= NEWER:
        return False
    f = w.collectors[0].journal.failover
    intended = bool(f) and f.step == INTENDED and f.candidate == index
    return intended or (host.conf == MASTER and bool(host.acted)) or any(m.host == index for m in w.messages)


def observations(w: W, s: Setting, number: int, c: Collector) -> Iterator[Step]:
    """One host serves as master that is not the one on record: adopted, at a new term."""
    for index, host in enumerate(w.hosts):
        known = index == c.journal.master or c.journal.owed >> index & 1
        if host.run == MASTER and not known and w.hosts[c.journal.master].run != MASTER:
            journal = c.journal._replace(term=c.journal.term + 1, master=index)
            yield changed(w, number, noted(c, s, journal), f"finds that {NAMES[index]} serves as master, and adopts it")


def afterwards(w: W, s: Setting, number: int, c: Collector) -> Iterator[Step]:
    """Members are brought to the master that serves; who is owed a tombstone gets it, attaches, and loses it."""
    j = c.journal
    if j.failover or w.hosts[j.master].run != MASTER:
        return
    for index, host in enumerate(w.hosts):
        owed = j.owed >> index & 1
        settled = host.conf == host.run == j.master
        if index == j.master or not host.up or host.act or host.run in (ASKING,) or (settled and not owed):
            continue
        if not owed and host.conf == MASTER:
            continue
        refused = exchange(w, s, number, c, index, j.term)
        if refused is not None:
            yield from unless_same(refused, w)
            continue
        kept = host._replace(epoch=max(host.epoch, c.epoch), term=max(host.term, j.term))
        if settled:
            paid = noted(c, s, j._replace(owed=j.owed & ~(1 << index)))
            after = put(w, index, kept._replace(tombstone=0))
            yield changed(after, number, paid, f"sees {NAMES[index]} attached, and clears its tombstone")
        elif owed and not host.tombstone:
            yield from _tombstone(w, s, number, c, index, kept)
        else:
            pointed = kept._replace(conf=j.master, run=DOWN if host.run != SHUT else SHUT)
            if pointed != host:
                yield step(w, s, f"{who(number)} points {NAMES[index]} to {NAMES[j.master]}", index, pointed)


def _tombstone(w: W, s: Setting, number: int, c: Collector, index: int, host: Host) -> Iterator[Step]:
    marked = w.hosts[index]._replace(epoch=host.epoch, term=host.term, tombstone=max(c.journal.term, 1))
    said = f"{who(number)} gives {NAMES[index]} its tombstone"
    if marked.conf == MASTER:
        yield step(
            w, s, f"{said}; pool.conf follows {NAMES[c.journal.master]}", index, marked._replace(conf=c.journal.master)
        )
        if w.left.full_disks:
            full = w._replace(left=w.left._replace(full_disks=w.left.full_disks - 1))
            yield step(full, s, f"{said}; its disk is full, pool.conf stays as it is", index, marked)
    else:
        yield step(w, s, said, index, marked)
