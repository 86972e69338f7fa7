"""What is told of pools that none of several collectors can guard, and of a collector that may not act."""

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
NO_RIGHT_TO_ACT = Message(
    "no-right-to-act",
    "critical",
    "etcd does not let it act, and no other collector is known to act in {pools}",
    "its right to act in {pools}, {seconds} s ago: {why}",
    "looks at the hosts and tells; begins nothing, and goes on by itself as soon as etcd answers",
    "bring etcd back: poolwarden doctor tells its members; who may act: poolwarden collectors",
    "a master that is lost now is not replaced; VMs run on",
    "The collectors act only while etcd answers. As long as it does not, hosts are looked at and nobody helps them.",
    "when it may act again, or another collector has the pools",
)
CUT_OFF_FROM_ETCD = Message(
    "cut-off-from-etcd",
    "warning",
    "it is cut off from etcd and acts nowhere",
    "its right to act, {seconds} s ago: {why}",
    "{doing}",
    "check its network and its certificate for etcd: poolwarden doctor; who may act: poolwarden collectors",
    "one collector fewer takes pools over",
    "One collector has no part in the work. The others act in the pools that they own.",
    "when it may act again",
)
SILENT_AND_NOBODY_ACTS = Message(
    "silent-and-nobody-acts",
    "critical",
    "{whom} is silent, and no collector is known to act",
    "{whom} ({address}), heard last {seconds} s ago; this collector may not act: {why}",
    "nothing: without etcd nothing is decided; once it answers the pool is looked at anew and helped",
    "bring etcd back: poolwarden doctor; see {host} for yourself, and below what may be done by hand",
    "{left}",
    "A host is heard no more while no collector may act. Silence proves nothing: it may run, and its VMs with it.",
    "when the host is heard again, or a collector may act in its pool",
)
ALL = (
    POOL_WITHOUT_COLLECTOR,
    GENERATION_TOO_LOW,
    NO_RIGHT_TO_ACT,
    CUT_OFF_FROM_ETCD,
    SILENT_AND_NOBODY_ACTS,
)
