"""`poolwarden-agent gate wait|status|open|release|forget|found`: xapi's start and the operator on this very host.

``wait`` is ExecStartPre of xapi.service. It returns when xapi may start and otherwise goes on waiting, so that xapi is
neither started nor failed; it says why, once per reason. Rules, the first that decides:

1. Not configured, a member by pool.conf, or let start in this boot before: xapi may start, if no hold and no
   tombstone says otherwise. Both are asked at every start, reboot or not.
2. An operator opened the gate on this host in this boot.
3. The agent runs: its word (the boot gate's, with the collector's).
4. The agent does not run 20 s after the first question: the same rules without a collector, asked by this program.

A fault of this program must not keep a healthy master down: where neither hold nor tombstone is stored, xapi starts,
and its log says so. Where one is, or where that cannot be read on a host that pool.conf makes master, xapi waits.
A state that a newer agent has stored and that this one must not read is no fault: the latch, whose words every version
understands, says whether a hold or a tombstone stands. Whatever xapi waits for is said again each ten minutes, with the
command that ends it: ``forget`` sets unreadable durable state aside.
"""

import argparse
import os
import time
from typing import Callable, Dict, List, Optional, Tuple

from poolwarden_agent.config import Config, ConfigError, load
from poolwarden_agent.core import addresses, gate_state, host_now
from poolwarden_agent.core.gate_state import Newer
from poolwarden_agent.dom0.dom0 import SLOTS, Dom0
from poolwarden_agent.dom0.system import boot_findings, files, latch
from poolwarden_agent.dom0.system.clock import now_s
from poolwarden_agent.dom0.system.slots import WAY_OUT as FORGET
from poolwarden_agent.dom0.system.slots import SlotError, Slots
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.process import gate_file, link_file, log
from poolwarden_agent.process.gate_file import Word

AGENT_WITHIN_MS = 20000
TURN_S = 0.2
FIRST_TURN_S = 0.05  # while the answer of a healthy boot is due: until then each turn delays xapi
FIRST_TURNS_MS = 4000
SETTLE_EVERY_MS = 2000
SAY_AGAIN_MS = 600000


def main(words: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="poolwarden-agent gate", description="May xapi start on this host?")
    parser.add_argument("what", choices=("wait", "status", "open", "release", "forget", "found"))
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help="open, release, forget: this host's name")
    parser.add_argument("--as-member", default="", metavar="ADDRESS", help="release, forget: follow this living master")
    given = parser.parse_args(words)
    log.name("gate")
    if given.what == "found":
        return _found(given.root)
    if given.what == "wait":
        return _wait(given.root)
    if given.what == "forget":
        return _forget(given.root, given.name, given.as_member)
    if given.what == "release" and given.as_member:
        return _follow(given.root, given.as_member)
    return _status(given.root) if given.what == "status" else _request(given.root, given.what, given.name)


# ---------------------------------------------------------------------------------------------- waiting


def _wait(root: str) -> int:
    boot_id = files.read(root, files.BOOT_ID) or ""
    try:
        boot_findings.note_found(root, boot_id)
    except OSError as error:
        log.say("what this boot found in pool.conf cannot be noted: %s" % error)
    try:
        Waiting(root, boot_id).run()
    except Exception as error:  # a fault of ours must not keep a healthy host down
        why = "%s: %s" % (type(error).__name__, error)
        while _must_wait(root):
            log.say("xapi waits: this program has failed (%s), and a hold or tombstone may be stored" % why)
            time.sleep(60)
        log.say("xapi is let start UNGATED: this program has failed (%s); no hold and no tombstone is stored" % why)
    try:
        boot_findings.mark_started(root, boot_id)
    except OSError as error:
        log.say("the start of xapi cannot be noted: %s" % error)
    return 0


def _found(root: str) -> int:
    """Note and say what this boot found, before the toolstack starts (poolwarden-boot.service)."""
    boot_id = files.read(root, files.BOOT_ID) or ""
    try:
        role, master = boot_findings.note_found(root, boot_id)
        state = stored(root)
    except (OSError, SlotError, ValueError) as error:
        log.say("what this boot found cannot be noted: %s" % error)
        return 1
    said = "pool.conf says %s%s" % (role or "nothing that can be read", " of %s" % master if master else "")
    if state.hold is not None:
        said += "; the toolstack is held since term %d" % state.hold.term
    if state.tombstone is not None:
        said += "; superseded at term %d" % state.tombstone.term
    log.say("this boot found: %s" % said)
    return 0


def _must_wait(root: str) -> bool:
    """Is there a hold, or a tombstone on a master by pool.conf, or is that not known?"""
    try:
        state = stored(root)
    except Newer:
        return _latched(root)
    except (SlotError, ValueError):
        return files.pool_conf(root)[0] == host_now.MASTER
    return state.hold is not None or (state.tombstone is not None and files.pool_conf(root)[0] == host_now.MASTER)


