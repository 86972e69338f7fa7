"""`poolwarden collectors`: who is there, what each owns, how etcd is; and on every page who is missing from it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

NAMED = 5  # pools of one collector that are not where they should be
MIB = 1024 * 1024


def missing(asked: Iterable["api.Asked"], what: str = "pool") -> Page:
    """What a page does not show because a collector has not answered; nothing where all have."""
    page: Page = []
    for each in asked:
        if each.answered:
            continue
        lacks = f"{each.pools} {what}s that it owns are" if each.pools > 1 else f"the {what} that it owns is"
        if not each.collector:  # nobody owns them
            page.append(Line(f"{each.pools}: {each.why_not}", "bad", label="pools that are missing here: "))
            continue
        said = f"{lacks if each.pools else 'its part is'} missing here: {each.why_not}"
        page.append(Line(said, "bad", label=f"collector {each.collector} does not answer: "))
    return [*page, Line("poolwarden collectors", "dim", label="more: "), Line()] if page else []


def silent(asked: Iterable["api.Asked"]) -> list[str]:
    """Why what was asked for is not whole, a sentence each: nothing is known of those pools."""
    return [f"{_who(each)}{each.why_not}" for each in asked if not each.answered]


def _who(each: "api.Asked") -> str:
    if each.collector:
        return f"collector {each.collector} does not answer: "
    return f"{each.pools} pool{'s' if each.pools != 1 else ''}: " if each.pools else ""


def collectors_page(reply: "api.CollectorsReply") -> Page:
    """How they stand, then each of them, then etcd."""
    if not reply.several:
        return [Line(reply.text)]
    page: Page = [Line(reply.text, how_they_stand(reply))]
    if reply.next_step:
        page.append(Line(reply.next_step, indent=2, label="do: "))
    page += [Line(), _table(reply), Line()]
    for each in reply.collectors:
        page += _remarks(each)
    versions = sorted({each.asked.version for each in reply.collectors if each.asked.version})
    if len(versions) > 1:
        page.append(Line(", ".join(versions), "warn", indent=2, label="several releases: "))
    page += [*_unowned(reply), *etcd_lines(reply)]
    looked = f"etcd was looked at {span(reply.looked_age_ms)} ago; {reply.collector} was asked"
    return [*page, Line(looked, "dim")]


def how_they_stand(reply: "api.CollectorsReply") -> Tone:
    """How grave it is."""
    if reply.trouble or reply.unowned or any(each.right for each in reply.collectors):
        return "bad"
    return "warn" if reply.next_step else "good"


def _table(reply: "api.CollectorsReply") -> Table:
    rows = [
        (
            each.asked.collector,
            state_of(each, reply.assigner),
            str(len(each.pools)),
            str(each.agents) if each.agents or reply.etcd else "-",  # told to who may see all pools
            span(each.lag_ms) if each.asked.answered else "-",
            span(each.right_left_ms) if each.right_left_ms else "-",
            each.machine or "-",
        )
        for each in reply.collectors
    ]
    return Table(("COLLECTOR", "", "POOLS", "AGENTS", "LAG", "RIGHT", "MACHINE"), rows)


def state_of(each: "api.CollectorStatus", assigner: str) -> Piece:
    """In one or two words."""
    if not each.asked.answered:
        return Piece("no answer", "bad")
    if each.right:
        return Piece("may not act", "bad")
    if each.asked.stalled:
        return Piece("cannot record", "bad")
    if each.draining:
        return Piece("draining", "warn")
    return Piece("assigns" if each.asked.collector == assigner else "good", "good")


def _remarks(each: "api.CollectorStatus") -> Page:
    name, page = each.asked.collector, list[Line]()
    if not each.asked.answered:
        page.append(Line(f"pools and agents as of {span(each.told_age_ms)} ago, from etcd", "dim", 2, f"{name}: "))
    for text in (each.asked.why_not, each.right, each.asked.stalled, each.asked.blind):
        if text:
            page.append(Line(text, "bad", indent=2, label=f"{name}: "))
    if each.in_doubt:
        text = f"etcd has not said whether the last step counts in {len(each.in_doubt)} pools: {_some(each.in_doubt)}"
        page.append(Line(text, "warn", indent=2, label=f"{name}: "))
    moving = [pool for pool in each.pools if pool.advised]
    for pool in moving[:NAMED]:
        why = f", and stays for now: {pool.stays}" if pool.stays else ""
        page.append(Line(f"{_name(pool)} is to go to {pool.advised}{why}", indent=2, label=f"{name}: "))
    if len(moving) > NAMED:
        page.append(Line(f"{len(moving) - NAMED} more pools are to go elsewhere", indent=2, label=f"{name}: "))
    return [*page]


def _unowned(reply: "api.CollectorsReply") -> Page:
    if not reply.unowned:
        return []
    shown = [f"{_name(pool)}{f' (for {pool.advised})' if pool.advised else ''}" for pool in reply.unowned]
    return [Line(_some(shown), "bad", indent=2, label="nobody is in charge of: ")]


def etcd_lines(reply: "api.CollectorsReply") -> Page:
    """A line for each endpoint."""
    page: Page = []
    for each in reply.etcd:
        if not each.version:
            page.append(Line(each.text, "bad", indent=2, label=f"etcd {each.endpoint or 'endpoint'}: "))
            continue
        leads = ", leads" if each.leader else ""
        said = f"{each.version}, {each.bytes / MIB:.1f} MiB{leads}{f': {each.text}' if each.text else ''}"
        page.append(Line(said, "" if each.healthy else "bad", indent=2, label=f"etcd {each.endpoint}: "))
    return page


def _name(pool: "api.OwnedPool") -> str:
    return pool.name or pool.pool_uuid


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - NAMED
    return ", ".join(found[:NAMED]) + (f" and {more} more" if more > 0 else "")
