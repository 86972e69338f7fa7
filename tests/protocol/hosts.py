"""What hosts, their agents' gates and their boot gates do, and what the environment does to them.

The order gate is that of ``agent/poolwarden_agent/core/order_gate.py`` with the durable steps of
``host/executor.py``: mark, act, result, answer. Properties that concern an act are judged here, where it happens.
"""

from __future__ import annotations

from collections.abc import Iterator

from .explorer import Step
from .world import ASKING, BOOTING, DOWN, MASTER, NAMES, NEWER, OFF, RUNS, SHUT, Exempt, Host, Message, Rule, Setting
from .world import World as W


def put(w: W, index: int, host: Host) -> W:
    """The world with this host in that place."""
    return w._replace(hosts=(*w.hosts[:index], host, *w.hosts[index + 1 :]))


def step(w: W, s: Setting, label: str, index: int, host: Host) -> Step:
    """A step that changes one host; two that run as master are the violation that everything is about."""
    after = put(w, index, host)
    others = [h for i, h in enumerate(w.hosts) if i != index and h.run == MASTER] if host.run == MASTER else []
    if not others:
        return Step(label, after)
    allowed = len(w.collectors) > 1 and Exempt.SPLIT_COLLECTORS in s.exempt
    excused = allowed and all(_split(host.epoch, other.epoch) for other in others)
    return Step(label, after, "", Exempt.SPLIT_COLLECTORS.name) if excused else Step(label, after, "I1")


def _split(one: int, other: int) -> bool:
    """Do these hosts obey different collectors, the first one's host never having heard the second?"""
    return 1 <= min(one, other) < NEWER <= max(one, other)


def host_steps(w: W, s: Setting) -> Iterator[Step]:
    """Every step of every host and of its environment."""
    for index, host in enumerate(w.hosts):
        name = NAMES[index]
        if host.run == OFF:
            yield step(w, s, f"{name} is switched on", index, host._replace(boot=host.boot + 1, run=BOOTING))
            continue
        if w.left.offs:
            after = w._replace(left=w.left._replace(offs=w.left.offs - 1))
            yield step(after, s, f"{name} loses its power", index, host._replace(run=OFF, act=0))
        if host.run == BOOTING:
            yield from _boot(w, s, index, host)
        elif host.run == DOWN:
            yield _start(w, s, index, host, "xapi starts on")
        elif host.run in (ASKING, SHUT):
            yield from _gate_alone(w, s, index, host)
        yield from _acting(w, s, index, host)
    if w.left.by_hand:
        yield from _by_hand(w)


def _boot(w: W, s: Setting, index: int, host: Host) -> Iterator[Step]:
    """The machine is up: xapi would start now, as pool.conf says, if the boot gate lets it."""
    if any(other.act == 1 for other in w.hosts):
        return  # an act takes at most its limit, less than a boot
    w = booted(w, s, index)
    name = NAMES[index]
    if host.conf != MASTER:
        yield step(w, s, f"{name} has booted as a member of {NAMES[host.conf]}", index, host._replace(run=host.conf))
    elif host.tombstone and s.keeps(Rule.TOMBSTONE_GATE):
        yield step(w, s, f"{name} has booted; its tombstone shuts the gate", index, host._replace(run=SHUT))
    elif s.keeps(Rule.BOOT_GATE):
        yield step(w, s, f"{name} has booted with pool.conf master; its gate asks", index, host._replace(run=ASKING))
    else:
        yield step(w, s, f"{name} has booted and runs as master", index, host._replace(run=MASTER))


def booted(w: W, s: Setting, index: int) -> W:
    """The inequality of time: what rested on this host's being off, or was meant for its last boot, is too old now."""
    if s.keeps(Rule.EXPIRY):
        kept = frozenset(m for m in w.messages if index not in (m.old, m.host))
        w = w._replace(messages=kept)
    collectors = []
    for c in w.collectors:
        live, failover = c.live, c.journal.failover
        if live.target == index or (failover and failover.old == index):
            live = live._replace(target=-1, off=0, look=False, due=False)
        collectors.append(c._replace(live=live))
    return w._replace(collectors=tuple(collectors))


