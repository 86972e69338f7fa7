"""A collector's word that this host's pool is another one's: what this host makes of it.

Rules
-----
* Nothing of it is stored, no epoch is heard with it, and nothing more is obeyed on its stream: that is from then on the
  stream of a collector that has said itself that it does not decide here.
* An address of agent.conf is followed at anybody's word who could have welcomed this host. Any other one only at a word
  that a pinned order key has signed: who holds the collector's certificate alone could else hand this host on to any
  machine of his, and have it ask whatever port he likes. Otherwise the next address of the list is tried.
* Whoever is reached there has to bear a certificate of this host's authority for the collector's name (link/client.py),
  and is listed nowhere by having been followed once.
* Of an address that is not on the list no collector is told how it failed (process/link_file.py): whoever sent this
  host there would learn from its reports which ports answer in this host's networks.
"""

from typing import Optional, Sequence

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import addresses
from poolwarden_agent.core.collector_turns import Address, joined, parsed

MOST_SAID = 200


class Elsewhere(object):
    """One stream's word of that kind, and where it leads."""

    def __init__(self, listed: Sequence[str]) -> None:
        """``listed``: the addresses of agent.conf, HOST:PORT."""
        self._listed = [each for each in map(parsed, listed) if each is not None]
        self._go: Optional[str] = None
        self.heard = False  # on this stream

    def begin(self) -> None:
        """Another stream is up."""
        self.heard, self._go = False, None

    def hear(self, given: pb.Elsewhere, signed: bool) -> str:
        """What is made of it, in words."""
        # safety: who says that it does not have this pool is not obeyed in it, whatever comes after that word.
        self.heard = True
        address = parsed(given.address)
        known = self._known(address) if address is not None else None
        follows = known if known is not None else address if signed else None
        self._go = joined(follows) if follows is not None else ""
        who = " (%s)" % given.collector[:MOST_SAID] if given.collector else ""
        said = "this collector does not have this host's pool%s" % (": %s" % given.reason if given.reason else "")
        if follows is not None:
            return "%s; this host goes on to %s%s" % (said[:MOST_SAID], self._go, who)
        if address is None:
            return "%s, and names nobody who has; the next one is tried" % said[:MOST_SAID]
        why = "is not in agent.conf, and no pinned order key has signed that; the next one is tried"
        return "%s; %s%s %s" % (said[:MOST_SAID], joined(address), who, why)

    def _known(self, address: Address) -> Optional[Address]:
        """As agent.conf spells it; None: it does not."""
        host, port = address
        same = (each for each in self._listed if each[1] == port and addresses.same(each[0].lower(), host.lower()))
        return next(same, None)

    def take(self) -> Optional[str]:
        """Where this host goes: HOST:PORT, or empty for the next one of its list; None: it stays. Told once."""
        go, self._go = self._go, None
        return go
