"""What a sink is: it delivers one parcel to one channel, or raises SinkError. Each kind is a module of ``channels``.

Rules
-----
* A sink says that a parcel is taken only when its peer has said so, as far as the channel's protocol knows an answer.
* It ends by itself within a fixed time, whatever the peer does: a channel that hangs must be tried again.
* It follows no redirect and uses no proxy of the environment: tokens would go where nobody sent them.
* No address and no secret is part of an error.
* Delivery is at least once: what a peer is given to recognise a repetition by is the same for each attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from poolwarden_collector.shell.store.journal import Parcel


class SinkError(Exception):
    """The parcel was not taken; one line that says why."""


class Sink(Protocol):
    """Takes one parcel; called in a thread.

    ``parcel.payload["state"]`` is "firing" or "resolved". Its title and body are complete for a person: they say by
    themselves what else a message is (a reminder, many alerts in one, a test), so a sink treats all alike.
    """

    name: str

    def deliver(self, parcel: Parcel) -> None: ...


@runtime_checkable
class Refreshing(Protocol):
    """A sink whose receiver forgets what it is not told again, as Alertmanager does after ``endsAt``.

    The outbox calls ``refresh`` every ``refresh_every_s`` seconds, the first time right after the start, in the
    thread in which it calls ``deliver``: never two calls of one sink at a time, so a call comes late by at most one
    delivery. What is told must therefore stay valid for several periods.

    ``open_alerts``: the firing parcel of each open alert whose beginning this sink has taken, oldest first, with
    the very payload that ``deliver`` was given; also of one that is silenced or acknowledged since, because an
    alert that expires at the receiver would look resolved. It may be empty: the call comes nevertheless. An alert
    that the sink has not taken yet is left to ``deliver``; one that has ended is no longer in it, and its end comes
    by ``deliver``.

    ``alive``: the collector's engine steps and its journal can be written. A dead man's alert is told only while
    this is true, and simply not told otherwise: its absence is the message. The call itself comes also when it is
    false, so that open alerts do not expire. No call comes any more when the process is dead.

    Raises SinkError for what was not taken: that is logged, and the next call comes at its usual time.
    """

    name: str
    refresh_every_s: float

    def refresh(self, open_alerts: Sequence[Parcel], alive: bool) -> None: ...
