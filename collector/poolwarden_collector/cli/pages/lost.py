"""`poolwarden start-lost`: the VMs that were lost with a dead host, and where each can start."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

TONES: dict[str, Tone] = {"started": "good", "running": "good", "failed": "bad", "lost": "warn"}


def lost_page(reply: "api.CommandReply", names: Mapping[str, str]) -> Page:
    """What was answered, and the list; ``names`` are the hosts' by UUID."""
    page: Page = [Line(reply.text or "done")]
    if reply.lost_vms:
        rows = [
            (vm.name, Piece(vm.state, TONES.get(vm.state, "")), names.get(vm.host_uuid) or vm.host_uuid, _where(vm))
            for vm in reply.lost_vms
        ]
        page += [Line(), Table(("VM", "STATE", "RAN ON", "CAN START ON"), rows, 2)]
    return [*page, Line(reply.next_step, label="next step: ")] if reply.next_step else page


def _where(vm: "api.LostVm") -> str:
    where = ", ".join(vm.can_start_on)
    if vm.state == "failed" and vm.why_not:
        return f"{where}; last time: {vm.why_not}" if where else vm.why_not
    return where or vm.why_not or "not known yet"
