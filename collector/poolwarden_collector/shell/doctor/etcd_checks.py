"""The etcd of several collectors: is there a majority, is it sound, is there room, and where does it run?

Rules
-----
* etcd is asked by its own contract alone: how a member was started it does not say. Whether it compacts is seen from
  whether it still answers for a revision of long ago; its quota is taken for the default (docs/collectors.md).
* Where a member runs can be told only of this machine and of addresses of guarded hosts. Each collector looks at its
  own; of the rest it is said that nobody here can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.cluster.etcd import (
    CREDENTIALS,
    Denied,
    EtcdError,
    EtcdMember,
    Exchange,
    Found,
    Get,
    Health,
    carry_out,
)
from poolwarden_collector.shell.cluster.etcd_client import EtcdClient
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.config.store import StoreSettings
from poolwarden_collector.shell.doctor import etcd_files
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check

QUOTA = 2 << 30  # --quota-backend-bytes, its default
KEPT_REVISIONS = 500_000  # two days of three collectors that count a site's silent agents each second
# From these releases on no leader that was stuck lets leases go too early (etcd issue 15247).
_SOUND = {(3, 4): 31, (3, 5): 13}
_INCONSISTENT = ((3, 5, 0), (3, 5, 3))  # etcd issue 13766: members may differ after a crash
_PAGE = "docs/collectors.md"


# Of all that is looked at, what weakens the pools while nothing has failed yet.
_WEAKENS = ("etcd", "etcd's members", "etcd's disk", "where etcd runs", "collectors")


async def etcd_weaknesses(roster: Roster) -> tuple[tuple[str, str], ...]:
    """For readiness: what is wrong with the collectors' etcd, each with what helps."""
    found = await etcd_checks(roster.config.store, roster.config.name, guarded(roster))
    wrong = [each for each in found if each.level == FAULT or (each.level == WARNING and each.name in _WEAKENS)]
    return tuple((f"{each.name}: {each.text}", each.next_step) for each in wrong)


def guarded(roster: Roster) -> dict[str, str]:
    """Guarded hosts' names by their management addresses."""
    records = [pool.record for pool in roster.pools.values()]
    return {
        host.address: f"{record.display_name}/{record.name_of(host.host)}"
        for record in records
        for host in record.hosts.values()
        if host.address
    }


async def etcd_checks(settings: StoreSettings | None, name: str, hosts: Mapping[str, str]) -> list[Check]:
    """Everything; empty for a collector that is alone. ``hosts``: names of guarded hosts by management addresses."""
    if settings is None:
        return []
    client = EtcdClient(settings.etcd)
    try:
        health = await client.health()
        found = list(majority(health))
        if not any(isinstance(each, Health) for each in health):
            return found
        found += of_members(health)
        if found[0].level == FAULT:
            return found  # whatever else is asked is answered by a majority alone, and waits for it
        found += await _below_the_prefix(client, settings.names, name)
        members = []
        try:
            members = await client.members()
            found += count(members, settings.etcd.endpoints)
        except EtcdError as error:
            text = f"it does not say which members it has: {error}"
            found.append(Check("etcd's members", UNCHECKED, text, "etcdctl member list"))
    finally:
        await client.close()
    urls = [*settings.etcd.endpoints, *(url for each in members for url in each.clients)]
    return [*found, *await asyncio.to_thread(lambda: list(places(urls, hosts)))]


async def _below_the_prefix(client: EtcdClient, names: Names, name: str) -> list[Check]:
    """What the collectors have there, as far as etcd lets this one read it."""
    try:
        found = [await _compaction(client, names)]
        return [*found, *collectors(await carry_out(client, _members(names)), name)]
    except Denied as error:
        text = f"etcd does not let this collector read below {names.prefix}/, so it acts in no pool: {error}"
        return [Check("etcd", FAULT, text, CREDENTIALS)]
    except EtcdError as error:
        return [Check("etcd", UNCHECKED, f"it does not say more: {error}", "etcdctl endpoint status")]


