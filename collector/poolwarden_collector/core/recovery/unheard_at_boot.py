"""Hosts on record that are not heard while an old master boots: may its gate open all the same?

Theory: the word of a collector at a gate stands in for what the booting host would have found out by asking every
other host itself (the agent's core/boot_gate.py). An agent that is silent tells nothing of its host: an administrator,
another collector, or this one in a past that its journal has lost may have made it master. So the collector asks too.

Rules
-----
* A host speaks if its agent is heard and tells its pool.conf. Every other host on record is asked for its role (xapi's
  own word, over the network) by every agent that is heard, the booting host's own among them, again and again.
* Acts as master, by anybody's word: shut. Follows another address than the booting host's: wait.
* Follows the booting host, and has said so over the time that a xapi takes from being told to become master to its
  restart: as good as heard. Excused (fenced_hosts.py: proven off, or confirmed): it blocks nothing.
* Everybody else is waited for: nothing but those two, or a word on the booting host itself, ends the wait.
* Except: some other host follows the booting one, nobody contradicts, and all who are waited for have been dark to
  the booting host and to each that is heard and follows it, for ten minutes: it opens, told. Dark is silence on every
  way there is, begins anew with each sign of life, and is not what one host alone sees over a link that may be cut; a
  host that is alive and tells no role (its ports may be filtered) is never dark. So one dead member keeps no pool down
  for ever, and a pool of two, where nobody is left to follow, waits for a person.
* A journal in which no serving master has ever listed the pool's hosts knows of nobody who is missing: wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.fenced_hosts import excused, lives
from poolwarden_collector.core.evidence.signs import FACTS_FRESH_MS
from poolwarden_collector.core.failover.last_look import MOST_ASKED, ORDER_VALID_MS, PLAIN_PORT
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.order_results import RoleAnswer, RoleClaim
from poolwarden_collector.core.model.orders import ProbeNow, Target
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.live_slices import Told, UnheardHosts
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

DARK_MS: Ms = 600_000
ASK_EVERY_MS: Ms = 4_000  # each agent; two silent hosts cost it some seconds
TOLD_FRESH_MS: Ms = 15_000
FUSE_MS: Ms = 12_000  # xapi that becomes master restarts after 10 s (xapi: ocaml/xapi/xapi_fuse.ml)
DARK_GAP_MS: Ms = 60_000  # silence that nobody has found again for so long is no unbroken one
NAMED = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """What the silent hosts come to: ``ground`` is the same as long as the reason is, whatever the words.

    ``against``: a host that speaks against the booting one; ``waits``: those that are waited for, ``dark`` of them;
    ``spoken``: by what those said themselves, or others of them, so that nobody confirms that they are off.
    """

    ground: str = ""
    why: str = ""
    acts: bool = False
    waits: tuple[HostId, ...] = ()
    dark: tuple[HostId, ...] = ()
    spoken: bool = False

    @property
    def may_open(self) -> bool:
        return not self.ground


# ------------------------------------------------------------------------------------------------ who is missing


def speaks(pool: Snapshot, host: HostId) -> bool:
    """Is it heard, and does its agent tell by a look of now what its pool.conf says?"""
    agent = pool.heard(host)
    if agent is None or agent.facts.role.pool_conf is Role.UNKNOWN:
        return False
    at = agent.facts.observed.host
    return at is None or pool.now - at <= FACTS_FRESH_MS


def missing(pool: Snapshot, booting: HostId) -> tuple[HostId, ...]:
    """Every other host on record that does not speak and is not excused, in the order of their names."""
    others = sorted((host for host in pool.record.hosts if host != booting), key=pool.name)
    return tuple(host for host in others if not speaks(pool, host) and not excused(pool, host))


# ------------------------------------------------------------------------------------------------ asking


def ask(tx: Transaction, booting: HostId, most: int | None = None) -> None:
    """Have the missing hosts asked for their role: each agent two of them at a time, the longest unasked first.

    ``most``: by so many agents at the most, that of ``booting`` first.
    """
    # safety: whoever has given any sign of life was not dark, and begins anew.
    tx.change(UnheardHosts, dark={host: dark for host, dark in tx.live.unheard.dark.items() if not lives(tx, host)})
    silent = [host for host in missing(tx, booting) if tx.record.address_of(host)]
    first = (lambda host: (host != booting, host)) if most is not None else None
    for asker in sorted(tx.live.agents, key=first)[:most]:
        targets = [host for host in silent if host != asker]
        if targets and _free(tx, asker, booting):
            _ask(tx, asker, targets)


def _free(pool: Snapshot, asker: HostId, booting: HostId) -> bool:
    """May this agent be asked now? The booting host's own has a stream: its gate has just asked over it."""
    agent = pool.agent(asker)
    if agent is None or not agent.connected or "probe_now" not in agent.hello.capabilities:
        return False
    last = pool.sent(pool.live.unheard.role_asks.get(asker, ""))
    if last is not None and last.stream == agent.stream:
        waited = pool.now - last.at
        if waited < (ASK_EVERY_MS if last.result is not None else ORDER_VALID_MS):
            return False
    return asker == booting or pool.heard(asker) is not None


