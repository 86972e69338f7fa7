"""What this host accepts at all, whoever orders it: the rules of its own policy.conf. Pure.

They come after the order gate: what passes here has the right pool, host, boot, numbers and time already, and where an
order key is pinned it was signed. So they are what still stands where the collector itself was taken over.

Rules
-----
* A denied kind is refused, always.
* A fence agent is run for others only where the policy says so.
* An address that is followed or probed is one of a host of this pool by this host's own database, or what is signed
  with the pinned order key names a host of that database whose address it is (it may have another one by now); the
  latter not where the policy says "database". Where that database cannot be read, what was last read of it counts;
  where nothing was, no address does.
* A database is placed without a person only if its checksum is named, its generation is above this host's own file and
  not further above it than the window; else only with an operator's approval in a signed order. Its bytes must parse
  and be of this pool, approval or not: that is looked at when they are here (dom0/xapi/database_transfer.py).
* In an hour at most so many orders that change role, pool.conf, power or xapi. What is begun counts, whatever its id:
  one that comes back after another order of its kind is another act. Only the one that was begun last, sent again, is
  not counted (``again``). What ends a hold, marks a superseded master, raises a term, removes a placed file or opens a
  boot gate is never limited: it is what makes a pool safe again.
* At most so many targets are probed, on the ports of a xapi alone.
"""

from typing import NamedTuple, Optional, Tuple

from poolwarden_agent.core.addresses import same
from poolwarden_agent.core.kind_rules import Refuse
from poolwarden_agent.core.orders import (
    AS_MEMBER,
    Claim,
    DesignateMaster,
    FenceProxy,
    Order,
    PlaceDatabase,
    ProbeNow,
    Promote,
    RecoverMembers,
    Repoint,
    RestartXapi,
    Target,
    ToolstackFence,
    ToolstackRelease,
)

LOCAL_POLICY, TOO_MANY = "local-policy", "too-many"
HOUR_MS = 3600000
PORTS = (80, 443)
UNATTENDED, APPROVED, NEVER = "unattended", "approved", "never"
DATABASE = "database"  # known, whatever is signed
KNOWN_ALONE, ANY = "known", "any"  # any: for a port without a policy.conf, and by a person's choice
COUNTED = (Promote, Repoint, RestartXapi, ToolstackFence, DesignateMaster, RecoverMembers)
POWER = ("off", "on", "reboot", "cycle")

Hosts = Tuple[Tuple[str, str], ...]  # (UUID, address) of every host of a database


class LocalPolicy(NamedTuple):
    """The settings of policy.conf; each default is the safe one."""

    deny: Tuple[str, ...] = ()  # kinds of orders
    fence_proxy: bool = False
    addresses: str = KNOWN_ALONE
    place_database: str = UNATTENDED
    generation_window: int = 1000000  # a busy pool's writes of a day (some ten a second, each adds one)
    orders_per_hour: int = 10
    probe_targets: int = 128


class Known(NamedTuple):
    """What the rules are held against: the hosts of this host's own database (None: never read), its file's
    generation, when on this clock orders were counted in the last hour, and whether this order was begun here last.
    """

    hosts: Optional[Hosts]
    generation: int
    counted: Tuple[int, ...]
    mono_ms: int
    again: bool = False


def refusal(policy: LocalPolicy, order: Order, known: Known) -> Optional[Refuse]:
    """Why this host does not do that; None: it may be done. Total over the kinds."""
    why = _denied(policy, order) or _addresses(policy, order, known.hosts) or _placing(policy, order, known.generation)
    if why:
        return Refuse(LOCAL_POLICY, why)
    # safety: not by its id, which is the collector's word: two ids in turn would be acts without an end.
    if counts(order) and not known.again and len(recent(known.counted, known.mono_ms)) >= policy.orders_per_hour:
        text = "orders_per_hour = %d: so many orders of this kind were carried out here within the last hour"
        return Refuse(TOO_MANY, text % policy.orders_per_hour)
    return None


def counts(order: Order) -> bool:
    """Does this order change role, pool.conf, power or xapi, in a way that is limited?"""
    body = order.body
    return isinstance(body, COUNTED) or (isinstance(body, FenceProxy) and body.action in POWER)


