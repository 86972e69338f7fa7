"""Does a host's kernel answer an ICMP echo request? No program is run for it, and no name is looked up.

A raw socket (icmp(7), CAP_NET_RAW), or where that is not allowed a datagram socket of the ICMP protocol
(net.ipv4.ping_group_range). An echo reply counts if it comes from the very address that was asked and carries the
random token of this request. Addresses of the loopback network are those of the asker itself: nothing is learnt there.
"""

import os
import select
import socket
import struct
import time
from typing import NamedTuple, Tuple

from poolwarden_agent.core.addresses import is_address

_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}  # types of RFC 792 and RFC 4443
_LONGEST = 2048


class Ping(NamedTuple):
    """``answered``: an echo reply came; the text says what was tried and what came."""

    answered: bool
    text: str


def of_this_machine(address: str) -> bool:
    """Is it an address that every machine has for itself?"""
    return address.startswith("127.") or address.split("%")[0] == "::1"


def ask(address: str, limit_s: float) -> Ping:
    """Ask at most twice within ``limit_s`` seconds."""
    if not is_address(address) or of_this_machine(address):
        return Ping(False, "not pinged")
    version = 6 if ":" in address else 4
    try:
        opened, raw = open_socket(version)
    except OSError as error:
        return Ping(False, "cannot be pinged: %s" % (error.strerror or error))
    with opened:
        try:
            return _ask(opened, raw, version, address, limit_s)
        except OSError as error:
            return Ping(False, "ping: %s" % (error.strerror or error))


def open_socket(version: int) -> Tuple[socket.socket, bool]:
    """An ICMP socket for this version of IP, and whether it is a raw one. :raises OSError: none can be opened."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    try:
        return socket.socket(family, socket.SOCK_RAW, protocol), True
    except PermissionError:
        return socket.socket(family, socket.SOCK_DGRAM, protocol), False


def _ask(link: socket.socket, raw: bool, version: int, address: str, limit_s: float) -> Ping:
    link.setblocking(False)
    flags = socket.AI_NUMERICHOST
    where = socket.getaddrinfo(address, None, link.family, 0, 0, flags)[0][4]
    token = os.urandom(16)
    began = time.monotonic()
    request, sent = echo_request(version, token), 0
    while True:
        waited = time.monotonic() - began
        if waited >= limit_s:
            return Ping(False, "no answer to a ping")
        if sent == 0 or (sent == 1 and waited >= limit_s / 2):
            link.sendto(request, where)
            sent += 1
        until = limit_s if sent > 1 else limit_s / 2
        if not select.select([link], [], [], max(0.0, until - waited))[0]:
            continue
        data, sender = link.recvfrom(_LONGEST)
        if sender[0].split("%")[0] == where[0].split("%")[0] and answers(version, raw, data, token):
            return Ping(True, "answers ping")


def echo_request(version: int, token: bytes) -> bytes:
    """An echo request; a datagram socket puts its own identifier, and ICMPv6 its checksum, into it."""
    identifier = struct.unpack("!H", token[:2])[0]
    head = struct.pack("!BBHHH", _REQUEST[version], 0, 0, identifier, 1)
    checksum = 0 if version == 6 else _checksum(head + token)
    return struct.pack("!BBHHH", _REQUEST[version], 0, checksum, identifier, 1) + token


def answers(version: int, raw: bool, data: bytes, token: bytes) -> bool:
    """Is this packet the reply that carries the token? A raw IPv4 socket gives the IP header, too (raw(7))."""
    if version == 4 and raw:
        data = data[(data[0] & 15) * 4 :] if data else b""
    return len(data) >= 8 and data[0] == _REPLY[version] and data[8:] == token


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