def majority(health: Iterable[Health | EtcdError]) -> Iterator[Check]:
    """Is there one that answers, with a leader?"""
    all_of_them = list(health)
    answers = [each for each in all_of_them if isinstance(each, Health)]
    silent = [str(each) for each in all_of_them if isinstance(each, EtcdError)]
    step = "systemctl status etcd, there; without a majority nothing is done in any pool"
    if not any(each.leader for each in answers) or len(silent) * 2 > len(all_of_them):
        text = "; ".join(silent) or "no member knows a leader"
        yield Check("etcd", FAULT, f"it has no majority as far as this collector sees: {text}", step)
    elif silent:
        yield Check(
            "etcd", WARNING, f"{len(answers)} of {len(all_of_them)} endpoints answer: {'; '.join(silent)}", step
        )
    else:
        yield Check("etcd", OK, f"all {len(answers)} endpoints answer, and have a leader")


def of_members(health: Iterable[Health | EtcdError]) -> Iterator[Check]:
    """Alarms, room and release of those that answer."""
    answers = [each for each in health if isinstance(each, Health)]
    alarms = sorted({trouble for each in answers for trouble in each.troubles if "no leader" not in trouble})
    if alarms:
        step = "etcdctl alarm list; NOSPACE: compact, etcdctl defrag, then etcdctl alarm disarm"
        yield Check("etcd's alarms", FAULT, f"etcd takes no records: {'; '.join(alarms)}", f"{step} ({_PAGE})")
    yield room(max(answers, key=lambda each: each.bytes))
    yield from _releases(answers)


def room(member: Health) -> Check:
    """Its database against the default quota."""
    share, mib = member.bytes / QUOTA, member.bytes >> 20
    text = f"the database of {member.endpoint} has {mib} MiB, {member.in_use >> 20} of them in use"
    if share < 0.5:
        return Check("etcd's size", OK, text)
    step = "etcdctl defrag, one member after the other; with a larger --quota-backend-bytes this counts from that"
    text += f": {share:.0%} of 2 GiB, at which etcd takes nothing more by default"
    return Check("etcd's size", FAULT if share > 0.8 else WARNING, text, step)


def _releases(answers: Iterable[Health]) -> Iterator[Check]:
    versions = sorted({each.version for each in answers})
    for version in versions:
        level, text = _release(version)
        step = "a newer etcd, one member after the other" if level != OK else ""
        yield Check("etcd's release", level, text, step)
    if len(versions) > 1:
        text = f"its members are of several releases: {', '.join(versions)}"
        yield Check("etcd's release", WARNING, text, "end the upgrade of etcd: all members of one release")


def _release(version: str) -> tuple[str, str]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        return UNCHECKED, f"etcd says that it is {version or 'nothing'}"
    major, minor, patch = (int(each) for each in found.groups())
    if (major, minor) < (3, 4):
        return FAULT, f"etcd {version} is older than any that was tried"
    if _INCONSISTENT[0] <= (major, minor, patch) < _INCONSISTENT[1]:
        return FAULT, f"etcd {version}: after a crash its members may differ (etcd issue 13766)"
    if patch < _SOUND.get((major, minor), 0):
        text = f"etcd {version}: a leader whose disk hangs lets leases go too early (etcd issue 15247)"
        return WARNING, f"{text}; pools then change their owner without need, and nothing worse"
    return OK, f"etcd {version}"


def count(members: list[EtcdMember], endpoints: Collection[str]) -> Iterator[Check]:
    """Three or five, each started and each known here."""
    number, step = len(members), f"etcdctl member add, or member remove; {_PAGE}"
    if unstarted := [each for each in members if not each.name]:
        text = f"{len(unstarted)} of {number} members have never started, and count for the majority"
        yield Check("etcd's members", WARNING, text, "start them, or etcdctl member remove ID")
    if number < 3 or number % 2 == 0:
        text = f"etcd has {number} member{'s' if number > 1 else ''}: it bears the loss of {(number - 1) // 2}"
        yield Check("etcd's members", WARNING, text, step)
    elif len(endpoints) < number:
        text = f"[store] names {len(endpoints)} of {number} members: where these are away the others are not asked"
        yield Check("etcd's members", WARNING, text, "name all of them in [store] etcd of every collector")
    else:
        names = ", ".join(sorted(each.name for each in members))
        yield Check("etcd's members", OK, f"{number}: {names}; it bears the loss of {(number - 1) // 2}")


