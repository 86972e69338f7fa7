"""The boot gate: may xapi start as master in this boot? A pure function of what is known at one instant.

Why: xapi looks for another master only after it has started, once, and only where it can reach it (xapi:
ocaml/xapi/xapi.ml, check_no_other_masters). An old master that comes back cut off from its pool would run as a second
one, and both would act on the same storage. So its xapi waits here until a rule decides.

The members are asked from the first moment on, beside the collector and for as long as the gate is not open: over TCP
443 and 80 (dom0/xapi/roles.py). A certificate decides nothing here.

Rules, the first that decides
-----------------------------
0. A hold or a tombstone: shut. A member, a one-host pool, an armed HA, a host promoted in this very boot: ungated.
1. The collector says that another host succeeds this one: shut, and follow the successor once it is named.
2. The collector says open: open, once the members have been asked, and unless one of them acts as master, or follows a
   master that acts: what this host itself has observed within the last seconds overrides any word, and the
   collector is told why the gate is shut. The collector says wait: nothing else may decide meanwhile.
3. No collector: what the members say. One that is alive and is no member acts as master: shut. One that follows
   another host counts against this one only if a host answers there. One that is alive and tells no role (its ports are
   filtered, or its xapi starts) may be the master: shut, for as long as that lasts. At least one that follows this
   host, and no other answer: open, at once if every one has answered, else after five minutes (a host that was just
   promoted is silent while its xapi restarts). Disagreement: shut.
4. Nobody answers: with the management link down or the gateway silent, shut, because isolated old masters are the
   dangerous ones. Without a gateway a host of the pool that answers ARP shows that the network is alive, nothing else
   does. With the network alive: open after five minutes. It is the rule of a host that has heard no collector
   in this boot, as after a power cut of a whole site. A collector that has said "wait" and is gone knew of a host
   that this one does not see: then it stays shut, too.

So with a collector a pair of hosts that do not see one another stays shut at both ends, also if that collector ends
afterwards; what opens it is a collector's word, the members', or an operator's (`poolwarden-agent gate open`).

A word of rules 1 and 2, a tombstone and ungated are final for this boot (a release or an operator ends them); what
rules 3 and 4 say is asked again until xapi has started, and the collector's word takes it back: a member that was told
to become master says until its xapi restarts that it follows this host. Restarts of xapi within a boot are not gated.
"""

from typing import NamedTuple, Optional, Tuple

from poolwarden_agent.core.addresses import same
from poolwarden_agent.core.gate_state import GateState
from poolwarden_agent.core.host_now import MASTER, MEMBER

UNGATED, ASKING, SHUT, OPEN = "ungated", "asking", "shut", "open"

NETWORK_ALIVE_MS = 300000

# What a member answered: follows an address; is alive and is no member; nothing came, or that it is in emergency mode;
# it is alive and tells no role on any port.
FOLLOWS, ACTS, SILENT, UNTOLD = "follows", "acts", "silent", "untold"


class Told(NamedTuple):
    """A host's own word on its role: ``certificate`` is what it showed over TLS, the text is for people."""

    said: str
    master: str = ""
    certificate: str = ""
    text: str = ""


class Decision(NamedTuple):
    """The gate's state and one sentence; ``final``: it is not asked again in this boot."""

    state: str
    reason: str
    final: bool = False
    follow: str = ""  # the address that pool.conf must name before anything starts; empty: leave it
    term: int = 0  # of the collector's word, 0: none


class Word(NamedTuple):
    """The collector's answer for this boot: open, shut or wait."""

    decision: str
    reason: str
    term: int
    successor: str = ""
    address: str = ""


class Member(NamedTuple):
    """What a host of the pool said to the question who its master is."""

    address: str
    said: str
    master: str = ""
    master_answers: bool = False  # is somebody there at the address that it follows?
    master_acts: bool = False  # and says that it acts as master?
    text: str = ""


class BootNow(NamedTuple):
    """Everything that the rules look at."""

    boot_id: str
    address: str  # this host's own
    pool_conf: str  # as found at boot
    hosts: int  # of the pool, by its database; 0: not known
    ha_armed: Optional[bool]
    promoted_in: str  # the boot in which this host was last promoted
    word: Optional[Word]
    collector_silent: bool  # no stream, or no answer for long
    members: Tuple[Member, ...]
    members_asked: bool  # every member was asked within the last seconds
    link_up: bool
    gateway: Optional[bool]  # does it answer; None: none is configured
    peer_heard: bool  # does any host of the pool answer ARP; asked where no gateway is configured
    waited_ms: int
    let_wait: str = ""  # why a collector that is not heard any more said "wait" in this boot; empty: none did


def decide(state: GateState, now: BootNow) -> Decision:
    """The decision at this instant; total."""
    return _marks(state) or _ungated(now) or _collector(state, now) or _members(now) or _alone(now)


