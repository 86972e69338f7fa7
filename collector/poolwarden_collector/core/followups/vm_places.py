"""Where the VMs that were lost with a dead host can start: asked of the verified master, which alone knows its pool.

Rules
-----
* xapi is asked (VM.get_possible_hosts, VM.assert_can_boot_here), nothing is guessed.
* An answer is good for a minute for a person's list; who starts by policy asks anew (policy_starts.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.model.order_results import VmPlace
from poolwarden_collector.core.model.orders import LocateVms
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live import Sent
from poolwarden_collector.core.state.live_slices import ToldPlace, VmPlaces
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

PER_ORDER = 100
PLACES_FRESH_MS: Ms = 60_000
# Right after a promotion xapi is slow: an agent that has taken the order asks it for up to a minute.
ANSWER_MS: Ms = ORDER_VALID_MS + 60_000


def told_place(pool: Snapshot, vm: str) -> ToldPlace | None:
    """The master's newest word about this VM."""
    return pool.live.vm_places.places.get(vm)


def possible(pool: Snapshot, vm: str) -> tuple[HostId, ...]:
    """Hosts on which this VM can start by the master's newest word."""
    told = told_place(pool, vm)
    return tuple(host for host, refusal in told.place.hosts if not refusal) if told is not None else ()


def why_not(pool: Snapshot, vm: str) -> str:
    """Why this VM can start nowhere, in one sentence; empty where it can, or where it is not known yet."""
    told = told_place(pool, vm)
    if told is None or possible(pool, vm):
        return ""
    place: VmPlace = told.place
    if place.text:
        return place.text
    each = "; ".join(f"{pool.name(host)}: {refusal}" for host, refusal in place.hosts)
    return each or "no host of the pool can take it"


def located(tx: Transaction, vms: Iterable[str]) -> bool:
    """Is it known, by an answer of the last minute, where these VMs can start? If not, ask."""
    learn(tx)
    wanted = [vm for vm in vms if (told := told_place(tx, vm)) is None or tx.now - told.told > PLACES_FRESH_MS]
    ask(tx, wanted)
    return not wanted


def ask(tx: Transaction, vms: Iterable[str]) -> None:
    """Ask the verified master about these VMs, unless an answer is awaited."""
    wanted = tuple(vms)
    if not wanted or tx.live.vm_places.locating:
        return
    orders = []
    for start in range(0, len(wanted), PER_ORDER):
        order_id = tx.fresh_id("locate")
        tx.send(order_id, verified(tx), LocateVms(wanted[start : start + PER_ORDER]), ORDER_VALID_MS)
        orders.append(order_id)
    tx.change(VmPlaces, locating=tuple(orders))
    learn(tx)


def _awaited(pool: Snapshot, sent: Sent) -> bool:
    """May an answer still come: from this master, on the stream that the order went out on?"""
    agent = pool.agent(sent.host)
    same = sent.host == verified(pool) and agent is not None and agent.stream == sent.stream
    return pool.now - sent.at < (ANSWER_MS if same else ORDER_VALID_MS)


def learn(tx: Transaction) -> None:
    """Take in what has been answered."""
    still = []
    for order_id in tx.live.vm_places.locating:
        sent = tx.sent(order_id)
        if sent is not None and sent.result is not None and sent.host == verified(tx):
            found = {place.vm: ToldPlace(place, sent.at, tx.now) for place in sent.result.vm_places}
            tx.change(VmPlaces, places={**tx.live.vm_places.places, **found})
        elif sent is not None and sent.result is None and _awaited(tx, sent):
            still.append(order_id)
    if tuple(still) != tx.live.vm_places.locating:
        tx.change(VmPlaces, locating=tuple(still))
