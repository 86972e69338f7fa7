"""What a collector does: the succession of ``steps.py``, ``promotion.py``, ``last_look.py``, ``ending.py``.

Each step is one pass of the engine or one exchange with one host. A step that changes the journal is durable when it is
over; an effect is a step of its own after it, so that a crash falls between any two.
"""

from __future__ import annotations

from collections.abc import Iterator

from .explorer import Step
from .gates import afterwards, gate_answers, observations
from .hosts import put
from .passes import (
    CHOSEN,
    DECIDED,
    INTENDED,
    changed,
    ended,
    exchange,
    noted,
    proof,
    proved,
    unless_same,
    who,
    with_collector,
)
from .world import (
    ASKING,
    MASTER,
    NAMES,
    OFF,
    SHUT,
    Collector,
    Exempt,
    Failover,
    Live,
    Message,
    Rule,
    Setting,
)
from .world import World as W


def collector_steps(w: W, s: Setting) -> Iterator[Step]:
    """Every step of every collector."""
    for number, c in enumerate(w.collectors):
        if c.phase == "up":
            yield from _running(w, s, number, c)
        elif c.phase == "down":
            # Every activation has an epoch of its own.
            yield changed(
                w, number, c._replace(phase="up", epoch=c.epoch + 1, live=Live()), "starts again, its epoch raised"
            )
        elif c.phase == "absent":
            yield changed(w, number, c._replace(phase="up"), "is started beside it, with an old journal")


def _running(w: W, s: Setting, number: int, c: Collector) -> Iterator[Step]:
    yield from _crash(w, number, c)
    if len(w.collectors) > 1 and any(h.up and h.epoch > c.epoch for h in w.hosts) and s.keeps(Rule.EPOCH_CHECK):
        yield changed(w, number, c._replace(phase="stale", live=Live()), "hears a Hello with a higher epoch: read-only")
    failover = c.journal.failover
    if not failover:
        if c.journal.term < s.failovers:
            minted = number if s.keeps(Rule.OWN_IDS) else 0
            opened = Failover(c.journal.term + 1, c.journal.master, minted=minted)
            journal = c.journal._replace(term=opened.term, failover=opened)
            label = f"decides a failover of {NAMES[opened.old]} at term {opened.term}"
            yield changed(w, number, noted(c, s, journal, Live()), label)
        yield from observations(w, s, number, c)
    elif failover.step < INTENDED:
        yield changed(w, number, ended(c, s, c.journal.term), "gives the failover up")
        yield from _claims(w, s, number, c, failover)
        yield from _choices(w, s, number, c, failover)
    else:
        yield from _intended(w, s, number, c, failover)
    if failover and failover.step >= CHOSEN:
        yield from _readings(w, s, number, c, failover)
        yield from _look(w, s, number, c, failover)
    yield from gate_answers(w, s, number, c)
    yield from afterwards(w, s, number, c)


def _crash(w: W, number: int, c: Collector) -> Iterator[Step]:
    if not w.left.crashes:
        return
    w = w._replace(left=w.left._replace(crashes=w.left.crashes - 1))
    yield changed(w, number, c._replace(phase="down", live=Live(), before=()), "crashes")
    if c.before and c.before != c.journal:
        lost = c._replace(phase="down", live=Live(), journal=c.before, before=())
        yield changed(w, number, lost, "crashes and loses its last record")


