"""Who may call what at the operator's interface, and of which pools: one table, asked before every method.

Rules
-----
* safety: what has no row in ``RULES`` is refused, whoever calls. tests/shell/test_operator_access.py walks the
  contract's descriptors, so that a method or command that is added there without a row fails before it is served.
* A caller's rights are those that the configuration gives at this instant (config/operators.py): a reload revokes them,
  for a stream that is open too.
* Pools outside of a caller's are not there for him: they are in no list, in no count, and a name that would be theirs
  is answered as one that nobody has.
* A pool that he may see and do less with is refused with the role that is needed.
* The call that is being served is known to whatever serves it (``current``), and to nothing else: without one there are
  no rights.
* A collector that asks for an operator (on_behalf.py) has no rights by itself. It has the role ``COLLECTOR``: of
  what is in there it is given what that operator may *here*, and never more than what he may where he is connected.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.config.operators import Entry, Role

NOT_RECORDED = "this collector cannot read or write its records now: whoever runs it knows more"
OPERATOR, ENROLMENTS = "poolwarden.v1.Operator", "poolwarden.v1.Enrolments"


class Scope(Enum):
    """What of a method's matter a caller must have the role in."""

    NAMED = "the pool, or the pool of the host, that it names"
    LISTED = "nothing at once: whatever is of other pools is left out"
    WHOLE = "all pools: it shows or touches what is the collector's own"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one method or command needs; ``changes``: it changes, runs or sends something, so each call is recorded."""

    role: Role
    scope: Scope
    changes: bool = False


_SEE, _LIST = Rule(Role.VIEWER, Scope.NAMED), Rule(Role.VIEWER, Scope.LISTED)
_DO = Rule(Role.OPERATOR, Scope.NAMED, changes=True)
_RULE = Rule(Role.ADMIN, Scope.WHOLE, changes=True)

# By the contract's names; a command of ``Operator.Command`` by its field.
RULES: dict[str, Rule] = {
    f"{OPERATOR}/Status": _LIST,
    f"{OPERATOR}/Explain": _SEE,
    f"{OPERATOR}/Readiness": _LIST,
    f"{OPERATOR}/Plan": _SEE,
    f"{OPERATOR}/Advise": _SEE,
    f"{OPERATOR}/History": _LIST,
    f"{OPERATOR}/Follow": _LIST,
    f"{OPERATOR}/Alerts": _LIST,
    f"{OPERATOR}/Decision": _LIST,
    f"{OPERATOR}/Late": _SEE,
    f"{OPERATOR}/ListCapsules": _LIST,
    f"{OPERATOR}/ReadCapsule": _LIST,
    f"{OPERATOR}/Doctor": Rule(Role.VIEWER, Scope.WHOLE),
    # They run programs with a password, and knock at an address that the caller gives.
    f"{OPERATOR}/FindFence": _RULE,
    f"{OPERATOR}/TryFence": _RULE,
    f"{OPERATOR}/TestAlerts": Rule(Role.OPERATOR, Scope.WHOLE, changes=True),
    f"{OPERATOR}/Reload": _RULE,
    f"{OPERATOR}/Audit": Rule(Role.ADMIN, Scope.LISTED),
    f"{OPERATOR}/Collectors": _LIST,
    f"{OPERATOR}/Where": _LIST,
    f"{OPERATOR}/Outcome": _LIST,
    f"{OPERATOR}/Command:pause": _DO,
    f"{OPERATOR}/Command:resume": _DO,
    f"{OPERATOR}/Command:confirm_fenced": _DO,
    f"{OPERATOR}/Command:restart_xapi": _DO,
    f"{OPERATOR}/Command:dry_run": _SEE,
    f"{OPERATOR}/Command:approve": _DO,
    f"{OPERATOR}/Command:deny": _DO,
    f"{OPERATOR}/Command:designate": _DO,
    f"{OPERATOR}/Command:declare_dead": _DO,
    f"{OPERATOR}/Command:start_lost": _DO,
    f"{OPERATOR}/Command:acknowledge": _DO,
    f"{OPERATOR}/Command:failover_to": _DO,
    f"{OPERATOR}/Command:fence": _DO,
    f"{OPERATOR}/Command:release": _DO,
    f"{OPERATOR}/Command:host_enable": _DO,
    f"{OPERATOR}/Command:host_why": _DO,
    f"{OPERATOR}/Command:recover_members": _DO,
    f"{OPERATOR}/Command:drill": _DO,
    f"{OPERATOR}/Command:silence_alert": _DO,
    f"{OPERATOR}/Command:unsilence_alert": _DO,
    f"{OPERATOR}/Command:acknowledge_alert": _DO,
    f"{OPERATOR}/Command:second": _DO,
    f"{OPERATOR}/Command:run_hook": _DO,
    # Which collector guards a pool is no matter of the pool's operators, but its admin may say it.
    f"{OPERATOR}/Command:move": Rule(Role.ADMIN, Scope.NAMED, changes=True),
    f"{OPERATOR}/Command:drain": _RULE,
    # Who may enrol hosts decides what is a host of a pool.
    f"{ENROLMENTS}/Authority": Rule(Role.ADMIN, Scope.WHOLE),
    f"{ENROLMENTS}/CreateToken": _RULE,
    f"{ENROLMENTS}/ListTokens": Rule(Role.ADMIN, Scope.WHOLE),
    f"{ENROLMENTS}/RevokeToken": _RULE,
    f"{ENROLMENTS}/ListKeys": Rule(Role.ADMIN, Scope.WHOLE),
    f"{ENROLMENTS}/DecideKey": _RULE,
    f"{ENROLMENTS}/DenyCertificate": _RULE,
}

# What a collector may ask another one for, in an operator's name.
# safety: closed. Whoever steals a collector's certificate may name any operator; so nothing of what changes who is
# certified, what is configured or which program is run with which password is asked for by way of another collector.
COLLECTOR = frozenset(
    [
        f"{OPERATOR}/{name}"
        for name in ("Status", "Explain", "Readiness", "Plan", "Advise", "History", "Follow", "Alerts")
    ]
    + [f"{OPERATOR}/{name}" for name in ("Decision", "Late", "ListCapsules", "ReadCapsule", "Doctor", "Audit")]
    + [f"{OPERATOR}/{name}" for name in ("Collectors", "Where", "Outcome")]
    + [key for key in RULES if key.startswith(f"{OPERATOR}/Command:")]
)


class Denied(Exception):
    """The caller may not do that; the text is one sentence that names what is needed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a connection, by the kernel's or the certificate's word.

    ``name``: for the journal; ``person``: what stays the same for one person; ``source``: from where, for people.
    ``uid`` is None for a certificate, ``groups`` are those of a user of this machine. ``by``: the collector that asks
    for him (empty: he is there himself); then ``claimed`` is what he may at that one, as it says.
    """

    name: str
    person: str
    source: str
    uid: int | None = None
    groups: tuple[str, ...] = ()
    by: str = ""
    claimed: Rights | None = None
    kind: str = ""  # with ``by``: what he is there, one of KINDS


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do: each grant is a role in all pools (None) or in some."""

    grants: tuple[tuple[Role, frozenset[PoolId] | None], ...]

    def seen(self) -> frozenset[PoolId] | None:
        """The pools that are there for him; None: all."""
        return self.where(Role.VIEWER)

    def where(self, role: Role) -> frozenset[PoolId] | None:
        """The pools in which he has this role or more; None: in all."""
        found: frozenset[PoolId] = frozenset()
        for has, pools in self.grants:
            if has >= role:
                if pools is None:
                    return None
                found |= pools
        return found

    def role_in(self, pool: PoolId) -> Role | None:
        """His highest role in this pool."""
        return max((role for role, pools in self.grants if pools is None or pool in pools), default=None)

    def within(self, bounds: Rights) -> Rights:
        """What both of them give."""
        found = []
        for role, pools in self.grants:
            for most, among in bounds.grants:
                both = pools if among is None else among if pools is None else pools & among
                if both is None or both:
                    found.append((min(role, most), both))
        return Rights(tuple(found))

    @property
    def words(self) -> str:
        """For the record: the roles, the highest first."""
        return " and ".join(role.word for role in sorted({role for role, _ in self.grants}, reverse=True))


