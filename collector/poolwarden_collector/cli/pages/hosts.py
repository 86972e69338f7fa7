"""Hosts: the table of `status` and `hosts`, and everything about one for `host show`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden.typed_names import typed
from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.words import joined, size, span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

DISK_WARNING_PERCENT = 90
DISK_CRITICAL_PERCENT = 97
UNWELL = ("slow", "down", "hung", "wedged", "orphaned", "emergency")
CROSSED = ("warning", "critical", "full")
HEADERS = ("HOST", "ROLE", "HEARD", "XAPI", "POWER", "DISK", "VMS")
TONES: dict[str, Tone] = {
    "answers": "good",
    "starting": "warn",
    "slow": "warn",
    "down": "bad",
    "hung": "bad",
    "wedged": "bad",
    "broken": "bad",
}


def hosts_table(hosts: Iterable["api.HostStatus"], indent: int = 0, *, with_pool: bool = False) -> Table:
    """One row for each host."""
    if with_pool:
        return Table(("POOL", *HEADERS), [[host.pool_name or host.pool_uuid, *_row(host)] for host in hosts], indent)
    return Table(HEADERS, [_row(host) for host in hosts], indent)


def _row(host: "api.HostStatus") -> list[Piece | str]:
    return [
        host.name or host.host_uuid,
        _place(host),
        _heard(host),
        _xapi(host),
        _power(host),
        _disk(host),
        _last(host, str(host.running_vms) if host.running_vms_known else "?"),
    ]


def is_heard(host: "api.HostStatus") -> bool:
    """Is its agent heard now? Else everything that is known of it is its last word."""
    return host.heard if host.place else host.agent_connected  # a collector of an older version tells no more


def _last(host: "api.HostStatus", value: str) -> Piece:
    """A value of its agent; of a silent host it carries the age of its last word."""
    if is_heard(host):
        return Piece(value)
    return Piece(f"{value} ({span(host.agent_age_ms)})" if host.ever_heard and value != "?" else "?", "dim")


def _place(host: "api.HostStatus") -> Piece:
    place = host.place or host.role
    bold = place in ("master", "next master")
    return Piece(place, TONES.get(place, "strong" if bold else ""))


def _heard(host: "api.HostStatus") -> Piece:
    if not host.ever_heard:
        return Piece("never", "warn")
    return Piece(span(host.agent_age_ms), "good" if is_heard(host) else "bad")


def _xapi(host: "api.HostStatus") -> Piece:
    """Its behaviour in one word: what keeps it from serving before how it answers; ? where nobody on the host tells."""
    if not is_heard(host):
        return Piece("?", "dim")
    if host.emergency == "yes":
        return Piece("emergency", "bad")
    if host.orphaned:
        return Piece("orphaned", "bad")
    word = host.xapi_health if host.xapi_health in ("slow", "wedged", "hung") else host.xapi
    return Piece(word, TONES.get(word, "dim"))


def _power(host: "api.HostStatus") -> Piece:
    """What its devices read, with the age of that where its agent does not show that it is on."""
    read = [device.age_ms for device in host.fence_devices if device.read]
    word = "no answer" if host.power == "unknown" and read else host.power
    if host.power == "no device" or (is_heard(host) and host.power == "on"):
        return Piece(word)
    if word == "unknown":
        return Piece("not read", "dim")
    age = f", {span(max(read))}" if read else ""
    return Piece(f"{word}{age}", "bad" if host.power == "off" else "warn" if read else "dim")


def _disk(host: "api.HostStatus") -> Piece:
    """The fullest file system, by space or inodes; its name where it is filling up."""
    if not host.disks:
        return Piece("?", "dim")
    fullest = max(host.disks, key=lambda disk: max(disk.used_percent, disk.inodes_used_percent))
    percent = max(fullest.used_percent, fullest.inodes_used_percent)
    name = f" {fullest.mount}" if percent >= DISK_WARNING_PERCENT else ""
    value = _last(host, f"{percent:.0f}%{name}")
    return Piece(value.text, percent_tone(percent)) if is_heard(host) else value


def percent_tone(percent: float) -> Tone:
    """Yellow from 90 %, red from 97 %."""
    if percent >= DISK_CRITICAL_PERCENT:
        return "bad"
    return "warn" if percent >= DISK_WARNING_PERCENT else ""


def host_notes(hosts: Iterable["api.HostStatus"], indent: int = 0) -> Page:
    """What a table cannot hold: emergency reasons, tombstones, disabled hosts, devices that are not believed."""
    return [
        Line(text, "warn", indent, label=f"{host.name or host.host_uuid}: ") for host in hosts for text in _notes(host)
    ]


def _notes(host: "api.HostStatus") -> list[str]:
    """Of a silent host nothing: its last word is no news."""
    notes: list[str] = []
    if not is_heard(host):
        return _of_silent(host)
    if host.xapi_health in UNWELL:
        helps = f"; helps: {host.xapi_help}" if host.xapi_help else ""
        notes.append(f"{host.xapi_text}{helps}")
    elif host.emergency_text:
        notes.append(f"xapi says: {host.emergency_text}")
    notes += [
        _disk_note(disk) for disk in host.disks if disk.level in CROSSED or (disk.read_only and disk.mount == "/")
    ]
    notes += [f"{fact.name}: {fact.text}" for fact in host.facts if fact.level == "critical"]
    if host.tombstoned:
        notes.append("another host has become master since: this one may not act as master until it is a member again")
    if host.enabled == "no":
        notes.append(f"disabled: no VM starts there; poolwarden host enable {typed(host.name, host.host_uuid)}")
    return notes + _of_silent(host)


def _of_silent(host: "api.HostStatus") -> list[str]:
    """What is known of a host whether it is heard or not."""
    quarantined = "its fence device is not believed: it read off while the host lived"
    return [quarantined] if host.fence_device == "quarantined" else []


def _disk_note(disk: "api.DiskStatus") -> str:
    percent = max(disk.used_percent, disk.inodes_used_percent)
    state = "mounted read-only" if disk.read_only else f"{disk.level} ({percent:.0f} % used)"
    soon = f", full in about {span(disk.full_in_ms)}" if disk.full_in_ms else ""
    return f"{disk.mount} is {state}{soon}: poolwarden disks"


def host_page(host: "api.HostStatus") -> Page:
    """All that is known of one host."""
    facts = [
        ("pool", host.pool_name or host.pool_uuid),
        ("uuid", host.host_uuid),
        ("address", host.address or "not known"),
        ("role", host.role),
        ("agent", _agent_sentence(host)),
        ("xapi", f"{host.xapi_health or host.xapi}: {host.xapi_text}" if host.xapi_text else host.xapi),
        ("emergency", _emergency_sentence(host)),
        ("enabled", host.enabled),
        ("power", f"{host.power}; fence device: {host.fence_device}"),
        ("database", f"generation {host.generation}" if host.generation else "generation not known"),
        ("running VMs", str(host.running_vms) if host.running_vms_known else "not known"),
        ("memory", f"{size(host.memory_available_bytes)} available of {size(host.memory_total_bytes)}"),
        ("software", host.product or "not known"),
        ("boot", host.boot_id or "not known"),
        ("highest term", str(host.highest_term)),
    ]
    page: Page = [Line(label=host.name or host.host_uuid)]
    page += [Line(text, indent=2, label=f"{name + ':':<14}") for name, text in facts]
    notes = host_notes([host], indent=2)
    return page + notes + _facts(host) + _assumptions(host) + _disks(host) + _probes(host)


def _assumptions(host: "api.HostStatus") -> Page:
    """What failed of what is assumed of this host; how many hold, and how many it has not shown."""
    if not host.assumptions:
        return []
    rows = [
        (each.id, Piece(each.evidence or "no evidence was told", "warn"), ", ".join(each.rests))
        for each in host.assumptions
        if each.finding == "fails"
    ]
    found = [each.finding for each in host.assumptions]
    counted = f"{found.count('holds')} hold, {found.count('fails')} fail, {found.count('not seen')} not seen yet"
    page: Page = [Line(f"{counted}; --json has all", indent=2, label=f"{'assumptions:':<14}")]
    return [*page, Line(), Table(("FAILS", "SEEN", "RESTS ON IT"), rows, 2)] if rows else page


def _facts(host: "api.HostStatus") -> Page:
    tones: dict[str, Tone] = {"warning": "warn", "critical": "bad"}
    rows = [(fact.name, Piece(fact.text, tones.get(fact.level, ""))) for fact in host.facts]
    return [Line(), Table(("AROUND XAPI", ""), rows, 2)] if rows else []


def _agent_sentence(host: "api.HostStatus") -> str:
    if not host.ever_heard:
        return "never heard"
    state = "connected, last heard" if host.agent_connected else "not connected, last heard"
    return f"{state} {span(host.agent_age_ms)} ago, version {host.agent_version or 'not known'}"


def _emergency_sentence(host: "api.HostStatus") -> str:
    orphaned = "orphaned: its master does not answer it" if host.orphaned else "not orphaned"
    return f"{host.emergency} (xapi's own flag); {orphaned}"


def _disks(host: "api.HostStatus") -> Page:
    if not host.disks:
        return []
    rows = [
        (
            disk.mount,
            Piece(f"{disk.used_percent:.0f}%", percent_tone(disk.used_percent)),
            f"{size(disk.free_bytes)} of {size(disk.total_bytes)}",
            Piece(f"{disk.inodes_used_percent:.0f}%", percent_tone(disk.inodes_used_percent)),
        )
        for disk in host.disks
    ]
    return [Line(), Table(("DISK", "USED", "FREE", "INODES USED"), rows, 2)]


def _probes(host: "api.HostStatus") -> Page:
    if not host.probes:
        return []
    rows = [
        (probe.target_name or probe.target_uuid, probe.outcome, f"{span(probe.age_ms)} ago", probe.text)
        for probe in host.probes
    ]
    return [Line(), Table(("PROBES XAPI OF", "OUTCOME", "WHEN", "DETAIL"), rows, 2)]


def candidates(hosts: Iterable["api.HostStatus"]) -> str:
    """Hosts of the same name, so that each can be told from the others."""
    return joined([f"{host.pool_name or host.pool_uuid}/{host.name} ({host.host_uuid})" for host in hosts])
