"""Everything that can happen to a pool, as the core hears it. Timers are events too (Tick)."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts, ProbeOutcome
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.power import PowerReading
from poolwarden_collector.core.model.values import HostId, Ms, PoolId, Role


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; the shell sends one at least every 500 ms."""


@dataclass(frozen=True, slots=True)
class AgentConnected:
    """An agent opened a stream (certificate and Hello agreed); a higher stream number replaces a lower one.

    ``at``: when its Hello arrived, ``None`` with the step's own instant.
    """

    stream: int
    hello: Hello
    at: Ms | None = None


@dataclass(frozen=True, slots=True)
class AgentReported:
    """A report, deltas merged by the gateway; ``at``: when it arrived, ``None`` with the step's own instant."""

    host: HostId
    stream: int
    facts: HostFacts
    at: Ms | None = None


@dataclass(frozen=True, slots=True)
class AgentGone:
    """A stream ended. ``goodbye`` names the reason only if the agent said one; an end alone is not a goodbye."""

    host: HostId
    stream: int
    goodbye: str = ""


@dataclass(frozen=True, slots=True)
class EpochAcknowledged:
    """An agent's host has this epoch durable, and refuses orders of a lower one from now on."""

    host: HostId
    stream: int
    epoch: int


@dataclass(frozen=True, slots=True)
class OrderAnswered:
    """An agent's result for an order."""

    host: HostId
    stream: int
    result: OrderOutcome


@dataclass(frozen=True, slots=True)
class ChallengeAnswered:
    """The host side of an agent echoed a nonce: that host's dom0 lives now."""

    host: HostId
    nonce: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class PowerRead:
    """A fence device's ``status`` run ended (or hit its hard limit: UNKNOWN)."""

    host: HostId
    run_id: str
    reading: PowerReading


@dataclass(frozen=True, slots=True)
class FenceEnded:
    """A fence device's ``off`` run ended; ``claim`` is only its word, ``certain`` is false if it was cut off.

    Not ``begun``: its agent never ran (the device was busy, or is missing); nothing of it can land.
    """

    host: HostId
    run_id: str
    claim: bool
    certain: bool
    text: str
    ended_at: Ms
    begun: bool = True


@dataclass(frozen=True, slots=True)
class CollectorProbed:
    """The collector's own probe of a host's xapi ended."""

    host: HostId
    outcome: ProbeOutcome
    at: Ms
    text: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class HostElsewhere:
    """A Hello was refused: a host on record in this pool says that it belongs to another one (``claims``)."""

    host: HostId
    name: str
    claims: PoolId


@dataclass(frozen=True, slots=True)
class HostRefused:
    """A message of a host on record was refused when it arrived, and its stream ended: it claims what cannot be.

    ``over_budget``: nothing is wrong with what it says, it is more than one host may send (shell/agents/budgets.py).
    """

    host: HostId
    why: str
    over_budget: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseTransferred:
    """A HandOver ended; ``placed`` is False with the reason in ``text`` (also where the copy was not newer)."""

    transfer_id: str
    source: HostId
    target: HostId
    placed: bool
    generation: int
    size: int
    sha256: str
    text: str


@dataclass(frozen=True, slots=True)
class GateAsked:
    """A host that found ``pool.conf`` at boot as given asks whether its xapi may start as master."""

    host: HostId
    stream: int
    boot_id: str
    pool_conf: Role
    master_address: str = ""


@dataclass(frozen=True, slots=True)
class OperatorSaid:
    """An operator's command; the verbs are those of commands.py."""

    request_id: str
    actor: str
    verb: str
    host: HostId = ""
    args: tuple[tuple[str, str], ...] = ()

    def arg(self, name: str) -> str:
        """The argument's value, empty if it was not given."""
        return dict(self.args).get(name, "")


Event = (
    Tick
    | AgentConnected
    | AgentReported
    | AgentGone
    | OrderAnswered
    | ChallengeAnswered
    | EpochAcknowledged
    | PowerRead
    | FenceEnded
    | CollectorProbed
    | HostElsewhere
    | HostRefused
    | DatabaseTransferred
    | GateAsked
    | OperatorSaid
)
