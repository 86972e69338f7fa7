"""What may be asked of an operator, and what is told where nothing is done and no yes would help."""

from __future__ import annotations

from enum import Enum


class Ask(Enum):
    """What may be asked; the value is the word for it."""

    SHOOT = "shoot"  # power a machine off that reads ON
    KILL = "kill"  # go on although running VMs would be terminated
    STALE = "stale"  # go on although the newest copy of the database is old
    FAILOVER = "failover"  # fail over, where mode or cool-down hold it
    TOOLSTACK = "toolstack"  # hold the master's toolstack and promote another, where mode or cool-down hold it
    RESTART = "restart"  # restart the master's xapi
    OTHER_COPY = "other-copy"  # start a master that does not come up on its database with a member's older copy
    ASSUMPTION = "assumption"  # promote although what that rests on has failed on one of these hosts
    GENERATION = "generation"  # promote a copy that is far ahead of the last one that the master was seen with
    UNSOUND = "unsound"  # promote a copy of the database that xapi cannot load, as far as its agent sees
    UNHEARD = "unheard"  # go on although members are alive whose agents are not heard
    REPAIR = "repair"  # repoint a member or restart its xapi
    RECOVER = "recover"  # have the new master tell members that have no agent


OF_MEMBERS = (Ask.REPAIR, Ask.RECOVER)
"""Questions about members of a master that serves; the master's own matters go before them."""


class Tell(Enum):
    """What is told where nothing is done and no yes would help; the value is the word for it."""

    VANISHED = "vanished"  # the master has vanished, and nothing may begin
    NO_MASTER = "no-master"  # nobody is master, and nobody may be promoted
    SPLIT = "split"  # the master is cut off from its members, and may not be relocated
    XAPI = "xapi"  # the master's xapi does not answer, and neither restart nor succession may begin
