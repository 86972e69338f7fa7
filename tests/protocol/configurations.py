"""Which worlds are explored to the end, and which rules are taken away in which of them.

Rules
-----
* A configuration is exhausted or it fails; ``LONG`` holds those that take minutes.
* A removal is one rule, or several of which each is covered by another: then every smaller set in ``covered`` is shown
  to be safe in the same configuration, so that nobody has to believe which rule covers which.
* The bounds (how often the environment may do a thing) are part of each claim, and the report prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .world import Left, Rule, Setting

TWO = Setting("two hosts", 2, 2, Left(offs=2, crashes=1, full_disks=1))
TWO_AGENT = Setting("two hosts, agents die", 2, 1, Left(offs=2, crashes=2, agent_crashes=1))
TWO_MISREAD = Setting("two hosts, a device errs once", 2, 1, Left(offs=2, crashes=1, misreadings=1))
TWO_LIES = Setting("two hosts, a device lies", 2, 1, Left(offs=1, misreadings=2))
TWO_SECOND = Setting("two hosts, second collector", 2, 1, Left(offs=1, crashes=1), second=True)
TWO_SECOND_AGAIN = Setting("two hosts, second collector, two failovers", 2, 2, Left(offs=1), second=True)
THREE = Setting("three hosts", 3, 1, Left(offs=2, crashes=1))
THREE_AGAIN = Setting("three hosts, two failovers", 3, 2, Left(offs=1, crashes=1, agent_crashes=1))
THREE_HAND = Setting("three hosts, one promoted by hand", 3, 1, Left(offs=1, crashes=1, agent_crashes=1, by_hand=1))
THREE_SECOND = Setting("three hosts, second collector", 3, 1, Left(offs=1), second=True)

SHORT = (
    TWO,
    TWO_AGENT,
    TWO_MISREAD,
    TWO_LIES,
    TWO_SECOND,
    TWO_SECOND_AGAIN,
    THREE,
    THREE_AGAIN,
    THREE_HAND,
    THREE_SECOND,
)
LONG = (
    replace(TWO, name="two hosts, everything", left=Left(offs=3, crashes=1, agent_crashes=1, full_disks=1)),
    replace(TWO_SECOND, name="two hosts, second collector, more outages", left=Left(offs=2, crashes=1)),
    replace(THREE, name="three hosts, two failovers, more outages", failovers=2),
    replace(THREE_SECOND, name="three hosts, second collector, a crash", left=Left(offs=1, crashes=1)),
)

_TWO = Setting("two hosts", 2, 1, Left(offs=1, crashes=1))
_TWO_AGENT = Setting("two hosts, agents die", 2, 1, Left(offs=2, crashes=1, agent_crashes=1))
_MISREAD = Setting("two hosts, a device errs once", 2, 1, Left(offs=1, misreadings=1))
_LIES = Setting("two hosts, a device lies", 2, 1, Left(misreadings=2))
_SECOND = Setting("two hosts, second collector", 2, 1, Left(offs=1), second=True)
_SECOND_OUT = Setting("two hosts, second collector", 2, 1, Left(offs=2), second=True)
_THREE = Setting("three hosts", 3, 1, Left(offs=1, crashes=1))
_HAND = Setting("three hosts, one promoted by hand", 3, 1, Left(offs=1, by_hand=1))


@dataclass(frozen=True)
class Removal:
    """Rules that are taken away together, where, which property breaks first, and which sets alone break nothing."""

    rules: tuple[Rule, ...]
    where: Setting
    breaks: str
    two_masters_in: Setting | None = None  # where the same removal ends in two masters, if not at once
    covered: tuple[tuple[Rule, ...], ...] = ()
    only: str = ""  # look at this property alone

    @property
    def name(self) -> str:
        return " + ".join(rule.name for rule in self.rules)

    def setting(self, *rules: Rule) -> Setting:
        """The configuration without these rules, without all of them if none is named."""
        return replace(self.where, without=frozenset(rules or self.rules))


R = Rule
REMOVALS = (
    Removal((R.INTENT_FIRST,), _TWO, "I6", _THREE),
    Removal((R.DURABLE,), _TWO, "I1"),
    Removal((R.REVERIFY,), _TWO, "I1"),
    Removal((R.SECOND_READING,), _MISREAD, "I1"),
    Removal((R.LAST_LOOK,), _LIES, "I1"),
    Removal((R.ROLE_VETO,), _SECOND, "I1"),
    Removal((R.CLAIM_STORES,), _HAND, "I16", _HAND),
    Removal((R.NEW_TERM,), _HAND, "I16", _HAND),
    Removal((R.NEVER_BEGAN,), _TWO, "I1"),
    Removal((R.ONE_CANDIDATE,), _TWO, "I1"),
    Removal((R.TERM_CHECK,), _HAND, "I16", _HAND),
    Removal((R.EPOCH_CHECK,), _SECOND, "I16", _SECOND),
    Removal((R.UNIQUE_EPOCHS,), _SECOND, "I1"),
    Removal((R.OWN_IDS,), _SECOND_OUT, "I14"),
    Removal((R.EXPIRY,), _TWO, "I1"),
    Removal((R.PRECONDITION,), _HAND, "I1"),
    Removal((R.BOOT_GATE,), _TWO, "I1"),
    Removal((R.TOMBSTONE_GATE,), TWO, "I1"),
    # Rules that another one covers.
    Removal((R.STARTED_MARK, R.PRECONDITION), _TWO_AGENT, "I14", covered=((R.STARTED_MARK,), (R.PRECONDITION,))),
    Removal((R.SAME_ID,), _TWO, "I1"),  # an order of another id is not known to be on its way when it is given up
    Removal((R.SAME_ID, R.PRECONDITION), _TWO, "I14", covered=((R.PRECONDITION,),)),
    Removal((R.GATE_INTENT, R.ROLE_VETO), _TWO, "I1", covered=((R.GATE_INTENT,), (R.ROLE_VETO,))),
    Removal((R.BOOT_CHECK, R.EXPIRY), _TWO_AGENT, "I16", covered=((R.BOOT_CHECK,), (R.EXPIRY,)), only="I16"),
    Removal(
        (R.REPLAY, R.STARTED_MARK, R.PRECONDITION),
        _TWO,
        "I14",
        covered=((R.REPLAY, R.STARTED_MARK), (R.REPLAY, R.PRECONDITION)),
    ),
    # Asking first spares a useless order; what it prevents, the gate prevents as well.
    Removal(
        (R.ASK_FIRST, R.SAME_ID, R.REPLAY, R.STARTED_MARK, R.PRECONDITION),
        _TWO_AGENT,
        "I14",
        covered=((R.ASK_FIRST, R.REPLAY, R.STARTED_MARK), (R.ASK_FIRST, R.PRECONDITION)),
    ),
)