def stored(root: str) -> gate_state.GateState:
    """What is durable, read and never written. :raises SlotError, ValueError: it cannot be read."""
    directory = os.path.join(root, SLOTS)
    if not any(os.path.exists(os.path.join(directory, "state.%d" % number)) for number in (0, 1)):
        return gate_state.EMPTY
    payload = Slots(directory).load()
    return gate_state.decode(payload) if payload else gate_state.EMPTY


def _latch(root: str) -> str:
    return latch.Latch(os.path.join(root, SLOTS)).read()


def _latched(root: str) -> bool:
    """Does the latch say that xapi must stay down?"""
    word = _latch(root)
    return word == latch.HOLD or (word == latch.TOMBSTONE and files.pool_conf(root)[0] == host_now.MASTER)


class Waiting(object):
    """One start of xapi that waits for its permission."""

    def __init__(self, root: str, boot_id: str, clock: Callable[[], float] = now_s) -> None:
        self._root = root
        self._boot = boot_id
        self._clock = clock
        self._began = self._now()
        self._said: Dict[str, Tuple[str, int]] = {}
        self._own: Optional[BootGate] = None
        self._asked = 0

    def run(self) -> None:
        """Until xapi may start."""
        while True:
            why_not = self.why_not()
            if not why_not:
                return
            self._say("xapi waits: " + why_not)
            time.sleep(FIRST_TURN_S if self._now() - self._began < FIRST_TURNS_MS else TURN_S)

    def why_not(self) -> str:
        """Why xapi may not start now; empty: it may."""
        role = files.pool_conf(self._root)[0]
        try:
            state = stored(self._root)
        except Newer as error:
            if _latched(self._root):
                return "the latch says %s, and %s; else: poolwarden-agent gate forget" % (_latch(self._root), error)
            said = "orders are refused: %s. Neither hold nor tombstone stands, so the rules of a boot decide"
            self._say(said % error, "stored")
            state = gate_state.EMPTY
        except (SlotError, ValueError) as error:
            if role == host_now.MASTER:
                return "what is durable cannot be read: %s" % _with_way_out(error)
            self._say("what is durable cannot be read: %s" % error, "stored")  # a member acts as master of nothing
            state = gate_state.EMPTY
        if state.hold is not None:
            return "its toolstack is held since term %d; poolwarden-agent gate release, if you know better" % (
                state.hold.term
            )
        if role != host_now.MASTER:
            return ""
        if state.tombstone is not None:
            by = state.tombstone.address or state.tombstone.successor or "another host"
            return "this host was superseded by %s at term %d" % (by, state.tombstone.term)
        if boot_findings.started(self._root, self._boot):
            return ""
        return self._boot_rules()

    def _boot_rules(self) -> str:
        who = gate_file.requested(self._root, gate_file.OPENED, self._boot)
        if who:
            self._say("xapi starts: %s opened the gate on this host" % who)
            return ""
        try:
            config = load(os.path.join(self._root, "etc/poolwarden/agent.conf"), self._root)
        except ConfigError as error:
            self._say("xapi starts ungated: Poolwarden is not configured here (%s)" % error)
            return ""
        word = gate_file.heard(self._root, self._boot, self._now())
        if word is None and self._now() - self._began >= AGENT_WITHIN_MS:
            word = self._alone(config)
        if word is None:
            return "the agent has not said anything about this boot yet"
        if word.allows:
            self._say("xapi starts: %s" % word.reason)
            return ""
        return word.reason

    def _alone(self, config: Config) -> Word:
        """The rules without a collector, while no agent runs."""
        if self._own is None:
            port = Dom0(self._root, config)
            self._own = BootGate(port, Keeper(port), alone=True)
        if self._now() - self._asked >= SETTLE_EVERY_MS:
            self._asked = self._now()
            if self._own.look_due():
                self._own.look()
            self._own.settle(False)
        decision = self._own.decision
        return Word(decision.state, "no agent runs here; " + decision.reason, self._own.allows(), self._now())

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _say(self, text: str, topic: str = "") -> None:
        # Seconds that count down are no news.
        essence = "".join(character for character in text if not character.isdigit())
        said, at = self._said.get(topic, ("", 0))
        if essence != said or self._now() - at >= SAY_AGAIN_MS:
            self._said[topic] = essence, self._now()
            log.say(text)


# ---------------------------------------------------------------------------------------------- people


def _status(root: str) -> int:
    boot_id = files.read(root, files.BOOT_ID) or ""
    waiting = Waiting(root, boot_id)
    try:
        state = stored(root)
    except (SlotError, ValueError) as error:
        print("durable state: cannot be read: %s" % _with_way_out(error))
        print("latch:      %s" % _latch(root))
        why_not = waiting.why_not()
        print("xapi:       %s" % ("waits: " + why_not if why_not else "may start"))
        return 1
    print("pool.conf:  %s" % (" ".join(files.pool_conf(root)).strip() or "not readable"))
    print("held:       %s" % ("since term %d" % state.hold.term if state.hold is not None else "no"))
    stone = state.tombstone
    print("superseded: %s" % ("by %s at term %d" % (stone.address or stone.successor, stone.term) if stone else "no"))
    print("collector:  %s" % link_file.shown(root, boot_id, " " * 12))
    if not boot_findings.gated(root):
        print("boot gate:  none: xapi.service has no drop-in of Poolwarden's")
        return 0
    word = gate_file.heard(root, boot_id, int(now_s() * 1000))
    print("agent:      %s" % ("%s: %s" % (word.state, word.reason) if word else "says nothing (is it running?)"))
    why_not = waiting.why_not()
    print("xapi:       %s" % ("waits: " + why_not if why_not else "may start"))
    return 1 if why_not else 0


