"""Tables of the kernel's network by one request over netlink (netlink(7), rtnetlink(7)); no program is run for it."""

import socket
import struct
from typing import Dict, Iterator, List, Tuple

ADDRESSES, NEIGHBOURS = 22, 30  # RTM_GETADDR, RTM_GETNEIGH: what is asked for; each row of the answer is two less
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LIMIT_S = 0.5
_MOST_READS = 200

# A row: its fixed part, then its attributes by their number.
Row = Tuple[bytes, Dict[int, bytes]]


def dump(what: int, family: int, fixed: int) -> List[Row]:
    """The table in the kernel's order, rows of ``fixed`` bytes and attributes; empty if the kernel cannot be asked."""
    request = _HEADER.pack(_HEADER.size + fixed, what, _DUMP, 1, 0) + struct.pack("=B%dx" % (fixed - 1), family)
    found = []  # type: List[Row]
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            link.settimeout(_LIMIT_S)
            link.sendto(request, (0, 0))
            for _ in range(_MOST_READS):
                if _take(link.recv(65536), what - 2, fixed, found):
                    break
    except OSError:
        return []
    return found


def _take(data: bytes, kind: int, fixed: int, found: List[Row]) -> bool:
    """Note the rows of one datagram; whether it was the last one."""
    while len(data) >= _HEADER.size:
        length, of = _HEADER.unpack_from(data)[:2]
        if of in (_DONE, _ERROR) or length < _HEADER.size:
            return True
        row, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
        if of == kind and len(row) >= fixed:
            found.append((row[:fixed], dict(_attributes(row[fixed:]))))
    return False


def _attributes(data: bytes) -> Iterator[Tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
