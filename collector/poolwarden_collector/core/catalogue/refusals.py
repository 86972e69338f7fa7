"""Every code with which a command is refused, and every code of a reason why something is not done by itself.

A refusal itself has the sentence of its case, with names and numbers, and the next step; these are what the code means
in general. The runbook has them as tables; a test holds them to the codes that the source uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.reasons import Cause


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code means, and what a person does about it."""

    means: str
    step: str


_EXPLAIN = "`poolwarden explain POOL`"
_AGENT = "on that host: `systemctl status poolwarden-agent`"
_AGAIN = "try again in a minute"

# The code that stands in brackets behind a refusal, and in the history under operator-refused.
COMMANDS: dict[str, Meaning] = {
    "abandoned": Meaning(
        "the drill was abandoned; its step that runs comes to its safe end", "wait, or `poolwarden status POOL`"
    ),
    "agent-alive": Meaning("the host's agent is heard, so the host is not dead", _EXPLAIN),
    "agent-silent": Meaning("the host's agent is not heard, so nothing can be ordered or known there", _AGENT),
    "already-paused": Meaning("somebody has paused the pool already", "`poolwarden resume POOL`"),
    "ambiguous": Meaning("two machines say the same number", "bind by your word: `poolwarden fence bind`"),
    "asked-anew": Meaning("what is at stake has changed since that question was put", "read and answer the new one"),
    "bad-duration": Meaning("that is no time that a pause can last", "for example `--for 2h`"),
    "bad-number": Meaning("accepted VMs and ages are whole numbers", "copy the command that the question shows"),
    "busy": Meaning("a switch of that host's power is under way", "`poolwarden fence status HOST`"),
    "cool-down": Meaning("the pool is in the cool-down after a failover", "`poolwarden acknowledge POOL`"),
    "drill-open": Meaning("a drill is open in the pool already", "`poolwarden drill POOL --resume`, or `--abandon`"),
    "enabled": Meaning("the host is enabled already", "nothing"),
    "failover-open": Meaning("the open failover decides about that host", "wait, or `poolwarden status POOL`"),
    "ha-armed": Meaning("xapi's own HA is in charge", "by hand, or `xe pool-ha-disable` first"),
    "held": Meaning("the pool, the host or the collector holds still: paused, held, start-up", _EXPLAIN),
    "host-left": Meaning(
        "the host is no host of the pool any more: nothing reads whether it is off",
        "`poolwarden start-lost POOL --forget`, then `xe vm-start`",
    ),
    "host-unheard": Meaning("a host that could be master is not heard", "start its agent, or confirm that it is off"),
    "is-master": Meaning(
        "a member is drilled, and that host is the master", "name another host, or leave the step out"
    ),
    "master-gone": Meaning("the role is handed over by the serving master, and there is none", _EXPLAIN),
    "master-serves": Meaning("another host serves as master", "`poolwarden release HOST` releases it as a member"),
    "mode-observe": Meaning("in mode observe nothing is ordered", "set the pool's mode to ask or auto"),
    "more-at-stake": Meaning("more is at stake than you accepted", "the command with the new numbers"),
    "name-differs": Meaning("the typed name is not the host's", "type it exactly"),
    "name-not-typed": Meaning("a host is powered off only where its name was typed", "the command, with `--name NAME`"),
    "name-them": Meaning("hosts without an agent run VMs nobody sees", "look there, then name each with `--host`"),
    "needs-force": Meaning("the host is heard, or is the master", "add `--force` if that is meant"),
    "never-heard": Meaning("its agent was never heard: its power proves nothing", "by hand, as the refusal says"),
    "no-candidate": Meaning("no member could become master now", "`poolwarden plan POOL`"),
    "no-cooldown": Meaning("no cool-down runs, and nothing was denied", "nothing"),
    "no-device": Meaning("the host has no fence device", "give it one in collector.toml ([fencing.md](fencing.md))"),
    "no-drill": Meaning("no drill is open in the pool", "`poolwarden drill POOL --plan`"),
    "no-evidence": Meaning("what the answer needs has not been told yet", _AGAIN),
    "no-master": Meaning("no verified master is there to do it", _EXPLAIN),
    "no-member": Meaning("no member can run that device's fence agent", "[fencing.md](fencing.md)"),
    "no-proof": Meaning("nothing proves that the host is off", "`poolwarden fence status HOST`"),
    "no-reading": Meaning("the device gave no reading in time", "`poolwarden fence test HOST`"),
    "no-reason": Meaning("how you made sure is missing", "`--how` with a few words"),
    "no-sync": Meaning("the database cannot be pushed to the members first", _EXPLAIN),
    "nobody-to-drill": Meaning("no member of the pool is heard", "`poolwarden hosts POOL`"),
    "not-attached": Meaning("the host is no attached member", "`poolwarden host show HOST`"),
    "not-declared": Meaning("xapi has not been told that the host is dead", "`poolwarden declare-dead HOST`"),
    "not-healthy": Meaning("a planned change needs a pool in which nothing is the matter", _EXPLAIN),
    "not-held": Meaning("nothing is held there", "`poolwarden host show HOST`"),
    "not-master": Meaning(
        "only the master's power loss is drilled, and that host is none", "`poolwarden drill POOL --abandon`"
    ),
    "not-on": Meaning("the device does not read ON while its host lives", "correct its address or plug"),
    "not-paused": Meaning("the pool is not paused", "nothing"),
    "nothing-asked": Meaning("no question is open", _EXPLAIN),
    "nothing-at-stake": Meaning("what was asked about is gone: it goes on by itself", "nothing"),
    "nothing-lost": Meaning("no VM is on record as lost", "nothing"),
    "nothing-owed": Meaning("no member waits to be told", "`poolwarden status POOL`"),
    "nowhere": Meaning("no host can start these VMs: storage, network, memory", "mend what the refusal names"),
    "one-host": Meaning("a pool of one host has nobody to hand a role to", "nothing"),
    "other-machine": Meaning("the device switches another machine", "correct its address"),
    "other-step": Meaning("another step of the drill is next", "`poolwarden status POOL`"),
    "owed": Meaning("a host still waits for what an earlier change owes it", "`poolwarden status POOL`"),
    "paused": Meaning("the pool is paused", "`poolwarden resume POOL`"),
    "power-on": Meaning("the host's power reads ON", "switch it off, or see what the refusal says"),
    "quarantined": Meaning("the device has said something untrue", "correct it, then bind it again"),
    "question-open": Meaning("an answer of yours is awaited", "`poolwarden status POOL`"),
    "refused": Meaning("that host may not become master", _EXPLAIN),
    "runs-vms": Meaning(
        "VMs run on the host that would be switched off", "evacuate it: `xe host-disable`, `xe host-evacuate`"
    ),
    "shared": Meaning("two hosts' devices are one and the same", "name each blade's own plug"),
    "step-running": Meaning("a step of the drill runs", "wait, or `poolwarden status POOL`"),
    "still-enabled": Meaning(
        "a VM could start on the host that would be switched off", "`xe host-disable` on the master"
    ),
    "survivors": Meaning(
        "too few members would be left to take the master's place", "leave the step out, or start the silent hosts"
    ),
    "sync-under-way": Meaning("the database is being pushed to the members", _AGAIN),
    "tasks": Meaning("xapi is at work, and the step would cut that off", "wait for its end"),
    "too-late": Meaning("the failover does not wait for that answer any more", _EXPLAIN),
    "too-old": Meaning("the agent there cannot do that yet", "install the present agent's package"),
    "unbound": Meaning("the device may switch another machine", "`poolwarden fence status HOST`"),
    "under-way": Meaning("the role is being handed over already", "wait for its end"),
    "unknown-host": Meaning("no host of the pool has that name", "`poolwarden status --all`"),
    "unknown-machine": Meaning("the host's dom0 does not tell its UUID or serial number", "bind by your word"),
    "unknown-verb": Meaning("the collector is older than this command line", "upgrade the collector"),
    "unlike": Meaning("device and dom0 name different machines", "correct the device, or bind by your word"),
    "unsafe": Meaning("it would kill running VMs, or what it would do is not known", _EXPLAIN),
    "untold": Meaning("the device does not tell which machine it switches", "bind by your word"),
    "upgrading": Meaning("a rolling upgrade is under way", "finish it"),
    "which-device": Meaning("the host has several devices", "`--device NAME`"),
    "wrong-host": Meaning("that host is the master, or no host of the pool", "`poolwarden status POOL`"),
    "wrong-question": Meaning("the open question is another one", "read it: `poolwarden status POOL`"),
    "xapi-alive": Meaning("the host's xapi answers, so it is not dead", _EXPLAIN),
}