def _start(w: W, s: Setting, index: int, host: Host, how: str) -> Step:
    if host.conf == MASTER and host.tombstone and s.keeps(Rule.TOMBSTONE_GATE):
        return step(w, s, f"the tombstone holds xapi on {NAMES[index]}", index, host._replace(run=SHUT))
    role = "as master" if host.conf == MASTER else f"as a member of {NAMES[host.conf]}"
    return step(w, s, f"{how} {NAMES[index]}, {role}", index, host._replace(run=host.conf))


def _gate_alone(w: W, s: Setting, index: int, host: Host) -> Iterator[Step]:
    """No collector is heard: members answer for the host, or nobody does and the network is alive."""
    if host.conf != MASTER:
        yield _start(w, s, index, host, "the gate lets xapi start on")
        return
    if host.run == SHUT:
        return  # by its tombstone or a collector's word: only a collector opens it
    taken = step(w, s, f"the gate of {NAMES[index]} opens without a collector", index, host._replace(run=MASTER))
    promoted = any(h.conf == MASTER for i, h in enumerate(w.hosts) if i != index)
    if promoted and not host.tombstone and Exempt.GATE_ALONE in s.exempt:
        taken = taken._replace(broken="", excused=Exempt.GATE_ALONE.name)
    yield taken


def _acting(w: W, s: Setting, index: int, host: Host) -> Iterator[Step]:
    """An order that has passed the gate: act, make the result durable; or the agent dies in between."""
    if not host.act:
        return
    name, order = NAMES[index], host.mark
    if host.act == 1:
        after = put(w, index, host._replace(conf=MASTER, run=DOWN, act=2, acted=order))
        label = f"{name} is promoted by order {order}: pool.conf says master, xapi is restarting"
        excused = _act_excused(w, s, index, host)
        yield Step(label, after, "" if excused else _act_broken(w, index, order), excused)
    else:
        done = host._replace(result=order, act=0, tombstone=0)
        yield step(w, s, f"the result of order {order} is durable on {name}", index, done)
    if w.left.agent_crashes:
        after = w._replace(left=w.left._replace(agent_crashes=w.left.agent_crashes - 1))
        yield step(after, s, f"the agent of {name} dies and starts again", index, host._replace(act=0))


