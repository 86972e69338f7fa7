"""A host's fence devices, one after the other."""

from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Tone
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

_TONES: dict[str, Tone] = {"bound": "good", "unbound": "warn", "quarantined": "bad"}


def fence_page(host: "api.HostStatus") -> Page:
    """Power and devices of one host, with what stands in the way of each."""
    page: Page = [Line(f"power {host.power}", label=f"{host.name}: ")]
    if not host.fence_devices:
        return [*page, Line("it has no fence device; docs/fencing.md has ready-made ones", indent=2)]
    for device in host.fence_devices:
        page += _device(device)
    return page


def _device(device: "api.FenceDeviceStatus") -> Page:
    read = f"read {device.power.upper()} {span(device.age_ms)} ago" if device.read else "not read yet"
    state = f"{device.state}, {device.grounds}" if device.grounds else device.state
    lines: Page = [Line(f"level {device.level}, {read}", indent=2, label=f"{device.name}: ")]
    lines.append(Line(state, _TONES.get(device.state, ""), indent=4))
    if device.says and device.says not in device.grounds:
        lines.append(Line(f"it says it switches {device.says}", indent=4))
    if device.text:
        lines.append(Line(device.text, indent=4))
    if device.step:
        lines.append(Line(device.step, indent=4, label="next step: "))
    return lines