def recent(counted: Tuple[int, ...], mono_ms: int) -> Tuple[int, ...]:
    """Those of the last hour."""
    return tuple(each for each in counted if mono_ms - each < HOUR_MS)


def with_order(counted: Tuple[int, ...], order: Order, mono_ms: int, again: bool = False) -> Tuple[int, ...]:
    """The orders of the last hour and this one, if it counts and was not begun here last."""
    kept = recent(counted, mono_ms)
    return kept + (mono_ms,) if counts(order) and not again else kept


def accepted_targets(
    policy: LocalPolicy, targets: Tuple[Target, ...], hosts: Optional[Hosts], signed: bool
) -> Tuple[Target, ...]:
    """Those of a collector's settings that may be probed."""
    fine = tuple(each for each in targets if not _target(policy, each, hosts, signed))
    return fine[: policy.probe_targets]


def _denied(policy: LocalPolicy, order: Order) -> str:
    if order.kind in policy.deny:
        return "deny: %s is not accepted here" % order.kind
    if isinstance(order.body, FenceProxy) and not policy.fence_proxy:
        return "fence_proxy = no: no fence agent is run here for another host"
    return ""


def _addresses(policy: LocalPolicy, order: Order, hosts: Optional[Hosts]) -> str:
    body = order.body
    if isinstance(body, Claim):
        return _target(policy, body.old_master, hosts, order.signed) if body.old_master.address else ""
    if isinstance(body, ProbeNow):
        return _targets(policy, tuple(body.targets) + tuple(body.ask_role), hosts, order.signed)
    followed = _followed(body)
    return unknown(policy, followed, hosts, order.signed) if followed is not None and followed.address else ""


def _followed(body: object) -> Optional[Target]:
    """Whom this order makes the host follow, or ask before another is switched off."""
    if isinstance(body, Repoint):
        return Target(body.master, body.address, 0)
    if isinstance(body, ToolstackRelease) and body.release_as == AS_MEMBER:
        return Target(body.master, body.address, 0)
    if isinstance(body, FenceProxy):
        return Target(body.host, body.target_address, 0)
    return None


def _targets(policy: LocalPolicy, targets: Tuple[Target, ...], hosts: Optional[Hosts], signed: bool) -> str:
    if len(targets) > policy.probe_targets:
        return "probe_targets = %d: it names %d" % (policy.probe_targets, len(targets))
    return next((why for why in (_target(policy, each, hosts, signed) for each in targets) if why), "")


def _target(policy: LocalPolicy, target: Target, hosts: Optional[Hosts], signed: bool) -> str:
    if target.port not in (0,) + PORTS:
        return "TCP port %d is none of a xapi: 80 and 443 are" % target.port
    return unknown(policy, target, hosts, signed)


def unknown(policy: LocalPolicy, target: Target, hosts: Optional[Hosts], signed: bool) -> str:
    """Why this address is nobody's of this pool, in words; empty: it is, or the policy does not ask."""
    if policy.addresses == ANY:
        return ""
    if hosts is None:
        return "addresses = known: this host's own database cannot be read, so that %.60s is unknown" % target.address
    named = signed and policy.addresses != DATABASE
    # safety: whoever holds the collector could make hosts follow, or speak with, any machine that it likes.
    for uuid, address in hosts:
        if (named and target.host and uuid == target.host) or same(address, target.address):
            return ""
    return "addresses = known: %.60s is of no host of this pool by this host's own database" % target.address


def _placing(policy: LocalPolicy, order: Order, generation: int) -> str:
    body = order.body
    if not isinstance(body, PlaceDatabase) or body.piece.remove:
        return ""
    if policy.place_database == NEVER:
        return "place_database = never"
    # safety: unsigned, an approval is the word of whoever reaches this host's stream.
    if (order.signed and order.approved_by) or policy.place_database == ANY:
        return ""
    if policy.place_database == APPROVED:
        return "place_database = approved: no operator has approved it"
    ahead = body.piece.generation - generation
    if not body.piece.sha256:
        return "place_database = unattended: the order names no checksum, and no operator has approved it"
    if not 0 < ahead <= policy.generation_window:
        text = "place_database = unattended: generation %d is not above this host's %d by 1 to %d, and no operator has"
        return (text + " approved it") % (body.piece.generation, generation, policy.generation_window)
    return ""
