"""What a step asks of the shell: orders on their way, readings and switchings of power, answers, alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from poolwarden_collector.core.model.orders import Approval, Order, Target
from poolwarden_collector.core.model.values import HostId, PoolId


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Send an order on the host's present stream; dropped by the shell if there is none."""

    order: Order


@dataclass(frozen=True, slots=True)
class SendChallenge:
    """Send a nonce on the host's present stream."""

    host: HostId
    nonce: str


@dataclass(frozen=True, slots=True)
class SendSettings:
    """Tell an agent what to probe and whether the pool's view is wanted."""

    host: HostId
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Through:
    """The member whose agent runs a device's fence agent: its boot, the term that binds the order.

    ``ha_off``: not if xapi's HA is armed there by then.
    """

    host: HostId
    name: str  # for people
    boot_id: str
    term: int
    ha_off: bool = False


@dataclass(frozen=True, slots=True)
class Unable:
    """No member can run it now, in one sentence; ``allowed``: not for want of an entry in somebody's agent.conf."""

    why: str
    allowed: bool


By = Through | Unable | None  # None: the collector itself


class Urgency(IntEnum):
    """What waits for a run of a fence device, the most urgent first."""

    PROOF = 0  # a proof that lacks this one reading, or a power switch
    FAILOVER = 1  # a failover that is open, or a shutdown that was ordered
    SUSPICION = 2  # a host that has fallen silent
    ROUTINE = 3  # nothing: the device is looked at, as each day


@dataclass(frozen=True, slots=True)
class ReadPower:
    """Run a fence device's ``status``; answered by a PowerRead event with the same run id.

    ``identify``: ask the device itself first which machine it switches. ``monitor``: run its ``monitor``, too.
    ``by``: who runs it; where nobody can, the answer says so.
    """

    host: HostId
    device: str
    run_id: str
    identify: bool = False
    monitor: bool = False
    by: By = None
    urgency: Urgency = Urgency.SUSPICION


@dataclass(frozen=True, slots=True)
class Hasten:
    """A reading that was ordered for no hurry is waited for now: it goes before others, and without its ``monitor``.

    Nothing where it has been begun or has ended.
    """

    run_id: str
    urgency: Urgency


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Run a fence device's ``off``; answered by a FenceEnded event with the same run id. Never ``reboot``.

    ``valid_until``: not begun after this instant (collector's clock, ms), because what it was decided on is too old
    then; 0: a few seconds. ``address``: a member that runs it probes this xapi once more, and does not if it answers.
    ``decided_at``: when its step was made, ms on a clock that goes on while the collector's machine sleeps; the loop
    puts it in, 0: it has not.
    """

    host: HostId
    device: str
    run_id: str
    by: By = None
    valid_until: int = 0
    address: str = ""
    decided_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Recall:
    """Keep a power-off from happening, as far as that can be: one that waits is dropped, one that runs is killed.

    Answered by that run's FenceEnded: *not begun* is certain; of one that was killed nobody knows what it did.
    """

    host: HostId
    run_id: str


@dataclass(frozen=True, slots=True)
class PowerOn:
    """Run a fence device's ``on``; answered by a FenceEnded event with the same run id. ``decided_at``: as an off's."""

    host: HostId
    device: str
    run_id: str
    by: By = None
    decided_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ProbeFromCollector:
    """Set what the collector itself probes in this pool; empty address: nothing."""

    pool: PoolId
    target: Target


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer an operator's command."""

    request_id: str
    accepted: bool
    text: str
    code: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class RaiseEpoch:
    """An agent has seen a higher epoch, during start-up or as a person has taken note: this collector's must exceed
    it. It ends a stand-down in that pool.
    """

    above: int


@dataclass(frozen=True, slots=True)
class StandDown:
    """An agent obeys another collector: this one does nothing more in its pool, until a person says that it stays."""

    why: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Carry the database of ``source`` to ``target`` (place_database there), answered by a DatabaseTransferred event.

    The shell moves the pieces, at most ``max_bytes`` in all, verifies the checksum and keeps every piece's order within
    ``term``; nothing is placed unless the whole arrived and its generation is higher than ``above``.
    """

    transfer_id: str
    source: HostId
    target: HostId
    source_boot: str
    target_boot: str
    term: int
    above: int
    max_bytes: int
    limit_ms: int
    held_master: bool = False  # ``target`` is a held master, not a member that is to be promoted
    approval: Approval | None = None  # the operator's word that it rests on; None: nobody was asked


@dataclass(frozen=True, slots=True)
class AnswerGate:
    """The collector's word on a host's boot gate; ``decision`` is open, shut or wait."""

    host: HostId
    boot_id: str
    decision: str
    reason: str
    term: int
    successor: HostId = ""
    successor_address: str = ""


Effect = (
    SendOrder
    | SendChallenge
    | SendSettings
    | ReadPower
    | Hasten
    | PowerOff
    | PowerOn
    | Recall
    | ProbeFromCollector
    | Reply
    | RaiseEpoch
    | StandDown
    | HandOver
    | AnswerGate
)


@dataclass(frozen=True, slots=True)
class AlertRaised:
    """An alert, stored with the entries of its step; ``key`` is stable over restarts and deliveries."""

    key: str
    severity: str
    title: str
    body: str
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertResolved:
    """The matter of an alert is over."""

    key: str
    text: str