# The code of a reason: in the keys of alerts, behind incident/refused and the like.
REASONS: dict[Cause, Meaning] = {
    Cause.VERDICT: Meaning("how the pool is permits nothing", _EXPLAIN),
    Cause.WAS_MEMBER: Meaning("the host was a member all the time", "nothing"),
    Cause.PAUSED: Meaning("the pool is paused", "`poolwarden resume POOL`"),
    Cause.STOOD_DOWN: Meaning("another collector guards the pool now", "use that one, or see its alert"),
    Cause.HIGHER_EPOCH: Meaning("an agent obeys a newer collector", "use that one"),
    Cause.QUIET_TIME: Meaning("the collector has just started and looks first", "wait for the seconds it names"),
    Cause.TAKEN_OVER: Meaning(
        "another collector had the pool until just now", "wait for the seconds it names; start agents that it names"
    ),
    Cause.NO_RIGHT: Meaning(
        "etcd does not answer this collector, so nobody is known to act", "bring back etcd: `poolwarden collectors`"
    ),
    Cause.BLIND: Meaning("the collector's own network is down", "mend it"),
    Cause.YOUNG_SITE: Meaning("most pools of the site had another collector until just now", "wait a minute"),
    Cause.OBSERVE: Meaning("mode observe: nothing is done or asked", "set mode ask or auto"),
    Cause.MODE_ASK: Meaning("mode ask: a person decides", "answer the question"),
    Cause.DOUBT: Meaning("the signs may be somebody's work in progress", "finish it, or answer the question"),
    Cause.NO_LIST: Meaning("nobody has told yet which hosts the pool has", "start the master's agent once"),
    Cause.BEHIND: Meaning("the collector lags behind what it hears", "look at load and disk of its machine"),
    Cause.COOLDOWN: Meaning("a failover ended less than an hour ago", "`poolwarden acknowledge POOL`"),
    Cause.JUST_ENDED: Meaning("a failover has just ended without a promotion", "wait"),
    Cause.LANDING: Meaning("an order of before may still be carried out", "wait"),
    Cause.BOOT_GRACE: Meaning("the host was just seen booting", "wait for its time"),
    Cause.SURVIVORS: Meaning("too few hosts are left to see and to take over", "start agents of members"),
    Cause.SERVES: Meaning("a host acts as master", _EXPLAIN),
    Cause.SET_AS_MASTER: Meaning("a host is set to be master at its next start", _EXPLAIN),
    Cause.NOT_HEARD: Meaning("its agent is not heard", _AGENT),
    Cause.INCAPABLE: Meaning("its agent is too old for that", "install the present agent's package"),
    Cause.ROLE: Meaning("its pool.conf does not say what is expected", "`poolwarden host show HOST`"),
    Cause.HA: Meaning("xapi's own HA is armed", "`xe pool-ha-disable`, if Poolwarden is to guard"),
    Cause.HELD_BEFORE: Meaning("its xapi was held a short while ago already", "wait, or look at its xapi"),
    Cause.NO_PROBER: Meaning("nobody is there who could see that its port is closed", "start another host's agent"),
    Cause.WAITING: Meaning("a database file is being read", "wait some seconds"),
    Cause.UNREADABLE: Meaning("a database file cannot be read", "look at /var/lib/xcp/state.db there"),
    Cause.UNSOUND: Meaning("xapi cannot load a database file", "`poolwarden readiness POOL` names it"),
    Cause.DOMAINS: Meaning("which VMs run there is not known", _AGENT),
    Cause.KILLS: Meaning("running VMs would be killed", "shut them down from inside, or move them"),
    Cause.NEWER_COPY: Meaning("a member has a newer copy of the database", _EXPLAIN),
    Cause.FAR_COPY: Meaning("a copy is far ahead of all that was seen", "answer the question"),
    Cause.OLD_COPY: Meaning("the copy is older than is promoted unasked", "answer the question"),
    Cause.BUSY: Meaning("tasks run there that a restart would end", "wait for them, or answer the question"),
    Cause.HELD: Meaning("its xapi is kept stopped", "`poolwarden host show HOST`"),
    Cause.GATE: Meaning("its boot gate waits", _EXPLAIN),
    Cause.NO_ROOM: Meaning("its / is full", "`poolwarden disks POOL`"),
    Cause.IN_VAIN: Meaning("it was tried and did not help", "look at its xapi's log"),
    Cause.POLICY: Meaning("the policy never promotes it", "nothing"),
    Cause.UNLISTED: Meaning("it is no host of the pool any more", "nothing"),
    Cause.NOT_IN_COPIES: Meaning("the copies of the database do not list it", _EXPLAIN),
    Cause.OLD_FACTS: Meaning("what it told is too old", _AGENT),
    Cause.TOMBSTONE: Meaning("it was succeeded and is not attached again", "wait until it is attached"),
    Cause.FOLLOWS_ANOTHER: Meaning("it follows another master", "`poolwarden host show HOST`"),
    Cause.NO_LOOK: Meaning("it does not answer when it is asked to look", _AGENT),
    Cause.NO_COPY: Meaning("it has no readable copy of the database", "`poolwarden host show HOST`"),
    Cause.UPGRADE: Meaning("a rolling upgrade is under way", "finish it"),
    Cause.XAPI: Meaning("its xapi is not well", "`poolwarden host show HOST`"),
    Cause.VERSION: Meaning("it runs another version than the master's", "finish the upgrade"),
    Cause.NO_CLAIM: Meaning("it has not stored the failover's number", _AGENT),
    Cause.BOOTED: Meaning("the old master has booted anew", "it is judged anew by itself"),
    Cause.ALIVE: Meaning("somebody sees the old master alive", _EXPLAIN),
    Cause.ANNOUNCED: Meaning("somebody has announced a change of the pool", "wait until it is over"),
    Cause.QUESTION: Meaning("something else is asked in this pool first", "answer it"),
    Cause.DRILL: Meaning("a drill is open", "`poolwarden drill POOL --resume`, or `--abandon`"),
    Cause.WISH: Meaning("the VM's own record says otherwise", "`poolwarden start-lost POOL --dry-run`"),
    Cause.NOT_SEEN: Meaning(
        "its host is not known to have run the VM", "`poolwarden start-lost POOL`, if it shall run"
    ),
    Cause.NOWHERE: Meaning("no host can take the VM", "`poolwarden start-lost POOL --dry-run` tells why"),
    Cause.IDENTITY: Meaning("two machines say that they are the same host", "switch the second one off"),
    Cause.ANSWER: Meaning("the ordered host has not answered", "wait; it is tried again"),
    Cause.HOPELESS: Meaning("its error does not go away by a restart", "`poolwarden host show HOST`"),
    Cause.LOOPS: Meaning("its xapi ends and begins again", "the end of /var/log/xensource.log there"),
    Cause.BROKEN: Meaning("its pool.conf says broken", "look at /etc/xensource/pool.conf there"),
    Cause.ADDRESS: Meaning("the master's address is not known", _EXPLAIN),
    Cause.UNREACHED: Meaning("it does not reach the master", "look at its network"),
    Cause.ASSUMPTION: Meaning(
        "something that this rests on was seen to be otherwise on that host",
        "`poolwarden host show HOST`; approve, or it ends once it holds there again",
    ),
    Cause.NO_PROOF: Meaning("nothing proves that it is off", "`poolwarden fence status HOST`"),
}