def _ask(tx: Transaction, asker: HostId, targets: list[HostId]) -> None:
    def asked_at(host: HostId) -> tuple[Ms, str]:
        told = tx.live.unheard.told.get(host, {}).get(asker)
        return (told.at if told is not None else -1, tx.name(host))

    chosen = sorted(targets, key=asked_at)[:MOST_ASKED]
    nonce = tx.fresh_id("gate")
    roles = tuple(Target(host, tx.record.address_of(host), PLAIN_PORT) for host in chosen)
    order_id = f"{nonce}/{asker}"
    tx.change(UnheardHosts, role_asks={**tx.live.unheard.role_asks, asker: order_id})
    tx.send(order_id, asker, ProbeNow((), nonce, roles), ORDER_VALID_MS)


def note(tx: Transaction, asker: HostId, order_id: str, answers: tuple[RoleAnswer, ...]) -> None:
    """Take the answers to such an order in; they speak of the instant at which it was asked, at the earliest."""
    sent = tx.sent(order_id)
    if sent is None or tx.live.unheard.role_asks.get(asker) != order_id:
        return
    told, dark = dict(tx.live.unheard.told), dict(tx.live.unheard.dark)
    for answer in answers:
        before = told.get(answer.host, {}).get(asker)
        same = before is not None and (before.said, before.follows) == (answer.said, answer.follows)
        first = before.since if before is not None and same else sent.at
        said = Told(answer.said, sent.at, first, answer.follows, answer.followed_answers)
        told[answer.host] = {**told.get(answer.host, {}), asker: said}
        since, last = dark.get(answer.host, (tx.now, tx.now))
        if answer.said is not RoleClaim.SILENT:
            dark.pop(answer.host, None)
        else:
            dark[answer.host] = (since if tx.now - last <= DARK_GAP_MS else tx.now, tx.now)
    tx.change(UnheardHosts, told=told, dark=dark)


# ------------------------------------------------------------------------------------------------ judging


def judge(pool: Snapshot, booting: HostId, asked_since: Ms) -> Judged:
    """May the gate of this host open, as far as hosts are concerned that do not speak?"""
    if not pool.record.listed:
        why = "no serving master has told this collector which hosts the pool has, so nobody is known to be missing"
        return Judged("unlisted", f"{why}: it waits for one, or here for: poolwarden-agent gate open")
    silent = missing(pool, booting)
    said = {host: told(pool, host, len(silent)) for host in silent}
    for host in silent:
        if against := _against(pool, booting, host, said[host]):
            return against
    address = pool.record.address_of(booting)
    follows = [host for host in silent if any(_settled_member(word, asked_since) for word in said[host].values())]
    waits = tuple(host for host in silent if host not in follows)
    if not waits:
        return Judged()
    members = [
        host for host in pool.record.hosts if host != booting and speaks(pool, host) and _member_of(pool, host, address)
    ]
    # safety: dark to the followers too, not to the booting host alone: between those two there may just be a cut link.
    askers = (booting, *members)
    dark = tuple(
        host
        for host in waits
        if _dark_for(pool, host) >= DARK_MS
        and all(asker in said[host] and said[host][asker].said is RoleClaim.SILENT for asker in askers)
    )
    # safety: only beside a host that follows this one; alone, silence would be the whole proof.
    if (follows or members) and dark == waits and pool.now - asked_since >= DARK_MS:
        return Judged(dark=dark)
    return Judged(f"unheard/{'/'.join(waits)}", _reason(pool, waits), waits=waits)


