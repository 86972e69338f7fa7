"""What is told of pools that none of several collectors can guard."""

from __future__ import annotations

from poolwarden_collector.core.catalogue.message import Message

POOL_WITHOUT_COLLECTOR = Message(
    "pool-without-collector",
    "critical",
    "no collector owns this pool for {seconds} s",
    "the ownership of this pool; {why}",
    "has each collector try it in turn; nothing is looked at or begun in it meanwhile",
    "see who is there and what each says: poolwarden collectors; update the older ones",
    "a master that is lost now is not replaced",
    "None that is there could take the pool over. A collector of an older release cannot read what a newer one wrote.",
    "when a collector owns it",
)
GENERATION_TOO_LOW = Message(
    "generation-too-low",
    "critical",
    "its hosts obey none of the collectors any more",
    "the collectors' right to order: hosts have obeyed one whose number, {obeyed}, is above all that etcd gives now",
    "looks at the pool and tells; begins nothing in it",
    "was etcd restored or built anew? then: poolwarden-collector generation raise --to {generation} --yes",
    "a master that is lost now is not replaced",
    "Collectors are numbered by etcd. One that was put back gives old numbers again, and hosts refuse those.",
    "when a collector owns the pool with a number above that",
)
ALL = (POOL_WITHOUT_COLLECTOR, GENERATION_TOO_LOW)
