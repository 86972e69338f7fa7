"""Has an interface a link? A bridge is judged by the hardware below it: its own carrier proves nothing.

Below a bridge of Linux's lie its ports: hardware, bonds, and VLAN devices on either, whose carrier follows that of
their hardware. Tunnels and the interfaces of VMs are ports as well, and no hardware. An Open vSwitch bridge is asked
for in its database. Where that does not answer, its name may tell: the toolstack names the bridge of the NIC in
position N ``xenbrN``, which is ``ethN`` where NICs are renamed, and that of any other ``br`` and the NIC's name (xapi:
ocaml/xapi/xapi_pif.ml, bridge_naming_convention). Where it does not either, one thing is certain still: if every NIC of
Open vSwitch has a carrier, so has the one below that bridge, and if none has, that one has none.
"""

import os
import re
from typing import List, Optional, Sequence

from poolwarden_agent.dom0.system import files, openvswitch

_NET = "sys/class/net"
_OF_POSITION = re.compile(r"xenbr([0-9]{1,3})\Z")
_OF_NAME = re.compile(r"br(.+)\Z")
VMS = ("vif", "tap")


def carrier(root: str, name: str) -> Optional[bool]:
    """An interface's own carrier; None: not known. One that is down has none, and reading it is an error then."""
    value = files.read(root, "%s/%s/carrier" % (_NET, name))
    if value in ("0", "1"):
        return value == "1"
    return False if files.read(root, "%s/%s/operstate" % (_NET, name)) == "down" else None


def link(root: str, interface: str, switch: Optional[openvswitch.Switch]) -> Optional[bool]:
    """Has the interface, or any of the hardware below it, a carrier? None: that cannot be known.

    ``switch``: what Open vSwitch's database says, None where it is not used or does not answer.
    """
    below = _below(root, interface, switch)
    if below is not None:
        found = [carrier(root, name) for name in below]
        return True if True in found else None if None in found or not found else False
    nics = {carrier(root, name) for name in hardware(root) if master(root, name) == openvswitch.SYSTEM}
    return nics.pop() if len(nics) == 1 else None


def _below(root: str, interface: str, switch: Optional[openvswitch.Switch]) -> Optional[Sequence[str]]:
    """What an interface stands on, which may be nothing; None: that is not known."""
    if not interface:
        return ()
    if os.path.isdir(os.path.join(root, _NET, interface, "brif")):
        return _bridge_ports(root, interface)
    on_switch = openvswitch.used(root) and not is_hardware(root, interface)
    if not on_switch or not os.path.isdir(os.path.join(root, _NET, interface)):
        return (interface,)
    if switch is not None:
        return switch.below(interface)
    named = _named(interface)
    return (named,) if named and master(root, named) == openvswitch.SYSTEM else None


def _named(bridge: str) -> str:
    """The NIC that a bridge of the toolstack is named after; empty: none."""
    position, name = _OF_POSITION.match(bridge), _OF_NAME.match(bridge)
    return "eth%s" % position.group(1) if position else name.group(1) if name else ""


def _bridge_ports(root: str, bridge: str) -> List[str]:
    """The ports of a bridge of Linux's that stand on hardware."""
    try:
        found = sorted(os.listdir(os.path.join(root, _NET, bridge, "brif")))
    except OSError:
        return []
    return [name for name in found if not name.startswith(VMS) and _on_hardware(root, name)]


def _on_hardware(root: str, name: str) -> bool:
    """A NIC, a bond (kernel: drivers/net/bonding), or a VLAN device, which the kernel links to what it lies on."""
    place = os.path.join(root, _NET, name)
    if is_hardware(root, name) or os.path.isdir(os.path.join(place, "bonding")):
        return True
    try:
        return any(each.startswith("lower_") for each in os.listdir(place))
    except OSError:
        return False


def is_hardware(root: str, name: str) -> bool:
    """Does a device of this host drive it? The virtual functions of a NIC (SR-IOV) are its VMs' and do not count."""
    device = os.path.join(root, _NET, name, "device")
    return os.path.exists(device) and not os.path.lexists(os.path.join(device, "physfn")) and not name.startswith(VMS)


def hardware(root: str) -> List[str]:
    """The physical interfaces of this host."""
    try:
        names = sorted(os.listdir(os.path.join(root, _NET)))
    except OSError:
        return []
    return [name for name in names if is_hardware(root, name)]


def master(root: str, name: str) -> str:
    """The bond or bridge that the kernel names for an interface; empty: none."""
    path = os.path.join(root, _NET, name, "master")
    return os.path.basename(os.path.realpath(path)) if os.path.lexists(path) else ""


def bond(root: str, name: str, switch: Optional[openvswitch.Switch]) -> str:
    """The bond that an interface is in; empty: none, or not known."""
    of = master(root, name)
    if of == openvswitch.SYSTEM:
        return switch.bond(name) if switch is not None else ""
    return of if os.path.isdir(os.path.join(root, _NET, of, "bonding")) else ""
