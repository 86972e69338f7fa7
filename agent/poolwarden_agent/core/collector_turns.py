"""Which collector is dialled next, and when: the addresses of agent.conf in turn, each with a pause of its own. Pure.

Rules
-----
* One address at a time. The first is chosen by this host's UUID, so that the hosts of a site spread over the list.
* The collector that has welcomed this host is dialled again first when its stream ends; any other is next at once after
  a failure, as long as its own pause is over. Pauses grow to 5 s; a stream that was welcomed ends them.
* Where one collector sends this host on to another (``sent``), that address is next, on the list or not. One that is
  not on the list is forgotten with its first failure: nothing but agent.conf outlives a failure.
* A host that is sent to a collector that has sent it on before, or sent on nine times, with no stream between that was
  welcomed and stayed, goes round in circles: the next dial waits, twice as long each time, up to a minute.
* A stream that is not welcomed in time is given up for the next address, each time later: a collector that is late is
  made later by whoever comes again. Where there is one address alone nothing is gained, and it is never given up.
"""

import hashlib
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from poolwarden_agent.core.addresses import is_address

FIRST_PAUSE_S = 0.6
LONGEST_PAUSE_S = 5.0
FIRST_REST_S = 2.0  # of who goes round in circles
LONGEST_REST_S = 60.0
STAYED_S = 10.0  # a stream that was welcomed and lasted so long ends a circle
MOST_HOPS = 8
KEPT_S = 60.0  # what is known of an address that is not on the list, after its pause
FIRST_WELCOME_S = 20.0
LONGEST_WELCOME_S = 600.0

Address = Tuple[str, int]


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9][A-Za-z0-9._-]{0,252})):([0-9]{1,5})\Z")


class Next(NamedTuple):
    """What to dial, after how many seconds."""

    address: Address
    wait_s: float


def joined(address: Address) -> str:
    """HOST:PORT, IPv6 in brackets."""
    host, port = address
    return "%s:%d" % ("[%s]" % host if ":" in host else host, port)


def parsed(said: str) -> Optional[Address]:
    """The address of HOST:PORT as a collector says it, IPv6 in brackets; None: it is none."""
    found = _ADDRESS.match(said)
    if found is None or not 0 < int(found.group(3)) < 65536 or (found.group(1) and not is_address(found.group(1))):
        return None
    return found.group(1) or found.group(2), int(found.group(3))


def first_of(host_uuid: str, count: int) -> int:
    """With which of ``count`` addresses this host begins."""
    return int(hashlib.sha256(host_uuid.encode("utf-8")).hexdigest()[:8], 16) % count


class Turns(object):
    """The turns of one host. Instants are seconds on one clock; ``share`` spreads a pause, about 1."""

    def __init__(self, listed: Sequence[Address], first: int = 0) -> None:
        self.listed = tuple(listed)
        self._at = first
        self._target: Optional[Address] = None  # next, whatever the others are
        self._failures: Dict[Address, int] = {}
        self._not_before: Dict[Address, float] = {}
        self._unwelcome: Dict[Address, int] = {}  # how often in succession a stream there was not welcomed in time
        self._welcomed_s: Optional[float] = None  # since when the stream that runs is welcomed
        self._senders: List[Address] = []  # that have sent this host on
        self._rests = 0
        self._rest_until_s = 0.0

    @property
    def several(self) -> bool:
        return len(self.listed) > 1

    def next(self, now_s: float) -> Next:
        """The address that is dialled next."""
        address = self._target
        if address is None:
            turned = self.listed[self._at :] + self.listed[: self._at]
            # min keeps the order of those that are due.
            address = min(turned, key=lambda each: max(0.0, self._not_before.get(each, 0.0) - now_s))
        due_s = max(self._not_before.get(address, 0.0), self._rest_until_s)
        return Next(address, max(0.0, due_s - now_s))

    def welcome_within_s(self, address: Address) -> Optional[float]:
        """How long a stream there may take to be welcomed; None: as long as it likes."""
        if not self.several:
            return None
        return min(LONGEST_WELCOME_S, FIRST_WELCOME_S * (1 << min(self._unwelcome.get(address, 0), 10)))

    def welcomed(self, address: Address, now_s: float) -> None:
        """The stream that runs there is welcomed."""
        self._welcomed_s = now_s
        self._failures.pop(address, None)
        self._not_before.pop(address, None)
        self._unwelcome.pop(address, None)

    def not_welcomed(self, address: Address) -> None:
        """A stream there was given up because it was not welcomed in time."""
        self._unwelcome[address] = self._unwelcome.get(address, 0) + 1

    def failed(self, address: Address, now_s: float, share: float) -> None:
        """It was not reached, or refuses; another one is next."""
        self._settle(now_s)
        self._pause(address, now_s, share)
        self._target = None
        if address in self.listed:
            self._at = (self.listed.index(address) + 1) % len(self.listed)
        self._forget(now_s)

    def ended(self, address: Address, now_s: float, share: float) -> None:
        """A stream that was welcomed has ended; it is dialled again first."""
        self._settle(now_s)
        self._failures.pop(address, None)
        self._pause(address, now_s, share)
        self._failures.pop(address, None)
        self._target = address
        if address in self.listed:
            self._at = self.listed.index(address)

    def sent(self, sender: Address, to: Address, now_s: float) -> str:
        """A collector sends this host on. What is odd about that, in words; empty: nothing."""
        self._settle(now_s)
        self._target = to
        if sender in self.listed:
            self._at = (self.listed.index(sender) + 1) % len(self.listed)
        self._senders.append(sender)
        if to not in self._senders and len(self._senders) <= MOST_HOPS:
            return ""
        way = " to ".join(joined(each) for each in self._senders[-3:] + [to])
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * (1 << min(self._rests, 10)))
        self._rests += 1
        self._rest_until_s = now_s + rest_s
        self._senders = []
        return "this host is sent on and on, and no collector welcomes it (%s); it waits %d s" % (way, rest_s)

    def _settle(self, now_s: float) -> None:
        """The stream that ran has ended: was it one that ends a circle?"""
        since_s, self._welcomed_s = self._welcomed_s, None
        if since_s is not None and now_s - since_s >= STAYED_S:
            self._senders, self._rests = [], 0

    def _pause(self, address: Address, now_s: float, share: float) -> None:
        failures = self._failures.get(address, 0)
        self._failures[address] = failures + 1
        self._not_before[address] = now_s + share * min(FIRST_PAUSE_S * (1 << min(failures, 10)), LONGEST_PAUSE_S)

    def _forget(self, now_s: float) -> None:
        """What is known of addresses that are on no list does not gather."""
        over = [each for each, due_s in self._not_before.items() if due_s + KEPT_S <= now_s and each not in self.listed]
        for each in over:
            del self._not_before[each]
            self._failures.pop(each, None)
            self._unwelcome.pop(each, None)
