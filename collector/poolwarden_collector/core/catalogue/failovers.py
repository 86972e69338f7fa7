"""What is told of a failover: for what it stands still, and how it ended.

Words beside the common ones: ``old`` (the old master), ``candidate``, ``why`` (one sentence), ``step`` (what a person
can do), ``running``, ``there`` (VMs of the old master).
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.model.blockers import Blocker

_UNMANAGED = "the pool cannot be managed until then; {running}; {there}"
_GOES_ON = "when the failover goes on or ends"
_PAST = "when the cool-down after a failover is over; at once: poolwarden acknowledge"


_WAITS = "nothing further: the failover of {old} waits; it goes on by itself when that is over"


def _blocker(blocker: Blocker, title: str, means: str, did: str = _WAITS) -> Message:
    """A failover that stands still: what differs is why, and what that means."""
    return Message(
        blocker.value.lower().replace("_", "-"),
        "critical",
        title,
        "{old}: {why}",
        did,
        "{step}",
        _UNMANAGED,
        means,
        _GOES_ON,
    )


BLOCKERS: dict[Blocker, Message] = {
    Blocker.PAUSED: _blocker(
        Blocker.PAUSED,
        "the failover of {old} waits: the pool is paused",
        "A pause stops every automatic action, a failover under way too.",
    ),
    Blocker.UNAPPROVED: _blocker(
        Blocker.UNAPPROVED,
        "the failover of {old} waits for your yes",
        "In mode ask nothing is promoted without a person's yes.",
    ),
    Blocker.NO_CLAIM: _blocker(
        Blocker.NO_CLAIM,
        "the failover of {old} waits: no member could be prepared",
        "Before a promotion each member stores its number and looks once more for a living master. None could yet.",
    ),
    Blocker.NO_CANDIDATE: _blocker(
        Blocker.NO_CANDIDATE,
        "the failover of {old} waits: no member may become master",
        "Every member has something against it: unheard, an old copy of the database, a full disk.",
    ),
    Blocker.SUPERSEDED_COPY: _blocker(
        Blocker.SUPERSEDED_COPY,
        "the failover of {old} waits: the copies of the database are of an earlier time",
        "Promoting such a copy loses every change since the last change of master.",
    ),
    Blocker.KILL_FORECAST: _blocker(
        Blocker.KILL_FORECAST,
        "the failover of {old} waits: it would kill running VMs",
        "A xapi that starts with a database that does not know a running VM terminates that VM.",
    ),
    Blocker.STALE_DATABASE: _blocker(
        Blocker.STALE_DATABASE,
        "the failover of {old} waits: the newest copy of the database is old",
        "What was changed in the pool since that copy is lost: VMs, disks, snapshots that it does not list.",
    ),
    Blocker.ASSUMPTION: _blocker(
        Blocker.ASSUMPTION,
        "the failover of {old} waits: something that it rests on has failed on a host",
        "What is believed of xapi and dom0 is checked on each host. Where it fails a person says whether to go on.",
    ),
    Blocker.GENERATION: _blocker(
        Blocker.GENERATION,
        "the failover of {old} waits: a copy of the database is newer than anything that was seen",
        "A copy far ahead of the last one that the master was seen with may come from another master.",
    ),
    Blocker.UNSOUND_DATABASE: _blocker(
        Blocker.UNSOUND_DATABASE,
        "the failover of {old} waits: no member has a database that xapi could load",
        "A xapi ends at each start on a database with missing rows. A promotion cannot be taken back.",
    ),
    Blocker.POWER_ON: _blocker(
        Blocker.POWER_ON,
        "master {old} lost, its power reads ON: your yes is needed to switch it off",
        "It may be alive and unreachable. Switching it off ends the VMs that still run there.",
    ),
    Blocker.NEEDS_HUMAN: _blocker(
        Blocker.NEEDS_HUMAN,
        "master {old} lost, promotion waits for you",
        "Without proof that the old master is off, two masters could corrupt disks.",
        "nothing: with two masters disks could be corrupted. It goes on by itself once {old} is proven off",
    ),
    Blocker.NO_MEMBER: _blocker(
        Blocker.NO_MEMBER,
        "master {old} lost: no member can run its fence agent",
        "The fence device is reached through members only, and none of them may run its agent now.",
    ),
    Blocker.NO_WITNESS: _blocker(
        Blocker.NO_WITNESS,
        "the failover of {old} waits: no member answers",
        "Before a promotion a member has to look whether the old master serves.",
    ),
    Blocker.SILENT_MEMBER: _blocker(
        Blocker.SILENT_MEMBER,
        "the failover of {old} waits: a member fell silent during it",
        "That member may serve as master, or may have obeyed an order whose answer was lost.",
    ),
    Blocker.UNASKED_MEMBER: _blocker(
        Blocker.UNASKED_MEMBER,
        "the failover of {old} waits: nobody could ask a silent member for its role",
        "A member that nobody hears may have been made master by hand.",
    ),
    Blocker.ROLE_UNTOLD: _blocker(
        Blocker.ROLE_UNTOLD,
        "the failover of {old} waits: a living host does not tell its role",
        "A host that lives and does not say whether it is master may be one.",
    ),
    Blocker.UNHEARD_MEMBER: _blocker(
        Blocker.UNHEARD_MEMBER,
        "the failover of {old} waits: a member lives and is not heard",
        "What runs on a member that is not heard is not known: a promotion could kill it.",
    ),
    Blocker.LAST_LOOK: _blocker(
        Blocker.LAST_LOOK,
        "the failover of {old} waits: the last look found something",
        "Right before a promotion everybody looks once more. Somebody saw a master, or could not look.",
    ),
    Blocker.NOT_EVERYBODY: _blocker(
        Blocker.NOT_EVERYBODY,
        "the failover waits: not every host has said that it is no master",
        "Where no master is known, every host has to say that it is none before one is promoted.",
    ),
    Blocker.CANNOT_HOLD: _blocker(
        Blocker.CANNOT_HOLD,
        "the failover of {old} waits: its xapi cannot be kept stopped",
        "Its agent is too old to keep its xapi stopped, so a second master could start at any moment.",
    ),
    Blocker.NO_WAY_BACK: _blocker(
        Blocker.NO_WAY_BACK,
        "the failover of {old} waits: its own database would kill VMs when it returns",
        "If the failover fails, the old master has to be startable again without killing its VMs.",
    ),
    Blocker.EVIDENCE_CONFLICT: _blocker(
        Blocker.EVIDENCE_CONFLICT,
        "the failover of {old} waits: witnesses contradict each other",
        "One witness still sees the old master's xapi, or saw it a moment ago.",
    ),
    Blocker.TERM_PASSED: _blocker(
        Blocker.TERM_PASSED,
        "the promotion of {candidate} stands still: it obeys a later change of master",
        "The chosen host has been told something newer than this failover.",
    ),
    Blocker.PROMOTE_REFUSED: _blocker(
        Blocker.PROMOTE_REFUSED,
        "the promotion of {candidate} stands still: its agent refuses",
        "The chosen host says why it may not become master now.",
    ),
    Blocker.NOT_ASKED: _blocker(
        Blocker.NOT_ASKED,
        "the promotion of {candidate} stands still: its xapi cannot be asked",
        "The order to become master is a call to the chosen host's own xapi, which is not there.",
    ),
    Blocker.PROOF_NOT_RENEWED: _blocker(
        Blocker.PROOF_NOT_RENEWED,
        "the promotion of {candidate} stands still: {old} is not proven off any more",
        "A proof is fresh for seconds. It has to be made again right before the order.",
    ),
    Blocker.NEW_MASTER_LOOPS: _blocker(
        Blocker.NEW_MASTER_LOOPS,
        "the new master {candidate} does not stay: its xapi ends and begins again",
        "A master whose xapi ends every few seconds or minutes is no success of a failover. It is not closed as one.",
    ),
    Blocker.UNVERIFIED: _blocker(
        Blocker.UNVERIFIED,
        "the promotion of {candidate} is not verified",
        "The chosen host was told to become master and has not been seen serving. Nobody else is promoted beside it.",
    ),
}

DONE = Message(
    "failover-done",
    "warning",
    "{name} is the new master at {new_address}",
    "{old}; {proof}",
    "promoted {name} in {seconds} s, its database {data}; {back}",
    "connect XenCenter / Xen Orchestra to {new_address}{repair}",
    "{open}",
    "The pool can be managed again, at another address. VMs that ran on the old master have an alert of their own.",
    _PAST,
)
DONE_AND_LOST = Message(
    "failover-done-and-lost-again",
    "critical",
    "{name} became the master and is lost again at {new_address}",
    "{old}; {proof}; and {name}, which became master, is lost again",
    "promoted {name} in {seconds} s, its database {data}; {back}",
    "nothing yet: the loss of {name} is judged anew; poolwarden explain {pool}",
    "{open}",
    "The new master was verified and lost before the failover was closed. Another failover follows by the same rules.",
    _PAST,
)
SUPERSEDED = Message(
    "failover-superseded",
    "warning",
    "another host became master during the failover of {old}",
    "{old}; {why}",
    "ended the failover and promoted nobody",
    "nothing, if that was meant; else look who made it master: poolwarden history {pool}; noted: "
    "poolwarden acknowledge {pool}",
    "{running}",
    "Somebody promoted a host by hand, or the old master came back as one. Poolwarden follows what serves.",
    _PAST,
)
GAVE_UP_THE_ROLE = Message(
    "gave-up-the-role",
    "critical",
    "{name} gave the role of master up again",
    "{old}, whose proof of death turned out to be wrong or outdated: {why}",
    "looks anew who is master; a fence device that was wrong is quarantined",
    "look at {old}: poolwarden explain {pool}; noted: poolwarden acknowledge {pool}",
    "the pool may be unmanaged; {running}",
    "xapi itself has found another master as it became one. A device that proved it off is not believed any more.",
    _PAST,
)
LANDED = Message(
    "switched-off-after-all",
    "critical",
    "{old} was switched off after its failover had ended",
    "{old}, switched off by Poolwarden; lost with it: {lost}",
    "could not recall the power-off that the failover had ordered before it was given up",
    "once no failover decides about it: poolwarden fence on {old}",
    "{old} is off; {running}",
    "An order that was under way was carried out late. The host is off although nobody succeeds it.",
    "when the host is heard in another boot",
)
ALL = (*BLOCKERS.values(), DONE, DONE_AND_LOST, SUPERSEDED, GAVE_UP_THE_ROLE, LANDED)