def _members(names: Names) -> Exchange[list[str]]:
    found: Found = yield Get(names.members, names.members[:-1] + "0")
    return [names.parts(kept.key)[1] for kept in found.kept]


def collectors(there: Collection[str], name: str) -> Iterator[Check]:
    """Is this one a member, and are there others to take its pools?"""
    if name not in there:
        text = f"{name} is no member in etcd: it owns no pool, and can own none"
        step = "look at its log; another process may have its name, or etcd's role lacks the prefix"
        yield Check("collectors", FAULT, text, step)
    elif len(there) < 2:
        text = f"{name} is the only one: nobody takes its pools when it is lost"
        yield Check("collectors", WARNING, text, "start the others; poolwarden collectors")
    else:
        yield Check("collectors", OK, f"{len(there)} are members: {', '.join(sorted(there))}")


async def _compaction(client: EtcdClient, names: Names) -> Check:
    """Is a revision of long ago still there?"""
    newest: Found = await client.ask(Get(names.generation))
    if newest.revision <= KEPT_REVISIONS:
        return Check("etcd's compaction", UNCHECKED, f"it has {newest.revision} revisions, too few to tell")
    try:
        await client.ask(Get(names.generation, revision=newest.revision - KEPT_REVISIONS))
    except EtcdError as error:
        if "compacted" in str(error):
            return Check("etcd's compaction", OK, f"of {newest.revision} revisions the old ones are compacted")
        return Check("etcd's compaction", UNCHECKED, f"it does not say: {error}")
    text = f"{KEPT_REVISIONS} old revisions are still there: its database grows for ever"
    step = f"--auto-compaction-mode=periodic --auto-compaction-retention=1h at each member; {_PAGE}"
    return Check("etcd's compaction", WARNING, text, step)


# ------------------------------------------------------------------------------------------------ where it runs


def places(urls: Iterable[str], hosts: Mapping[str, str]) -> Iterator[Check]:
    """Of each member's address: is it a guarded host's, or this machine's? Resolves names."""
    where = {address: url for url in urls for address in _addresses(url)}
    inside = sorted({hosts[address] for address in where if address in hosts})
    for host in inside:
        text = f"a member of etcd runs on {host}, which these collectors guard: it is lost with that host"
        yield Check("where etcd runs", FAULT, text, f"move it to a machine outside the guarded pools; {_PAGE}")
    here = [address for address in where if _is_here(address)]
    if here:
        yield from _data_directory()
    elsewhere = sorted({where[address] for address in where if address not in here and address not in hosts})
    if elsewhere:
        text = f"whether {', '.join(elsewhere)} are VMs of guarded pools cannot be told from here"
        yield Check("where etcd runs", UNCHECKED, text, "poolwarden doctor, at a collector that runs on that machine")


def _data_directory() -> Iterator[Check]:
    folder = etcd_files.data_directory()
    if folder is None:
        text = "a member of etcd runs here; where it keeps its data cannot be told"
        yield Check("etcd's disk", UNCHECKED, text, "its --data-dir belongs on a disk of this machine itself")
        return
    if lies := etcd_files.network_storage(folder):
        text = f"{folder} lies on {lies}: where that hangs every lease ends at once, when storage is in trouble"
        yield Check("etcd's disk", WARNING, text, "move its --data-dir to a disk of this machine itself, best an SSD")
    else:
        yield Check("etcd's disk", OK, f"{folder} lies on a disk of this machine")


def _addresses(url: str) -> set[str]:
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 2379, type=socket.SOCK_STREAM)
    except (OSError, ValueError, UnicodeError):
        return set()
    return {str(each[4][0]) for each in found}


def _is_here(address: str) -> bool:
    """Can a socket of this machine have this address?"""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False