def _marks(state: GateState) -> Optional[Decision]:
    if state.hold is not None:
        return Decision(SHUT, "its toolstack is held since term %d" % state.hold.term, True)
    stone = state.tombstone
    if stone is not None:
        # safety: a superseded master never starts as one, whatever else says that it may.
        text = "it was superseded at term %d by %s" % (stone.term, stone.address or stone.successor or "another host")
        return Decision(SHUT, text, True, stone.address, stone.term)
    return None


def _ungated(now: BootNow) -> Optional[Decision]:
    if now.pool_conf == MEMBER:
        return Decision(UNGATED, "it booted as a member", True)
    if now.pool_conf != MASTER:
        return Decision(UNGATED, "its pool.conf does not make it master", True)
    if now.hosts == 1:
        return Decision(UNGATED, "it is the only host of its pool", True)
    if now.ha_armed:
        return Decision(UNGATED, "xapi's HA is armed and decides itself", True)
    if now.promoted_in and now.promoted_in == now.boot_id:
        return Decision(UNGATED, "it was promoted in this boot", True)
    return None


def _collector(state: GateState, now: BootNow) -> Optional[Decision]:
    word = now.word
    if word is None:
        return None if now.collector_silent else Decision(ASKING, "the collector has not answered yet")
    if word.term < state.term:
        return Decision(ASKING, "the collector's word is of term %d, this host knows %d" % (word.term, state.term))
    if word.decision == "shut":
        return Decision(SHUT, word.reason, True, word.address, word.term)
    if word.decision == "open":
        return _contradicted(now, word) or Decision(OPEN, word.reason, True, "", word.term)
    return Decision(ASKING, word.reason)


def _contradicted(now: BootNow, word: Word) -> Optional[Decision]:
    """What this host sees itself against the collector's "open"."""
    if not now.members_asked:
        return Decision(ASKING, "the collector lets it start; its members are asked first")
    # safety: an acting master is acting, also where the collector knows of none.
    acting = _acting(now)
    return Decision(SHUT, "%s; the collector says open: %s" % (acting, word.reason)) if acting else None


def _acting(now: BootNow) -> str:
    """Who acts as master by what the members say; empty: no host does."""
    for member in now.members:
        if member.said == ACTS:
            return "%s is alive and no member: it acts as master" % member.address
        if member.said == FOLLOWS and not same(member.master, now.address) and member.master_acts:
            return "%s follows %s, which acts as master" % (member.address, member.master)
    return ""


def _members(now: BootNow) -> Optional[Decision]:
    """Rule 3: what the other hosts of the pool say."""
    if not now.members_asked:
        return Decision(ASKING, "no collector is heard; the members are being asked")
    acting = _acting(now)
    if acting:
        return Decision(SHUT, acting)
    following = [m for m in now.members if m.said == FOLLOWS]
    others = [m for m in following if not same(m.master, now.address) and m.master_answers]
    ours = [m for m in following if same(m.master, now.address)]
    if others:
        text = "%s follows %s, which answers" % (others[0].address, others[0].master)
        return Decision(SHUT, text + (", and %s follows this host" % ours[0].address if ours else ""))
    untold = [m for m in now.members if m.said == UNTOLD]
    if untold:
        # safety: filtered is not silent; a host that is up and tells no role may be the master, however long it takes.
        return Decision(SHUT, "%s is alive and tells no role (%s)" % (untold[0].address, untold[0].text or "no answer"))
    missing = [m.address for m in now.members if m.said == SILENT]
    # safety: a collector that let it wait and is gone has seen a host that this one does not see.
    if ours and (not missing or (now.waited_ms >= NETWORK_ALIVE_MS and not now.let_wait)):
        return Decision(OPEN, "%s follows this host, and nobody says otherwise" % ours[0].address)
    if ours:
        # A host that was just promoted is silent while its xapi restarts, and its members do not know of it yet.
        return Decision(SHUT, "%s follows this host; %s has not answered yet" % (ours[0].address, missing[0]))
    if following:
        text = "%s follows %s, which does not answer" % (following[0].address, following[0].master)
        return Decision(SHUT, text) if not _network(now) else None
    return None


def _network(now: BootNow) -> bool:
    # safety: a host that knows no gateway and hears nobody may be the one that is cut off.
    return now.link_up and (now.peer_heard if now.gateway is None else now.gateway)


def _alone(now: BootNow) -> Decision:
    """Rule 4: no host answers."""
    if not now.link_up:
        return Decision(SHUT, "nobody answers and the management link is down or not known: it may be cut off")
    if not _network(now):
        other = "the gateway neither" if now.gateway is False else "no gateway is known, and no host answers ARP"
        return Decision(SHUT, "nobody answers, %s: this host may be cut off" % other)
    if now.let_wait:
        # safety: what it waited for has not become less likely by its going away.
        return Decision(SHUT, "nobody answers; a collector that is not heard any more let it wait: %s" % now.let_wait)
    if now.waited_ms >= NETWORK_ALIVE_MS:
        return Decision(OPEN, "nobody has answered for five minutes, and the network is alive")
    left = (NETWORK_ALIVE_MS - now.waited_ms) // 1000
    return Decision(SHUT, "nobody answers; the network is alive: it opens in %d s if that stays so" % left)
