"""The address of one interface, without listing them all: a dom0 with a hundred VMs has hundreds of interfaces.

psutil's net_if_addrs lists them all (2.6 ms where there are 300, at each look), so the one is asked here.

IPv4 by SIOCGIFADDR (netdevice(7)): the primary address, which is the one that xapi gives to a management interface.
IPv6 from /proc/net/if_inet6: a routable one where there is one, else a link-local one.
"""

import fcntl
import socket
import struct
from typing import List

_SIOCGIFADDR = 0x8915
_NAME = 15  # characters of an interface's name
_IF_INET6 = "/proc/net/if_inet6"


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


def ipv6(interface: str, table: str = _IF_INET6) -> str:
    """Its address; empty if it has none, or is not there."""
    found: List[str] = []
    try:
        with open(table) as file:
            for line in file:
                words = line.split()
                if len(words) == 6 and words[5] == interface and len(words[0]) == 32:
                    found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0])))
    except (OSError, ValueError):
        return ""
    routable = [address for address in found if not address.startswith("fe80:")]
    return (routable or found or [""])[0]


def of(interface: str, version_6: bool) -> str:
    """The address of that family."""
    return ipv6(interface) if version_6 else ipv4(interface)
