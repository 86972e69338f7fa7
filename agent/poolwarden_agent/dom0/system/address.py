"""The address of one interface, without listing them all: a dom0 with a hundred VMs has hundreds of interfaces.

psutil's net_if_addrs lists them all (2.6 ms where there are 300, at each look), so the one is asked here.

xapi takes the first of the family that the inventory names, in the order of ``ip addr show``, which is not link-local
(xapi: ocaml/xapi-aux/networking_info.ml, get_management_ip_addrs; ocaml/networkd/lib/network_utils.ml, Ip.get_ipv6).
Nothing else counts: temporary, deprecated and tentative addresses are taken like any other, and where there are none
but link-local ones xapi has no address. That order is the kernel's, which netlink tells: of one scope the newest comes
first (linux: net/ipv6/addrconf.c, ipv6_link_dev_addr). /proc/net/if_inet6 has another one.

IPv4 is asked by SIOCGIFADDR (netdevice(7)), the primary address; over netlink where that is link-local.
"""

import fcntl
import socket
import struct
from typing import Iterator

from poolwarden_agent.dom0.system import netlink

_SIOCGIFADDR = 0x8915
_NAME = 15  # characters of an interface's name
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg (linux/if_addr.h)
_IFA_ADDRESS, _IFA_LOCAL = 1, 2  # linux/if_addr.h: of a point-to-point interface the other end, and one's own
_LINK_LOCAL = ("fe80:", "169.254.")


def ipv4(interface: str) -> str:
    """Its address; empty if it has none that is routable, or is not there."""
    if not 0 < len(interface) <= _NAME:
        return ""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        request = struct.pack("256s", interface.encode("ascii", "replace"))
        first = socket.inet_ntoa(fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)[20:24])
    except OSError:
        return ""
    finally:
        asking.close()
    return _first(interface, socket.AF_INET) if first.startswith(_LINK_LOCAL) else first


def ipv6(interface: str) -> str:
    """Its address; empty if it has none that is routable, or is not there."""
    return _first(interface, socket.AF_INET6)


def _first(interface: str, family: int) -> str:
    return next((each for each in _all(interface, family) if not each.startswith(_LINK_LOCAL)), "")


def _all(interface: str, family: int) -> Iterator[str]:
    """Its addresses of this family, in the kernel's order."""
    try:
        number = socket.if_nametoindex(interface)
    except (OSError, ValueError):
        return
    for fixed, more in netlink.dump(netlink.ADDRESSES, family, _ADDRESS.size):
        address = more.get(_IFA_LOCAL) or more.get(_IFA_ADDRESS, b"")
        of = _ADDRESS.unpack(fixed)
        if (of[0], of[4]) == (family, number) and len(address) == (16 if family == socket.AF_INET6 else 4):
            yield socket.inet_ntop(family, address)


def of(interface: str, version_6: bool) -> str:
    """The address of that family."""
    return ipv6(interface) if version_6 else ipv4(interface)