EVERYTHING = Rights(((Role.ADMIN, None),))
LOOKING = Rights(((Role.VIEWER, None),))
# What an operator may be where he is connected: the holder of a certificate, a user of that machine, whoever runs that
# machine or its collector, a user of that collector's page.
CERTIFICATE, USER, MACHINE, PAGE = KINDS = ("certificate", "user", "machine", "page")


def rights_of(caller: Caller, entries: tuple[Entry, ...]) -> Rights:
    """What the configuration gives to this caller now."""
    if caller.claimed is not None:
        # safety: no more than he may there, and no more than he may here.
        return _known_here(caller, entries).within(caller.claimed)
    if not entries or is_the_machines(caller):
        return EVERYTHING
    return Rights(tuple((each.role, each.pools) for each in entries if _is_his(each, caller)))


def is_the_machines(caller: Caller) -> bool:
    """root, or the collector's own user, here."""
    return caller.uid is not None and caller.uid in (0, os.geteuid())


def _known_here(caller: Caller, entries: tuple[Entry, ...]) -> Rights:
    """What this configuration gives to somebody who is connected to another collector."""
    if caller.kind == PAGE:
        return LOOKING  # his password is known to that one alone
    if caller.kind == MACHINE or not entries:
        return EVERYTHING  # who runs that machine has its collector's key: he could claim to be anybody
    return Rights(tuple((each.role, each.pools) for each in entries if _is_his(each, caller)))


