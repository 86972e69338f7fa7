"""What is asked of a person, and what is told where nothing is done and no yes would help.

Words of a question beside the common ones: ``name`` (the host that it is about), ``what`` (its sentence), ``answers``
(the commands), ``stakes``. Of a refusal: ``heading``, ``why``, ``step``, ``there``.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.model.asks import Ask, Tell

_ANSWERED = "when it is answered, or when its ground is gone"


def _question(id: str, title: str, means: str, severity: str = "critical") -> Message:
    return Message(
        id,
        severity,
        title,
        "{what}",
        "nothing yet: it waits for your answer",
        "{answers}",
        "{stakes}; {running}",
        means,
        _ANSWERED,
    )


QUESTIONS: dict[Ask, Message] = {
    Ask.SHOOT: _question(
        "asked-to-power-off",
        "master {name} has vanished and its power reads ON: power it off?",
        "The master is silent and may be alive: a network that is cut looks the same. Yes switches the machine off, "
        "which ends the VMs that still run there, and then promotes another host. No leaves it as it is. Look at the "
        "machine's console first if you can.",
    ),
    Ask.KILL: _question(
        "asked-to-kill-vms",
        "promote {name} although running VMs would be killed?",
        "The database of the only host that can be promoted does not know these running VMs, or has them elsewhere: "
        "its xapi would end them as it starts. Shut them down from inside or move them first, and the question goes "
        "away. A yes covers the VMs that it names and no others.",
    ),
    Ask.STALE: _question(
        "asked-to-lose-changes",
        "promote {name} although its database is old?",
        "What was changed in the pool since that copy was made is lost: new VMs, disks, snapshots. Their data on the "
        "storage stays, but the pool does not list it. A yes covers the age that it names.",
    ),
    Ask.FAILOVER: _question(
        "asked-to-fail-over",
        "master {name} does not serve: promote another host?",
        "The pool's mode is ask, or a failover ended less than an hour ago, so the next one is yours to allow. Proof "
        "that the old master is off is needed all the same.",
    ),
    Ask.TOOLSTACK: _question(
        "asked-to-relocate",
        "master {name} does not serve: hold its toolstack and promote another host?",
        "The old master lives, and its xapi does not serve. Yes stops that xapi and keeps it stopped, then promotes "
        "another host with its database. Its VMs run on; it returns as a member.",
    ),
    Ask.GENERATION: _question(
        "asked-to-believe-a-copy",
        "promote {name} although its database is far ahead of the last that was seen?",
        "The newest copy claims far more changes than a pool can have made since its master was last heard. It may be "
        "right, or of another pool or another time. Look at it there before you say yes: everybody loads that copy.",
    ),
    Ask.UNSOUND: _question(
        "asked-to-promote-an-unsound-copy",
        "promote {name} although xapi may not load its database?",
        "No member has a copy of the database that is known to be whole: rows are missing, or the file is broken. On "
        "such a file xapi ends at each start, and a promotion cannot be taken back. Put a whole state.db in its place "
        "on a member, its xapi stopped, and the question goes away. A yes covers the copy that it names.",
    ),
    Ask.ASSUMPTION: _question(
        "asked-despite-a-failed-assumption",
        "go on with the failover although something that it rests on has failed on {name}?",
        "Poolwarden checks on each host what it believes of xapi and dom0. Something that a promotion rests on was "
        "seen to be otherwise there, so it may not go as it should. Look at the host and at what was seen (poolwarden "
        "host show); yes has it done all the same, and everything else is looked at again.",
    ),
    Ask.UNHEARD: _question(
        "asked-beside-unheard-members",
        "master {name} has vanished, and members are alive that are not heard: promote another host?",
        "Which VMs run on a member whose agent is silent is not known: a promotion could kill them. Start the agent "
        "there, and the question goes away: systemctl start poolwarden-agent.",
    ),
    Ask.RESTART: _question(
        "asked-to-restart-xapi",
        "the xapi of master {name} does not answer: restart it?",
        "A restart of xapi mostly helps and leaves VMs alone. Here something stands against doing it unasked: the "
        "pool's mode is ask, or it would cost the running VMs or tasks that the question names.",
    ),
    Ask.OTHER_COPY: _question(
        "asked-to-start-with-another-copy",
        "master {name} does not come up on its database: start it with another member's copy?",
        "Each xapi of the master ends before it serves, and nobody may succeed it. Yes holds it stopped, carries the "
        "copy that the question names there, and starts it with that: what was changed in the pool since that copy is "
        "lost. Its VMs run on, but for those that the question names. Keep a copy of its state.db first if you want to "
        "look into it.",
    ),
    Ask.REPAIR: _question(
        "asked-to-repair-a-member",
        "{name} is detached: repair it?",
        "The member does not follow the master. Pointing it there restarts its xapi; its VMs run on, but for those "
        "that the question names.",
    ),
    Ask.RECOVER: _question(
        "asked-to-tell-members",
        "members without an agent follow a master that was succeeded: have {name} tell them?",
        "Hosts without an agent are told by the new master's xapi (pool.recover_slaves). It makes a member of whoever "
        "answers; VMs there that its database does not know are killed.",
    ),
}


def _refusal(id: str, means: str) -> Message:
    """Nothing may be begun and nothing can be asked: {heading} is the title, {why} the reason."""
    return Message(
        id,
        "critical",
        "{heading}",
        "{heading}",
        "nothing: {why}",
        "{step}",
        "the pool cannot be managed; {running}; {there}",
        means,
        "when that reason is gone or the pool is Healthy",
    )


REFUSALS: dict[Tell, Message] = {
    Tell.VANISHED: _refusal(
        "lost-and-nothing-begun",
        "The master is lost, and something stands against a failover that no yes of a person would remove. The alert "
        "says what, and what ends it.",
    ),
    Tell.NO_MASTER: _refusal(
        "no-master-and-nobody-promoted",
        "No host is master. One is promoted only when every host of the pool has said that it is none, or is proven "
        "off. The alert says who is missing.",
    ),
    Tell.SPLIT: _refusal(
        "split-and-not-relocated",
        "The master lives and its members do not reach it. Mend the network; the role is moved only where the pool's "
        "policy wants that and nothing stands against it.",
    ),
    Tell.XAPI: _refusal(
        "xapi-down-and-not-restarted",
        "The master's xapi does not answer, and neither a restart nor a change of master is safe now. The alert says "
        "what stands against it. VMs run on.",
    ),
}
ALL = (*QUESTIONS.values(), *REFUSALS.values())
