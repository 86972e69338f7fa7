"""`poolwarden plan`: what would happen if a pool's master died this second. Nothing of it is done."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden.typed_names import typed
from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

OUTCOMES: dict[str, tuple[str, Tone]] = {
    "heals": ("HEALS BY ITSELF", "good"),
    "asks": ("WAITS FOR YOU", "warn"),
    "stands still": ("NOTHING IS DONE", "bad"),
}
WIDTH = 10  # of the labels
NAMED = 12


def plan_page(reply: "api.PlanReply") -> Page:
    """The outcome first, then proof, successor, data, VMs and time."""
    word, tone = OUTCOMES.get(reply.outcome, (reply.outcome, ""))
    name = reply.pool_name or reply.pool_uuid
    page: Page = [Line(f"if {reply.master_name or 'its master'} died now: {word}", tone, label=f"{name}  ")]
    page += [_labelled("", reply.outcome_text), _labelled("now", reply.headline)]
    if not reply.master_uuid:
        return [*page, *_end(reply)]
    page += [_labelled("proof", reply.proof_text), *(_device(device) for device in reply.devices)]
    page.append(_labelled("successor", reply.candidate_name or "nobody", "strong" if reply.candidate_name else "bad"))
    page += [_labelled("", host.text) for host in reply.hosts]
    page.append(_labelled("data", reply.data_loss_text))
    page.append(_labelled("killed", reply.kills_text, "bad" if reply.kills else ""))
    page += [_labelled("", f"{kill.name} on {kill.host_name}: {kill.why}", "bad") for kill in reply.kills]
    page.append(_labelled("VMs", reply.vms_text, "warn" if reply.vms else ""))
    if named := [vm.name for vm in reply.vms if vm.name != vm.vm_uuid]:
        page.append(_labelled("", _names(named)))
    return [*page, *_times(reply), *(_labelled("refused", text, "warn") for text in reply.refused), *_end(reply)]


def _labelled(label: str, text: str, tone: Tone = "") -> Line:
    return Line(text, tone, indent=2, label=f"{f'{label}:' if label else '':<{WIDTH}} ")


def _names(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(known[:NAMED]) + more


def _device(device: "api.PlanDevice") -> Line:
    word = f"read {device.power}" if device.power != "unknown" else "gave no reading"
    read = f"{word} {span(device.age_ms)} ago" if device.read else "not read in this run of the collector"
    trouble = f"; {device.trouble}" if device.trouble else ""
    bad = device.state != "bound" or bool(device.trouble)
    return _labelled("", f"{device.name}: {device.state}, {read}{trouble}", "warn" if bad else "")


def _times(reply: "api.PlanReply") -> Page:
    rows = [
        (phase.text, Piece(span(phase.expected_ms)), f"at most {span(phase.at_most_ms)}" if phase.at_most_ms else "")
        for phase in reply.phases
    ]
    total = f"about {span(reply.expected_ms)} ({reply.expected_from})"
    return [_labelled("time", total), Table(("STEP", "EXPECTED", "BY THE POLICY"), rows, 2 + WIDTH + 1)]


def _end(reply: "api.PlanReply") -> Page:
    name = reply.pool_name or reply.pool_uuid
    return [
        Line(),
        Line(f"nothing was done; what stands against it, with its fix: poolwarden readiness {typed(name)}", "dim"),
    ]