def _is_his(entry: Entry, caller: Caller) -> bool:
    if caller.uid is None and caller.kind in ("", CERTIFICATE):
        return entry.kind == "name" and entry.who == caller.name
    # safety: a certificate's name and a user of this machine are two things, also where they are spelt alike.
    return (entry.kind == "user" and entry.who == caller.name) or (entry.kind == "group" and entry.who in caller.groups)


def key_of(method: str, request: Any) -> str:
    """The row of this call: its method, and which command it holds where it is one. ``method``: as gRPC gives it."""
    path = method.lstrip("/")
    if path == f"{OPERATOR}/Command":
        return f"{path}:{request.WhichOneof('command') or ''}"
    return path


@dataclass(slots=True)
class Call:
    """One call that is being served. ``pool``: which it was found to be about; ``claim``: who the caller says it is."""

    caller: Caller
    rights: Rights
    rule: Rule
    what: str  # as it is typed or called, for people: "pause", "Reload"
    claim: str = ""
    pool: PoolId = ""
    renew: Callable[[], Rights] | None = None  # what the configuration gives the caller now
    typed: bool = False  # names in its answer are quoted already

    @property
    def among(self) -> frozenset[PoolId] | None:
        """The pools in which the caller has the method's role; None: all."""
        return self.rights.where(self.rule.role)

    @property
    def relayed(self) -> bool:
        """Has another collector asked? Then this one answers for itself alone."""
        return bool(self.caller.by)

    @property
    def scoped(self) -> bool:
        """Is there anything that the caller may not even see?"""
        return self.rights.seen() is not None

    def still(self) -> frozenset[PoolId] | None:
        """``among`` as the configuration is now. Raises Denied where nothing is left of it."""
        if self.renew is not None:
            self.rights = self.renew()
        found = self.among
        if found is not None and not found:
            raise Denied(f"{self.caller.name} has no rights any more: the configuration was changed")
        return found

    def require(self, pool: PoolId) -> None:
        """This call is about this pool. Raises Denied unless the caller has the method's role in it."""
        self.pool = self.pool or pool
        role = self.rights.role_in(pool)
        if role is None or role < self.rule.role:
            raise Denied(_too_little(self.caller, role, self.what, self.rule.role))


def admitted(caller: Caller, rights: Rights, key: str, what: str) -> Call:
    """The call, so far as it can be judged before it is known what it names. Raises Denied."""
    rule = RULES.get(key)
    if rule is None:
        # safety: closed. Nobody has said who may call it, so nobody may.
        raise Denied(f"{what} has no rule that says who may call it")
    if caller.by and key not in COLLECTOR:
        raise Denied(f"{what} is not asked for by way of another collector: ask this one itself (--collector ADDRESS)")
    if not rights.grants:
        raise Denied(f"{caller.name} has no entry in [[operators]] of the collector's configuration, and so no rights")
    where = rights.where(rule.role)
    if where is not None and (not where or rule.scope is Scope.WHOLE):
        most = max(role for role, _ in rights.grants)
        whole = " in all pools" if rule.scope is Scope.WHOLE else ""
        raise Denied(_too_little(caller, most, what, rule.role, whole))
    return Call(caller, rights, rule, what)


def _too_little(caller: Caller, has: Role | None, what: str, needed: Role, where: str = "") -> str:
    is_now = f"is {has.word} {'in some pools' if where else 'here'}" if has is not None else "has no role here"
    return f"{caller.name} {is_now}, and {what} needs the role {needed.word}{where}"


_current: ContextVar[Call] = ContextVar("the operator's call that is being served")


def current() -> Call:
    """The call that is being served here. Raises Denied outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise Denied("nobody is known to have called this") from None


def not_recorded(error: Exception) -> str:
    """Why the records cannot be written, for the caller: the journal's own sentence may name another pool."""
    return NOT_RECORDED if current().scoped else str(error)


@contextlib.contextmanager
def serving(call: Call) -> Iterator[Call]:
    """What runs inside serves this call."""
    token = _current.set(call)
    try:
        yield call
    finally:
        with contextlib.suppress(ValueError):  # a stream that is closed from elsewhere ends in another context
            _current.reset(token)