def told(pool: Snapshot, host: HostId, silent: int = MOST_ASKED) -> dict[HostId, Told]:
    """What it said lately, by who asked; the more hosts are silent, the longer a round of questions takes."""
    limit = max(TOLD_FRESH_MS, ASK_EVERY_MS * (silent // MOST_ASKED + 2))
    return {asker: word for asker, word in pool.live.unheard.told.get(host, {}).items() if pool.now - word.at <= limit}


def _against(pool: Snapshot, booting: HostId, host: HostId, said: dict[HostId, Told]) -> Judged | None:
    """Does this silent host's own xapi speak against the booting host?"""
    name, address = f"{pool.name(host)}, whose agent is silent,", pool.record.address_of(booting)
    for asker, told in sorted(said.items()):
        by = f"{pool.name(asker)} has asked its xapi"
        if told.said is RoleClaim.ACTS:
            return Judged(f"acts/{host}", f"{name} acts as master: {by}", acts=True, waits=(host,), spoken=True)
        # safety: only the booting host's own address will do; whoever follows a dead name may have served it till now.
        if told.said is RoleClaim.FOLLOWS and (not address or told.follows != address):
            there = "answers" if told.followed_answers else "does not answer"
            return Judged(
                f"follows/{host}", f"{name} follows {told.follows}, which {there}: {by}", waits=(host,), spoken=True
            )
    return None


def _settled_member(told: Told, asked_since: Ms) -> bool:
    """Has it said over a whole fuse that it follows (whom, is judged already)?"""
    # safety: one that was told to become master before this gate asked says for ten seconds more that it follows.
    return told.said is RoleClaim.FOLLOWS and told.at - max(told.since, asked_since) >= FUSE_MS


def _member_of(pool: Snapshot, host: HostId, address: str) -> bool:
    agent = pool.heard(host)
    role = agent.facts.role if agent is not None else None
    return role is not None and role.pool_conf is Role.MEMBER and bool(address) and role.master_address == address


def _dark_for(pool: Snapshot, host: HostId) -> Ms:
    """For how long everybody who asked has found this host silent, ms; 0 if it is not being asked, or said anything."""
    since, last = pool.live.unheard.dark.get(host, (pool.now, pool.now))
    return pool.now - since if pool.now - last <= DARK_GAP_MS else 0


def _reason(pool: Snapshot, waits: tuple[HostId, ...]) -> str:
    names = named(pool, waits)
    be, each = ("is", "it") if len(waits) == 1 else ("are", "each")
    which = "; ".join(f"poolwarden confirm-fenced {pool.name(host)}" for host in waits[:NAMED])
    return (
        f"{names} {be} not heard, may be master, and {be} not proven off: until {each} is heard or reads OFF, "
        f"{which}, or here poolwarden-agent gate open"
    )


def named(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    """Their names in a sentence; of many the first few."""
    names = [pool.name(host) for host in hosts]
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def unheard_lines(pool: Snapshot, waits: tuple[HostId, ...]) -> list[str]:
    """What is known of each that is waited for, for people."""
    return [f"{pool.name(host)}: {_state(pool, host)}; {view(pool, host).why}" for host in waits]


def _state(pool: Snapshot, host: HostId) -> str:
    said = {each.said for each in told(pool, host, len(pool.record.hosts)).values()}
    if RoleClaim.ACTS in said:
        return "its xapi says that it acts as master"
    if RoleClaim.FOLLOWS in said:
        return "its xapi says that it follows another master"
    if RoleClaim.UNTOLD in said:
        return "it is alive, and its xapi tells nobody its role"
    if RoleClaim.SILENT in said:
        return f"it has been dark for {span(_dark_for(pool, host))} to everybody who asked"
    return "nobody could ask its xapi for its role yet"
