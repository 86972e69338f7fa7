"""Has an interface a link? A bridge is judged by the hardware below it: its own carrier proves nothing.

Below a bridge of Linux's lie its ports, bonds and VLAN devices among them, whose carrier is that of their hardware. An
Open vSwitch bridge is asked for in its database; where that does not answer, only what its name says is known: the
toolstack names the bridge of ``ethN`` ``xenbrN`` (xapi: ocaml/xapi/xapi_pif.ml, bridge_naming_convention).
"""

import os
import re
from typing import List, Optional, Sequence

from poolwarden_agent.dom0.system import files, openvswitch

_NET = "sys/class/net"
_OF_ONE = re.compile(r"xenbr([0-9]{1,3})\Z")
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
    if below is None:
        return None
    found = [carrier(root, name) for name in below]
    return True if True in found else None if None in found or not found else False


def _below(root: str, interface: str, switch: Optional[openvswitch.Switch]) -> Optional[Sequence[str]]:
    ports = _bridge_ports(root, interface)
    if ports:
        return ports
    on_switch = openvswitch.used(root) and not os.path.exists(os.path.join(root, _NET, interface, "device"))
    if not on_switch or not os.path.isdir(os.path.join(root, _NET, interface)):
        return (interface,)
    if switch is not None:
        return switch.below(interface)
    of_one = _OF_ONE.match(interface)
    named = "eth%s" % of_one.group(1) if of_one else ""
    return (named,) if named and master(root, named) == openvswitch.SYSTEM else None


def _bridge_ports(root: str, bridge: str) -> List[str]:
    try:
        found = sorted(os.listdir(os.path.join(root, _NET, bridge, "brif")))
    except OSError:
        return []  # no bridge of Linux's
    return [name for name in found if not name.startswith(VMS)]


def master(root: str, name: str) -> str:
    """The bond or bridge that the kernel names for an interface; empty: none."""
    path = os.path.join(root, _NET, name, "master")
    return os.path.basename(os.path.realpath(path)) if os.path.lexists(path) else ""


def bond(root: str, name: str, switch: Optional[openvswitch.Switch]) -> str:
    """The bond that an interface is in; empty: none, or not known."""
    of = master(root, name)
    if of != openvswitch.SYSTEM:
        return of
    return switch.bond(name) if switch is not None else ""