def _claims(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    for index, host in enumerate(w.hosts):
        if index == f.old or not host.up or host.act or c.live.claims >> index & 1:
            continue
        refused = exchange(w, s, number, c, index, f.term)
        if refused is not None:
            yield from unless_same(refused, w)
            continue
        stored = host
        if s.keeps(Rule.CLAIM_STORES):
            stored = host._replace(epoch=max(host.epoch, c.epoch), term=max(host.term, f.term))
        said = f"claims term {f.term} at {NAMES[index]}"
        if host.run == MASTER or (host.conf == MASTER and s.keeps(Rule.ROLE_VETO)):
            why = "which serves as master" if host.run == MASTER else "whose pool.conf says master"
            yield changed(
                put(w, index, stored), number, ended(c, s, c.journal.term), f"{said}, {why}: a veto, it gives up"
            )
            continue
        if stored != host:
            yield Step(f"{who(number)} {said}; the answer is lost", put(w, index, stored))
        if not s.keeps(Rule.CLAIM_STORES):
            stored = host._replace(told=max(host.told, f.term))
        live = c.live._replace(claims=c.live.claims | 1 << index)
        yield changed(put(w, index, stored), number, c._replace(live=live), f"{said}: stored")


def _choices(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    for index, host in enumerate(w.hosts):
        fit = c.live.claims >> index & 1 and host.conf == f.old and not host.tombstone and host.up
        if fit and index != f.candidate:
            chosen = f._replace(step=CHOSEN, candidate=index)
            live = c.live._replace(look=False)
            done = noted(c, s, c.journal._replace(failover=chosen), live)
            yield changed(w, number, done, f"chooses {NAMES[index]}")
    if f.step != CHOSEN or not (c.live.claims >> f.candidate & 1) or not proved(w, s, c, f, c.live):
        return
    intent = f._replace(step=INTENDED)
    if s.keeps(Rule.INTENT_FIRST):
        done = noted(c, s, c.journal._replace(failover=intent), c.live._replace(due=True))
        yield changed(w, number, done, f"journals the intent to promote {NAMES[f.candidate]} (order {f.order})")
    elif not c.live.due:
        sent = _sent(w, s, number, c._replace(live=c.live._replace(due=True)), f, c.live.look)
        yield sent._replace(label=sent.label + ", not journaled yet")
    if c.live.due and not s.keeps(Rule.INTENT_FIRST):
        done = noted(c, s, c.journal._replace(failover=intent), Live())
        yield changed(w, number, done, "journals the intent afterwards")


def _readings(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    """The power of the old master, and once the promotion is intended the candidate's, is read."""
    targets = [f.old] if f.step < INTENDED else [f.old, f.candidate]
    for target in targets:
        so_far = c.live.off if c.live.target == target else 0
        on = w.hosts[target].run != OFF
        if on and so_far:
            live = c.live._replace(target=-1, off=0, look=False)
            yield changed(w, number, c._replace(live=live), f"reads the power of {NAMES[target]}: ON")
        if so_far >= 2 or (on and not w.left.misreadings):
            continue
        wrong = " (it is on)" if on else ""
        left = w.left._replace(misreadings=w.left.misreadings - 1) if on else w.left
        live = c.live._replace(target=target, off=so_far + 1, look=c.live.look and so_far > 0)
        label = f"reads the power of {NAMES[target]}: OFF{wrong}, {so_far + 1} in a row"
        yield changed(w._replace(left=left), number, c._replace(live=live), label)


def _look(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    """The candidate answers a fresh look; whoever else does not answer says nothing."""
    candidate = w.hosts[f.candidate]
    if c.live.look or not proof(w, s, f, c.live) or not candidate.up or not s.keeps(Rule.LAST_LOOK):
        return
    asks = candidate.run in (ASKING, SHUT)
    if f.step == INTENDED and candidate.result == f.order and not asks and s.keeps(Rule.ASK_FIRST):
        return  # its answer, or its Hello, brings the result: nothing is to be sent
    refused = exchange(w, s, number, c, f.candidate, f.term)
    if refused is not None:
        yield from unless_same(refused, w)
        return
    taken = changed(
        w, number, c._replace(live=c.live._replace(look=True)), "takes the last look: nobody acts as master"
    )
    if w.hosts[f.old].up and c.live.off >= 2 and Exempt.LYING_DEVICE in s.exempt:
        taken = taken._replace(excused=Exempt.LYING_DEVICE.name)
    yield taken


def _sent(w: W, s: Setting, number: int, c: Collector, f: Failover, looked: bool, again: bool = False) -> Step:
    order = f.order + (5 if again and not s.keeps(Rule.SAME_ID) else 0)
    message = Message("promote", order, f.candidate, w.hosts[f.candidate].boot, c.epoch, f.term, f.old, looked)
    known = c.journal.failover
    broken = "" if known and known.step == INTENDED else "I6"
    after = with_collector(w._replace(messages=w.messages | {message}), number, c)
    return Step(f"{who(number)} sends order {order} to {NAMES[f.candidate]}{' again' if again else ''}", after, broken)


def _intended(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    candidate, name = w.hosts[f.candidate], NAMES[f.candidate]
    if candidate.run == MASTER:
        journal = c.journal._replace(master=f.candidate, failover=(), owed=c.journal.owed | 1 << f.old)
        yield changed(
            w, number, noted(c, s, journal, Live()), f"verifies that {name} serves as master: the failover is over"
        )
        return
    if c.live.due:
        # The pass that journaled the intent had looked.
        yield _sent(w, s, number, c._replace(live=Live()), f, s.keeps(Rule.LAST_LOOK))
    if c.journal.term > f.term:
        return  # BLOCKED_TERM_PASSED
    if candidate.up and candidate.result == f.order and not f.learned:
        learned = c.journal._replace(failover=f._replace(learned=True))
        yield changed(w, number, noted(c, s, learned), f"learns that {name} has carried order {f.order} out")
    if candidate.run == OFF and c.live.target == f.candidate and c.live.off >= 2:
        owed = c.journal.owed | 1 << f.candidate
        yield changed(
            w, number, ended(c, s, c.journal.term, owed=owed), f"has proof that {name} itself is off, and gives up"
        )
    if f.learned:
        return
    yield from _superseded(w, s, number, c, f)
    if not c.live.due and candidate.up:
        yield from _again(w, s, number, c, f)
        yield from _given_up(w, s, number, c, f)
    if not s.keeps(Rule.ONE_CANDIDATE):
        other = f._replace(step=DECIDED, candidate=-1)
        yield changed(w, number, noted(c, s, c.journal._replace(failover=other), Live()), "looks for another candidate")


def _again(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    """No answer: the order goes out again, on a proof and a look made anew."""
    if w.hosts[f.candidate].result == f.order and s.keeps(Rule.ASK_FIRST):
        return
    if s.keeps(Rule.REVERIFY) and not proved(w, s, c, f, c.live):
        return
    sent = _sent(w, s, number, c._replace(live=Live()), f, c.live.look, again=True)
    if sent.after != w:
        yield sent


def _given_up(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    """What the promotion stood on is so no more, and the order never began: the candidate is the member that it was,
    and no copy of the order is on its way. A new term; everything is decided anew.
    """
    candidate = w.hosts[f.candidate]
    under_way = any(m.order == f.order and m.host == f.candidate for m in w.messages)
    if candidate.result == f.order or candidate.act or not 0 <= candidate.run < MASTER or candidate.conf == MASTER:
        return
    if under_way and s.keeps(Rule.NEVER_BEGAN):
        return
    closed = ended(c, s, c.journal.term)
    yield changed(w, number, closed, "finds that its ground is gone and the order never began: gives up")


def _superseded(w: W, s: Setting, number: int, c: Collector, f: Failover) -> Iterator[Step]:
    """Somebody else serves and the order never began, as far as is known: a new term, told to the candidate."""
    for index, host in enumerate(w.hosts):
        if host.run != MASTER or index == f.candidate or c.journal.owed >> index & 1:
            continue
        closed = ended(c, s, c.journal.term, master=index)
        label = f"finds that {NAMES[index]} serves as master: superseded"
        yield changed(w, number, closed, label + "; the candidate is not reached")
        candidate = w.hosts[f.candidate]
        if not candidate.up or candidate.act or candidate.epoch > c.epoch or candidate.term > closed.journal.term:
            continue
        informed, term = candidate, closed.journal.term
        if s.keeps(Rule.CLAIM_STORES):
            informed = candidate._replace(epoch=max(candidate.epoch, c.epoch), term=max(candidate.term, term))
        if s.without & {Rule.CLAIM_STORES, Rule.NEW_TERM}:
            informed = informed._replace(told=f.term + 1)
        yield changed(put(w, f.candidate, informed), number, closed, label + f", and tells {NAMES[f.candidate]}")
