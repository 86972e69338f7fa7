"""Who answers on the local network: the default gateway, another host. ARP for IPv4, neighbour discovery for IPv6.

The kernel asks only for traffic, and what once answered counts until it got no reply: so each question begins with a
datagram to the discard port, and its answer is there at the next question. What somebody has entered by hand (permanent
entries) has never answered and counts for nothing.

Only a gateway on the management interface says anything about that network. The default route may go through another
one: xapi sets it on the PIF with ``other_config:defaultroute`` (xapi: ocaml/xapi/helpers.ml,
determine_gateway_and_dns_ifs). Then no gateway is known here, and the hosts of the pool are asked instead.
"""

import re
import socket
import struct
from typing import Dict, List, Optional, Set

from poolwarden_agent.core.addresses import is_address
from poolwarden_agent.dom0.system import files, netlink

_ROUTE_UP = 0x3  # RTF_UP | RTF_GATEWAY (linux/route.h)
_COMPLETE, _PERMANENT = 0x2, 0x4  # ATF_COM, ATF_PERM (linux/if_arp.h)
_HEX, _IPV4, _IPV6 = (re.compile(form + "\\Z") for form in ("(?:0x)?[0-9A-Fa-f]{1,8}", "[0-9A-F]{8}", "[0-9a-f]{32}"))
_DISCARD = 9
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # struct ndmsg (linux/neighbour.h)
_DESTINATION = 1  # NDA_DST
_VALID = 0x02 | 0x04 | 0x08 | 0x10  # NUD_: reachable, stale, delay, probe


def gateway(root: str, interface: str) -> Optional[bool]:
    """Does the default gateway on this interface answer? None: it has none, of either version of IP."""
    address = _gateway(files.read(root, "proc/net/route") or "", interface)
    address = address or _gateway6(files.read(root, "proc/net/ipv6_route", 1024 * 1024) or "", interface)
    return answers(root, [address]) if address else None


def answers(root: str, addresses: List[str]) -> bool:
    """Has any of these hosts, IP literals, answered since the kernel last asked for it?"""
    there = [address for address in addresses if is_address(address.split("%")[0])]
    for address in there:
        _knock(address)
    arp = _arp(root) if any(":" not in address for address in there) else {}
    known = _neighbours6() if any(":" in address for address in there) else set()
    return any(
        arp.get(address, 0) & (_COMPLETE | _PERMANENT) == _COMPLETE or _bare(address) in known for address in there
    )


def _gateway(routes: str, interface: str) -> str:
    """Of proc/net/route: device, destination, gateway, flags, counts, metric, mask."""
    for line in routes.splitlines()[1:]:
        words = line.split()
        default = len(words) > 7 and words[0] == interface and words[1] == words[7] == "00000000"
        if default and _is_up(words[3]) and _IPV4.match(words[2]):
            return socket.inet_ntoa(bytes.fromhex(words[2])[::-1])
    return ""


def _gateway6(routes: str, interface: str) -> str:
    """Of proc/net/ipv6_route: destination, length, source, length, next hop, metric, two counts, flags, device."""
    for line in routes.splitlines():
        words = line.split()
        default = len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] == interface
        if default and _is_up(words[8]) and _IPV6.match(words[4]):
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[4]))
            return "%s%%%s" % (address, words[9]) if address.startswith("fe80:") else address
    return ""


def _is_up(flags: str) -> bool:
    return bool(_HEX.match(flags)) and int(flags, 16) & _ROUTE_UP == _ROUTE_UP


def _arp(root: str) -> Dict[str, int]:
    found = {}
    for line in (files.read(root, "proc/net/arp", 1024 * 1024) or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 2 and _HEX.match(words[2]):
            found[words[0]] = int(words[2], 16)
    return found


def _neighbours6() -> Set[bytes]:
    """Addresses of IPv6 hosts that have answered, as 16 bytes; none where the kernel cannot be asked."""
    rows = netlink.dump(netlink.NEIGHBOURS, socket.AF_INET6, _NEIGHBOUR.size)
    return {more.get(_DESTINATION, b"") for fixed, more in rows if _NEIGHBOUR.unpack(fixed)[4] & _VALID}


def _bare(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address.split("%")[0])


def _knock(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as knock:
            knock.setblocking(False)
            where = socket.getaddrinfo(address, _DISCARD, family, 0, 0, socket.AI_NUMERICHOST)[0][4]
            knock.sendto(b"", where)
    except OSError:
        pass
