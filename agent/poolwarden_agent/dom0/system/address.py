"""The address of one interface, without listing them all: a dom0 with a hundred VMs has hundreds of interfaces.

psutil's net_if_addrs lists them all (2.6 ms where there are 300, at each look), so the one is asked here.

IPv4 by SIOCGIFADDR (netdevice(7)): the primary address, which is the one that xapi gives to a management interface.
IPv6 over netlink, in the kernel's order, which is that of ``ip -6 addr``: the first that is not link-local, as xapi
takes it (xapi: ocaml/networkd/lib/network_utils.ml, Ip.get_ipv6; ocaml/gencert/lib.ml, get_management_ip_addrs).
/proc/net/if_inet6 has another order.
"""

import fcntl
import socket
import struct

from poolwarden_agent.dom0.system import netlink

_SIOCGIFADDR = 0x8915
_NAME = 15  # characters of an interface's name
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg (linux/if_addr.h)
_IFA_ADDRESS = 1


def ipv4(interface: str) -> str:
    """Its address; empty if it has none, or is not there."""
    if not 0 < len(interface) <= _NAME:
        return ""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        request = struct.pack("256s", interface.encode("ascii", "replace"))
        answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
        return socket.inet_ntoa(answer[20:24])
    except OSError:
        return ""
    finally:
        asking.close()


def ipv6(interface: str) -> str:
    """Its address; empty if it has none that is routable, or is not there."""
    try:
        number = socket.if_nametoindex(interface)
    except (OSError, ValueError):
        return ""
    for fixed, more in netlink.dump(netlink.ADDRESSES, socket.AF_INET6, _ADDRESS.size):
        address = more.get(_IFA_ADDRESS, b"")
        if _ADDRESS.unpack(fixed)[4] == number and len(address) == 16:
            text = socket.inet_ntop(socket.AF_INET6, address)
            if not text.startswith("fe80:"):
                return text
    return ""


def of(interface: str, version_6: bool) -> str:
    """The address of that family."""
    return ipv6(interface) if version_6 else ipv4(interface)