def _act_broken(w: W, index: int, order: int) -> str:
    if w.hosts[index].acted // 10 == order // 10:
        return "I14"  # one failover promotes its host once
    others = (h for i, h in enumerate(w.hosts) if i != index)
    return "I4" if any(h.acted and h.acted // 10 == order // 10 for h in others) else ""


def _act_excused(w: W, s: Setting, index: int, host: Host) -> str:
    """Two collectors, and the candidate of the one has never heard the other."""
    if len(w.collectors) < 2 or Exempt.SPLIT_COLLECTORS not in s.exempt:
        return ""
    epochs = [h.epoch for i, h in enumerate(w.hosts) if i != index and h.conf == MASTER and h.acted]
    split = any(_split(epoch, host.epoch) for epoch in epochs)
    return Exempt.SPLIT_COLLECTORS.name if split else ""


def _by_hand(w: W) -> Iterator[Step]:
    """An operator who sees no master promotes a member with xe, and may point the others there."""
    quiet = all(h.act != 1 and h.run != MASTER and (h.conf != MASTER or h.run == OFF) for h in w.hosts)
    if not quiet:
        return
    for index, host in enumerate(w.hosts):
        if host.run not in range(len(w.hosts)):
            continue
        left = w.left._replace(by_hand=0, promoted_by_hand=index)
        chosen = put(w, index, host._replace(conf=MASTER, run=MASTER))._replace(left=left)
        yield Step(f"an operator promotes {NAMES[index]} by hand", chosen)
        pointed = tuple(
            h._replace(conf=index, run=index) if h.run >= 0 and h.run != MASTER else h for h in chosen.hosts
        )
        if pointed != chosen.hosts:
            label = f"an operator promotes {NAMES[index]} by hand and points the others to it"
            yield Step(label, chosen._replace(hosts=pointed))


# ------------------------------------------------------------------------------------------------ deliveries


def deliveries(w: W, s: Setting) -> Iterator[Step]:
    """Every message to every host that could take it now; it stays, and may come again."""
    for message in w.messages:
        host = w.hosts[message.host]
        if host.up and not host.act and not _refused(host, message, s):
            yield from (_open(w, s, message, host) if message.kind == "open" else _promote(w, s, message, host))


def _refused(host: Host, m: Message, s: Setting) -> bool:
    """The gate's first questions: boot, epoch, term."""
    if m.boot != host.boot and s.keeps(Rule.BOOT_CHECK):
        return True
    if m.epoch < host.epoch and s.keeps(Rule.EPOCH_CHECK):
        return True
    return m.term < host.term and s.keeps(Rule.TERM_CHECK)


def _disobeyed(host: Host, m: Message) -> str:
    """I16, judged by what the host has stored or has ever acknowledged."""
    wrong = m.boot != host.boot or m.epoch < host.epoch or m.term < max(host.term, host.told)
    return "I16" if wrong else ""


def _open(w: W, s: Setting, m: Message, host: Host) -> Iterator[Step]:
    if host.run not in (ASKING, SHUT) or host.conf != MASTER or host.tombstone:
        return
    opened = host._replace(run=MASTER, epoch=max(host.epoch, m.epoch), term=max(host.term, m.term))
    taken = step(w, s, f"{NAMES[m.host]} gets the word that its gate may open, and runs as master", m.host, opened)
    yield taken._replace(broken=_disobeyed(host, m) or taken.broken)


def _promote(w: W, s: Setting, m: Message, host: Host) -> Iterator[Step]:
    name = NAMES[m.host]
    if host.result == m.order and s.keeps(Rule.REPLAY):
        return
    if host.mark == m.order and host.conf == MASTER and s.keeps(Rule.STARTED_MARK):
        yield step(
            w, s, f"{name} finds order {m.order} done already", m.host, host._replace(result=m.order, tombstone=0)
        )
        return
    if host.tombstone and m.term <= host.tombstone:
        return
    if host.conf != m.old and s.keeps(Rule.PRECONDITION):
        return
    stored = host._replace(epoch=max(host.epoch, m.epoch), term=max(host.term, m.term), mark=m.order, act=1)
    label = f"order {m.order} (epoch {m.epoch}, term {m.term}) passes the gate of {name}; the mark is durable"
    broken = _disobeyed(host, m)
    excused = "" if broken else _hand_excused(w, s, m, host)
    yield Step(label, put(w, m.host, stored), broken, excused)


def _hand_excused(w: W, s: Setting, m: Message, host: Host) -> str:
    """Was another member promoted by hand, unknown to this order's sender and to this host?"""
    hand = w.left.promoted_by_hand
    if hand in (-1, m.host) or w.hosts[hand].conf != MASTER or Exempt.BY_HAND not in s.exempt:
        return ""
    known = not m.looked or host.conf != m.old or max(host.told, host.term) > m.term
    return "" if known else Exempt.BY_HAND.name


def describe(w: W) -> str:
    """The hosts in one line, for people."""
    shown = []
    for name, h in zip(NAMES, w.hosts, strict=False):
        conf = "master" if h.conf == MASTER else f"slave:{NAMES[h.conf]}"
        run = RUNS.get(h.run) or f"member of {NAMES[h.run]}"
        shown.append(f"{name}: {run}, pool.conf {conf}, epoch {h.epoch}, term {h.term}")
    return "; ".join(shown)
