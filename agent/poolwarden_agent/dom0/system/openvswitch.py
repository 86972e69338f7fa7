"""Which hardware stands below an Open vSwitch bridge, asked of its database over the Unix socket. Nothing is forked.

The kernel shows every interface of Open vSwitch as a port of the one device ``ovs-system``: that is no bond, and which
bridge an interface belongs to cannot be seen there. A bridge's own device always has a carrier. So ovsdb-server is
asked (RFC 7047, 4.1.3 "transact"; tables of ovs-vswitchd.conf.db(5)): a port with several interfaces is a bond, and a
VLAN's "fake bridge" is a port of the bridge that it lies on. Of a port's interfaces only those of type "system" (or of
none, which is that) are devices of the kernel: tunnels, patches to another bridge and the switch's own are not, and
have a carrier whatever the cables do. It answers from memory within milliseconds; where it does not, nothing is known.
"""

import json
import os
import re
import socket
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

SYSTEM = "ovs-system"
SOCKET = "var/run/openvswitch/db.sock"
LIMIT_S = 0.5
MOST_BYTES = 4 * 1024 * 1024
_LONGEST_PATH = 100  # struct sockaddr_un
_VMS = ("vif", "tap")
_INTERFACE = re.compile(r"[^/\s\0]{1,15}\Z")  # linux: net/core/dev.c, dev_valid_name

Port = NamedTuple("Port", [("name", str), ("interfaces", Tuple[str, ...])])


class Switch(NamedTuple):
    """Bridges and those of their ports that are NICs or bonds; ``fakes``: a VLAN's bridge -> what it lies on."""

    bridges: Dict[str, Tuple[Port, ...]]
    fakes: Dict[str, str]

    def below(self, bridge: str) -> Optional[Tuple[str, ...]]:
        """The interfaces of a bridge; None: there is no bridge of that name."""
        ports = self.bridges.get(self.fakes.get(bridge, bridge))
        return None if ports is None else tuple(name for port in ports for name in port.interfaces)

    def bond(self, interface: str) -> str:
        """The bond that an interface is in; empty: none."""
        for ports in self.bridges.values():
            for port in ports:
                if interface in port.interfaces and len(port.interfaces) > 1:
                    return port.name
        return ""


def used(root: str) -> bool:
    """Does this host's network run on Open vSwitch?"""
    return os.path.isdir(os.path.join(root, "sys/class/net", SYSTEM))


def read(root: str) -> Optional[Switch]:
    """What ovsdb-server says; None: it does not answer in time, or not as its documents say."""
    try:
        return understood(_ask(os.path.join(root, SOCKET)))
    except OSError:
        return None


def understood(said: bytes) -> Optional[Switch]:
    """An answer of ovsdb-server's; None: it is not as its documents say."""
    try:
        told = json.loads(said.decode("utf-8"))
        bridges, ports, interfaces = [answer["rows"] for answer in told["result"]]
        names = {_uuid(row["_uuid"]): _name(row) for row in interfaces if row["type"] in ("", "system")}
        by_port = {}  # type: Dict[str, Port]
        fake = set()
        for row in ports:
            inside = tuple(sorted(names[each] for each in _set(row["interfaces"]) if each in names))
            by_port[_uuid(row["_uuid"])] = Port(str(row["name"]), inside)
            if row["fake_bridge"] is True:
                fake.add(str(row["name"]))
        found, fakes = {}, {}  # type: Dict[str, Tuple[Port, ...]], Dict[str, str]
        for row in bridges:
            inside_it = [by_port[each] for each in _set(row["ports"])]
            fakes.update((port.name, str(row["name"])) for port in inside_it if port.name in fake)
            # A bridge's own port, and that of a fake bridge, is no hardware.
            own = fake | {str(row["name"])}
            nics = [port for port in sorted(inside_it) if port.interfaces and not port.name.startswith(_VMS)]
            found[str(row["name"])] = tuple(port for port in nics if port.name not in own)
        return Switch(found, fakes)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def _name(row: Dict[str, Any]) -> str:
    """The name of an interface of the kernel's, of which files are made. :raises ValueError: it is none."""
    name = str(row["name"])
    if not _INTERFACE.match(name) or name in (".", ".."):
        raise ValueError("%.30r is no name of an interface" % name)
    return name


def _ask(path: str) -> bytes:
    """One transaction that only reads."""
    selects = [
        {"op": "select", "table": table, "where": [], "columns": ["_uuid", "name"] + columns}
        for table, columns in (("Bridge", ["ports"]), ("Port", ["interfaces", "fake_bridge"]), ("Interface", ["type"]))
    ]  # type: List[Any]
    request = {"id": 1, "method": "transact", "params": ["Open_vSwitch"] + selects}
    until = time.monotonic() + LIMIT_S
    folder = None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(LIMIT_S)
        try:
            if len(os.fsencode(path)) > _LONGEST_PATH:
                folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
                path = "/proc/self/fd/%d/%s" % (folder, os.path.basename(path))
            link.connect(path)
        finally:
            if folder is not None:
                os.close(folder)
        link.sendall(json.dumps(request).encode("ascii"))
        said = b""
        while not _whole(said):
            left = until - time.monotonic()
            if left <= 0 or len(said) > MOST_BYTES:
                raise OSError("no answer in time")
            link.settimeout(left)
            more = link.recv(65536)
            if not more:
                raise OSError("it ended the connection")
            said += more
    return said


def _whole(said: bytes) -> bool:
    """Is the answer complete? The protocol has no length: a JSON text ends where its braces do."""
    if not said.endswith(b"}"):
        return False
    try:
        json.loads(said.decode("utf-8"))
    except ValueError:
        return False
    return True


def _uuid(value: Any) -> str:
    kind, text = value
    if kind != "uuid":
        raise ValueError("no UUID")
    return str(text)


def _set(value: Any) -> List[str]:
    """A set of UUIDs: one alone stands for itself (RFC 7047, 5.1)."""
    return [_uuid(each) for each in value[1]] if value[0] == "set" else [_uuid(value)]
