"""What only a running collector knows of itself: its agents' clocks and certificates, its ports, where it runs."""

from __future__ import annotations

import asyncio
import grp
import pwd
import statistics
from collections.abc import Iterator
from pathlib import Path

from poolwarden_collector.core.catalogue.journal import JOURNAL_DAMAGED
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.report.host_environment import CLOCK_LIMIT_MS, SOON_DAYS, VERY_SOON_DAYS
from poolwarden_collector.shell.agents.roster import LONG_WAIT_MS, Roster
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.doctor import machine
from poolwarden_collector.shell.doctor.channels import all_channels
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check
from poolwarden_collector.shell.doctor.enrolment import enrolment_checks
from poolwarden_collector.shell.doctor.etcd_checks import etcd_checks, guarded
from poolwarden_collector.shell.enrolment.assembly import Enrolments
from poolwarden_collector.shell.loop.self_check import guards_its_own_host, own_system_uuid
from poolwarden_collector.shell.store.parcels import ChannelState

CONNECT_S = 2.0


async def all_checks(roster: Roster, channels: list[ChannelState], enrolments: Enrolments | None = None) -> list[Check]:
    """Everything; the slow part runs in a thread, and nothing is changed by any of it."""
    config = roster.config
    stated, fresh = await asyncio.to_thread(machine.configuration, config.file)
    if fresh is not None and fresh != config:
        text = f"{config.file} was changed and is not in use yet"
        stated = Check("configuration", WARNING, text, "poolwarden-collector reload")
    pools = {pool.record.pool: pool.record.name for pool in roster.pools.values()}
    found = [*_work(roster), *all_channels(config, pools, channels), stated]
    found += await asyncio.to_thread(lambda: list(machine.of_machine(config)))
    found += await enrolment_checks(enrolments)
    found += _fencing(roster)
    found += _agents(roster)
    found += await asyncio.to_thread(lambda: list(_operators(config)))
    found.append(await _socket(config.operator_socket))
    found.append(await _port("agents' port", config.listen))
    if config.operator_listen:
        found.append(await _port("operators' port", config.operator_listen))
    if config.enrolment is not None:
        found.append(await _port("enrolment's port", config.enrolment.listen))
    if config.metrics is not None:
        found.append(await _port("metrics' port", config.metrics.address))
    if config.page is not None:
        found += await asyncio.to_thread(machine.page_certificate, config.page)
        found.append(await _port("page's port", config.page.address))
    found += await etcd_checks(config.store, config.name, guarded(roster))
    return [*found, *_self_hosting(roster)]


def _work(roster: Roster) -> Iterator[Check]:
    """Does it decide, and is it heard?"""
    log = "journalctl -u poolwarden-collector"
    if roster.stalled:
        step = "make room on the journal's disk; it goes on by itself"
        yield Check("collector", FAULT, f"nothing is decided or done: {roster.stalled}", step)
    for pool, why in roster.stood_down.items():
        text = f"another collector is in charge of pool {pool}: {why}"
        yield Check("collector", FAULT, text, "stop one of the two (docs/operating.md, Two collectors)")
    if roster.blind:
        yield Check("collector", FAULT, f"it considers itself blind: {roster.blind}", "look at its network")
    if roster.damage:
        yield Check("journal's past", FAULT, roster.damage, f"then: poolwarden alerts ack {JOURNAL_DAMAGED.id}")
    if roster.told_behind:
        text = f"it is {roster.behind_ms / 1000:.1f} s behind what it hears"
        yield Check("collector", FAULT, text, f"look at load and disk of its machine; {log}")
    if not (roster.stalled or roster.stood_down or roster.blind or roster.told_behind):
        yield Check("collector", OK, f"it runs and decides; pools: {len(roster.pools)}")


def _fencing(roster: Roster) -> Iterator[Check]:
    """Do fence agents get their turn?"""
    if not roster.config.fence:
        return
    count, longest = roster.long_waits()
    if count:
        text = f"{count} runs of fence agents wait for their turn, the longest for {longest / 1000:.0f} s"
        step = "poolwarden alerts: devices that answer slowly are told there; docs/fencing.md, Many devices at once"
        yield Check("fence runs", WARNING, text, step)
    else:
        yield Check("fence runs", OK, f"none has waited for longer than {LONG_WAIT_MS // 1000} s for its turn")


def _agents(roster: Roster) -> Iterator[Check]:
    """Clocks and certificates of the hosts whose agents are connected."""
    facts = {
        f"{pool.record.display_name}/{pool.record.name_of(host)}": agent.facts
        for pool in roster.pools.values()
        for host, agent in pool.live.agents.items()
        if agent.connected
    }
    yield _skew(facts)
    yield from _host_certificates(facts)