def _request(root: str, what: str, name: str) -> int:
    """An operator on this host opens the gate: for this boot, and never against a tombstone."""
    boot_id = files.read(root, files.BOOT_ID) or ""
    host = files.host_name(root)
    try:
        state = stored(root)
    except (SlotError, ValueError) as error:
        return _no("durable state cannot be read: %s" % error, FORGET)
    if state.tombstone is not None:
        by = state.tombstone.address or state.tombstone.successor
        hint = "poolwarden-agent gate release --as-member ADDRESS (of the living master)"
        return _no("this host was superseded by %s; as master it would be a second one" % by, hint)
    if what == "open" and state.hold is not None:
        return _no("the toolstack is held, not the gate shut", "poolwarden-agent gate release")
    if what == "release" and state.hold is None:
        return _no("the toolstack is not held", "poolwarden-agent gate status")
    if what == "release" and gate_file.heard(root, boot_id, int(now_s() * 1000)) is None:
        return _no("the agent alone may change that, and it does not run", "systemctl start poolwarden-agent")
    if not name:
        print("xapi would start as this pool's master. If another host is master by now, that destroys data.")
        name = input("Type this host's name (%s) to go on: " % host).strip()
    if name != host:
        return _no("%r is not this host's name" % name, "nothing was done")
    path = gate_file.OPENED if what == "open" else gate_file.RELEASE
    gate_file.request(root, path, boot_id, os.environ.get("SUDO_USER") or os.environ.get("USER") or "root")
    print("asked for; poolwarden-agent gate status tells what comes of it")
    return 0


def _follow(root: str, address: str) -> int:
    """End a hold or a tombstone's wait as member of another master. No name is asked for: a member is no master."""
    boot_id = files.read(root, files.BOOT_ID) or ""
    try:
        state = stored(root)
    except (SlotError, ValueError) as error:
        return _no("durable state cannot be read: %s" % error, FORGET + " --as-member ADDRESS (of the living master)")
    if not addresses.is_address(address):
        return _no("%.60r is no IP address" % address, "give the living master's management address")
    if state.hold is None and state.tombstone is None:
        return _no("the toolstack is neither held nor superseded", "poolwarden-agent gate status")
    if gate_file.heard(root, boot_id, int(now_s() * 1000)) is None:
        return _no("the agent alone may change that, and it does not run", "systemctl start poolwarden-agent")
    who = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    gate_file.request(root, gate_file.FOLLOW, boot_id, "%s %s" % (address, who))
    print("asked for; poolwarden-agent gate status tells what comes of it")
    return 0


def _forget(root: str, name: str, address: str) -> int:
    """Set durable state aside that cannot be read, so that this host starts as one that was told nothing."""
    host = files.host_name(root)
    try:
        stored(root)
        return _no("durable state can be read: there is nothing to forget", "poolwarden-agent gate status")
    except (SlotError, ValueError) as error:
        print("durable state cannot be read: %s" % error)
    word, role = _latch(root), files.pool_conf(root)[0]
    if address and not addresses.is_address(address):
        return _no("%.60r is no IP address" % address, "give the living master's management address")
    if word != latch.NONE and role == host_now.MASTER and not address:
        hint = FORGET + " --as-member ADDRESS (of the living master)"
        return _no("the latch says %s: as master this host could be a second one" % word, hint)
    if not name:
        print("Terms, a hold and a tombstone that may be stored are lost. Do so only where no failover is under way.")
        name = input("Type this host's name (%s) to go on: " % host).strip()
    if name != host:
        return _no("%r is not this host's name" % name, "nothing was done")
    try:
        if address:
            # safety: before anything is forgotten, so that no start in between finds a master that was superseded.
            files.write_pool_conf(root, address)
        moved = Slots(os.path.join(root, SLOTS)).set_aside()
        latch.Latch(os.path.join(root, SLOTS)).write(latch.NONE)
    except (OSError, SlotError) as error:
        return _no("it cannot be forgotten: %s" % error, "see the file that it names")
    log.say("durable state was set aside at an operator's word: %s" % ", ".join(moved))
    print(
        "set aside: %s; the agent begins anew, poolwarden-agent gate status tells what xapi waits for" % " ".join(moved)
    )
    return 0


def _with_way_out(error: Exception) -> str:
    text = str(error)
    return text if FORGET in text else "%s; if you know that no failover is under way: %s" % (text, FORGET)


def _no(why: str, hint: str) -> int:
    print("poolwarden-agent: %s\n  %s" % (why, hint))
    return 1