def _skew(facts: dict[str, HostFacts]) -> Check:
    """Where most hosts are off by the same, it is this machine that is off."""
    found = {name: each.around.clock_offset_ms for name, each in facts.items()}
    offsets = {name: offset for name, offset in found.items() if offset is not None}
    if not offsets:
        return Check("clocks of hosts", UNCHECKED, "no connected agent has told its clock yet")
    middle = statistics.median(offsets.values())
    if abs(middle) >= CLOCK_LIMIT_MS and len(offsets) > 1:
        text = f"this machine's clock is off: {len(offsets)} hosts' clocks are {middle / 1000:+.0f} s from it"
        return Check("clocks of hosts", FAULT, text, "set this machine's clock; look: timedatectl")
    off = [name for name, offset in sorted(offsets.items()) if abs(offset) >= CLOCK_LIMIT_MS]
    if off:
        text = f"clocks more than {CLOCK_LIMIT_MS // 1000} s off: {', '.join(off)}"
        return Check("clocks of hosts", WARNING, text, "chronyc tracking, on those hosts")
    most = max(abs(offset) for offset in offsets.values())
    return Check("clocks of hosts", OK, f"{len(offsets)} hosts' clocks are within {most / 1000:.1f} s of this one")


def _host_certificates(facts: dict[str, HostFacts]) -> Iterator[Check]:
    known = [(name, each) for name, host in sorted(facts.items()) for each in host.around.certificates]
    if not known:
        yield Check("certificates of hosts", UNCHECKED, "no connected agent has told its host's certificates yet")
        return
    good = 0
    for name, each in known:
        if each.days_left is None:
            yield Check("certificates of hosts", UNCHECKED, f"{each.name} of {name}: {each.text or 'cannot be read'}")
        elif each.days_left < SOON_DAYS:
            level = FAULT if each.days_left < VERY_SOON_DAYS else WARNING
            text = f"{each.name} of {name} is valid for {each.days_left} days"
            step = "an agent's: poolwarden-collector issue-host DIR UUID; xapi's: xe host-refresh-server-certificate"
            yield Check("certificates of hosts", level, text, step)
        else:
            good += 1
    if good:
        yield Check("certificates of hosts", OK, f"{good} certificates are valid for {SOON_DAYS} days and more")


def _operators(config: Config) -> Iterator[Check]:
    """Who may do what, and is everybody there who is given a role?"""
    step = "[[operators]] of collector.toml: docs/operators.md; then: poolwarden-collector reload"
    entries = config.operators.entries
    for text in config.operators.remarks(config.operator_listen):
        yield Check("operators", WARNING, text, step)
    lacking = [f"{each.kind} {each.who}" for each in entries if not _is_there(each.kind, each.who)]
    if lacking:
        text = f"[[operators]] names who is not on this machine: {', '.join(dict.fromkeys(lacking))}"
        yield Check("operators", WARNING, text, "getent passwd NAME, getent group NAME")
    if entries and not lacking:
        yield Check("operators", OK, f"{len(entries)} entries; nobody else but root has any right")
    if not entries and not config.operator_listen:
        yield Check("operators", OK, "who may write to the socket on this machine has every right")


def _is_there(kind: str, who: str) -> bool:
    try:
        if kind == "user":
            pwd.getpwnam(who)
        elif kind == "group":
            grp.getgrnam(who)
    except KeyError:
        return False
    return True


async def _socket(path: Path) -> Check:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), CONNECT_S)
    except (OSError, TimeoutError) as error:
        text = f"{path} takes no connection: {error or 'no answer'}"
        return Check("operators' socket", FAULT, text, "restart the collector: systemctl restart poolwarden-collector")
    writer.close()
    return Check("operators' socket", OK, f"{path} takes connections")


async def _port(name: str, listen: str) -> Check:
    """Can this machine itself reach it? What lies between it and the hosts is not tried."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if port == "0":
        return Check(name, UNCHECKED, "its port was chosen by the system")
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(target, int(port)), CONNECT_S)
    except (OSError, TimeoutError) as error:
        text = f"{listen} takes no connection: {error or 'no answer'}"
        return Check(name, FAULT, text, "ss -ltnp; look at this machine's packet filter")
    writer.close()
    return Check(name, OK, f"{listen} takes connections, from this machine itself")


def _self_hosting(roster: Roster) -> Iterator[Check]:
    found = guards_its_own_host(roster.pools.values())
    step = "move the collector to a machine outside the pools that it guards"
    yield from (Check("where it runs", FAULT, text, step) for text in found)
    if found:
        return
    if not own_system_uuid():
        text = "this machine's system UUID can be read by root alone, so its pools' VMs cannot be held against it"
        yield Check("where it runs", UNCHECKED, text, "cat /sys/class/dmi/id/product_uuid; xe vm-list uuid=...")
    else:
        yield Check("where it runs", OK, "on no host that it guards, as far as their VMs are known")
