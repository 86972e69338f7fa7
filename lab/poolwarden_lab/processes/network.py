"""The lab's network: one switch, and one namespace for each host, each BMC and the collector.

Theory
------
* Everything happens inside a network and a mount namespace of the lab process's own (`enter`), so nothing of it is ever
  visible outside and all of it is gone with the last process. As root that is ``unshare -n -m``; otherwise an
  unprivileged user namespace, ``unshare -Urnm``.
* A cut is *silence*: a cable is pulled at the switch's end (``ip link set down``), a partition drops frames at the
  switch (nft, family bridge). Nobody ever gets an RST or an ICMP error for it. Without the nft command a partition is
  a permanent neighbour entry with an address that no card has: the switch floods such frames and everyone ignores
  them; as silent.
* A filtered port (`swallow`) is silence too: its listener accepts nothing and its queue is full, so that the kernel
  drops every further SYN, as a firewall does. Ping and every other port answer. It works with and without namespaces.
* Sockets stay in the namespace in which they were made, so one lab process serves all BMCs: it enters a namespace,
  opens the socket, and comes back (`Network.listen`).

`Loopback` is the fallback where namespaces are refused; `limitations` says what it cannot show.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARKER = "POOLWARDEN_LAB_NAMESPACES"
MAX_HOSTS = 64
COLLECTOR = "collector"  # of several: where their operator and the receiver of alerts are
MAX_COLLECTORS = 5
ETCD_MEMBERS = 3
GATEWAY_PORT = 7
QUEUE = 4  # more than a queue of length 0 takes (listen(2): one more than its length)
_RUN_NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:fe"  # a hardware address that no card of the lab has
_TABLE = "bridge poolwarden"
_LAUNCHER = str(Path(__file__).with_name("launch.py"))


class NetworkError(Exception):
    """The network could not do what was asked; the text says what and why."""


class Network(Protocol):
    """What the lab needs of a network. Nodes are ``h1``.., ``b1``.. and ``collector``; of several collectors also
    ``c1``.. and their etcd's members, ``e1``...
    """

    isolated: bool  # True: namespaces, real ports, silence

    def address(self, node: str) -> str: ...
    def launcher(self, node: str, *, tied: bool = True) -> list[str]: ...
    def inner(self, node: str) -> str: ...
    def listen(self, node: str, port: int) -> socket.socket: ...
    def socket_on(self, node: str) -> socket.socket: ...
    def swallow(self, node: str, port: int) -> list[socket.socket]: ...
    def set_link(self, node: str, up: bool) -> None: ...
    def link_is_up(self, node: str) -> bool: ...
    def block(self, source: str, target: str) -> None: ...
    def unblock(self, source: str, target: str) -> None: ...
    def blocked(self) -> list[tuple[str, str]]: ...
    def limitations(self) -> list[str]: ...


def collector_nodes(collectors: int) -> list[str]:
    """The nodes of several collectors; none where there is one, which is at ``collector``."""
    return [f"c{number}" for number in range(1, collectors + 1)] if collectors > 1 else []


def etcd_nodes(collectors: int) -> list[str]:
    """The nodes of their etcd's members."""
    return [f"e{number}" for number in range(1, ETCD_MEMBERS + 1)] if collectors > 1 else []


# ------------------------------------------------------------------------------------------------ entering


def flags() -> list[str]:
    """unshare(1)'s flags for this user."""
    return ["-n", "-m"] if os.geteuid() == 0 else ["-U", "-r", "-n", "-m"]


def refusal() -> str:
    """Why namespaces cannot be used here, or "" if they can. Tries what the lab will do; about 50 ms."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"the command {tool!r} is not installed (packages util-linux and iproute2)"
    attempt = (
        "mount -t tmpfs tmpfs /mnt && ip link set lo up && ip link add pwbr type bridge"
        " && ip link add pw0 type veth peer name pw1"
    )
    done = subprocess.run(["unshare", *flags(), "sh", "-c", attempt], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"unshare ended with {done.returncode}"])[-1]


def entered() -> bool:
    return os.environ.get(MARKER) == "yes"


def enter(module: str, arguments: Sequence[str]) -> str:
    """Replace this process by ``python -m module arguments`` inside namespaces of its own.

    Returns only if it is inside already ("") or if namespaces are refused: then the reason.
    """
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # where ip and nft live on Debian
    if entered():
        return ""
    reason = refusal()
    if reason:
        return reason
    os.environ[MARKER] = "yes"
    return os.execvp("unshare", ["unshare", *flags(), sys.executable, "-m", module, *arguments])


# ------------------------------------------------------------------------------------------------ namespaces


class Namespaces:
    """A switch with one port per node; call it only inside `enter`'s namespaces."""

    isolated = True

    def __init__(self, hosts: int, ipv6: bool = False, collectors: int = 1) -> None:
        if not 1 <= hosts <= MAX_HOSTS:
            raise NetworkError(f"the lab has 1 to {MAX_HOSTS} hosts, not {hosts}")
        self._every, net = ("::", "fd00:99::") if ipv6 else ("0.0.0.0", "10.99.0.")
        # Without duplicate address detection an address of IPv6 can be used at once.
        self._width = ("/64", "nodad") if ipv6 else ("/24",)
        self._nodes = {COLLECTOR: f"{net}2"}
        for number in range(1, hosts + 1):
            self._nodes[f"h{number}"] = f"{net}{10 + number}"
            self._nodes[f"b{number}"] = f"{net}{100 + number}"
        for number, node in enumerate(collector_nodes(collectors), 1):
            self._nodes[node] = f"{net}{2 + number}"
        for number, node in enumerate(etcd_nodes(collectors), 1):
            self._nodes[node] = f"{net}{200 + number}"
        self.gateway = f"{net}1"
        self._blocked: list[tuple[str, str]] = []
        self._down: set[str] = set()
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._nft = shutil.which("nft")
        self._build()

    def address(self, node: str) -> str:
        return self._nodes[node]

    def launcher(self, node: str, *, tied: bool = True) -> list[str]:
        """The words that start a program on ``node``; it dies with this process if ``tied``."""
        parent = str(os.getpid()) if tied else "-"
        return [sys.executable, "-I", "-S", _LAUNCHER, parent, str(_RUN_NETNS / node)]

    def listen(self, node: str, port: int) -> socket.socket:
        """A listening TCP socket of ``node``'s namespace on all its addresses. Raises OSError."""
        with self._inside(node):
            return _listening(self._every, port)

    def inner(self, node: str) -> str:
        """An address of the node that no other node reaches."""
        return "127.0.0.1"

    def socket_on(self, node: str) -> socket.socket:
        """A TCP socket of ``node``'s namespace, neither bound nor connected; it does not block."""
        with self._inside(node):
            return _plain(self._nodes[node])

    def swallow(self, node: str, port: int) -> list[socket.socket]:
        """From now on connects to this port of the node's address get no answer, until these are closed. OSError."""
        with self._inside(node):
            return _swallowing(self._nodes[node], port)

    def set_link(self, node: str, up: bool) -> None:
        """Plug or pull the node's cable, at the switch's end."""
        _run("ip", "-n", "sw", "link", "set", f"p-{node}", "up" if up else "down")
        (self._down.discard if up else self._down.add)(node)

    def link_is_up(self, node: str) -> bool:
        return node not in self._down

    def block(self, source: str, target: str) -> None:
        """Frames from ``source`` to ``target`` vanish at the switch; the other direction is not touched."""
        if (source, target) not in self._blocked:
            self._blocked.append((source, target))
            self._filter()

    def unblock(self, source: str, target: str) -> None:
        if (source, target) in self._blocked:
            self._blocked.remove((source, target))
            if not self._nft:
                _run("ip", "-n", source, "neigh", "del", self._nodes[target], "dev", _card(source))
            self._filter()

    def blocked(self) -> list[tuple[str, str]]:
        return list(self._blocked)

    def limitations(self) -> list[str]:
        return []

    def _build(self) -> None:
        _private_run_netns()
        for node in ("sw", *self._nodes):
            _run("ip", "netns", "add", node)
            _run("ip", "-n", node, "link", "set", "lo", "up")
        _run("ip", "-n", "sw", "link", "add", "br0", "type", "bridge")
        width, *how = self._width
        _run("ip", "-n", "sw", "addr", "add", f"{self.gateway}{width}", "dev", "br0", *how)
        _run("ip", "-n", "sw", "link", "set", "br0", "up")
        for node, address in self._nodes.items():
            card, port = _card(node), f"p-{node}"
            _run("ip", "link", "add", card, "netns", node, "type", "veth", "peer", "name", port, "netns", "sw")
            _run("ip", "-n", "sw", "link", "set", port, "master", "br0", "up")
            _run("ip", "-n", node, "addr", "add", f"{address}{width}", "dev", card, *how)
            _run("ip", "-n", node, "link", "set", card, "up")

    def _filter(self) -> None:
        if not self._nft:
            for source, target in self._blocked:
                entry = (self._nodes[target], "lladdr", _NOBODY, "dev", _card(source), "nud", "permanent")
                _run("ip", "-n", source, "neigh", "replace", *entry)
            return
        rules = "".join(f'iifname "p-{source}" oifname "p-{target}" drop\n' for source, target in self._blocked)
        chain = f"chain partition {{ type filter hook forward priority 0; policy accept;\n{rules}}}\n"
        with self._inside("sw"):
            _run(
                self._nft,
                "-f",
                "-",
                stdin=f"table {_TABLE} {{}}\ndelete table {_TABLE}\ntable {_TABLE} {{\n{chain}}}\n",
            )

    @contextlib.contextmanager
    def _inside(self, node: str) -> Iterator[None]:
        """This thread in ``node``'s network; for a few statements without an await between them."""
        handle = os.open(_RUN_NETNS / node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(handle)
            yield
        finally:
            _setns(self._own)
            os.close(handle)


def _card(node: str) -> str:
    """A host's management interface is xenbr0, as on a real dom0."""
    return "xenbr0" if node.startswith("h") else "eth0"


def _setns(handle: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) != 0:
        raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")


def _private_run_netns() -> None:
    """A tmpfs where ``ip netns`` keeps its names, in our own mount namespace."""
    where = _RUN_NETNS
    if not where.is_dir():
        try:
            where.mkdir(parents=True)
        except OSError:
            where = _RUN_NETNS.parent  # an unprivileged user cannot make it: cover /run, for this process only
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(where))
    _RUN_NETNS.mkdir(exist_ok=True)


def _run(*words: str, stdin: str = "") -> None:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(words)}: {done.stderr.strip() or f'ended with {done.returncode}'}")


def endpoint(address: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _plain(address: str) -> socket.socket:
    found = socket.socket(_family(address), socket.SOCK_STREAM)
    found.setblocking(False)
    return found


def _listening(address: str, port: int) -> socket.socket:
    listener = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _swallowing(address: str, port: int) -> list[socket.socket]:
    """A listener whose queue is full, and what fills it."""
    listener = socket.socket(_family(address), socket.SOCK_STREAM)
    opened = [listener]
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(QUEUE):
            filler = socket.socket(_family(address), socket.SOCK_STREAM)
            opened.append(filler)
            filler.setblocking(False)
            filler.connect_ex((address, port))
    except OSError:
        for each in opened:
            each.close()
        raise
    return opened


# ------------------------------------------------------------------------------------------------ the fallback


class Loopback:
    """Addresses in 127.0.0.0/8 on one machine: processes are real, the network is not."""

    isolated = False

    def __init__(self, hosts: int, reason: str, collectors: int = 1) -> None:
        self.reason = reason
        self._nodes = {COLLECTOR: "127.0.2.1"}
        for number in range(1, hosts + 1):
            self._nodes[f"h{number}"] = f"127.0.1.{number}"
            self._nodes[f"b{number}"] = f"127.0.3.{number}"
        for number, node in enumerate(collector_nodes(collectors), 1):
            self._nodes[node] = f"127.0.2.{1 + number}"
        for number, node in enumerate(etcd_nodes(collectors), 1):
            self._nodes[node] = f"127.0.5.{number}"

    def address(self, node: str) -> str:
        return self._nodes[node]

    def launcher(self, node: str, *, tied: bool = True) -> list[str]:
        return [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()) if tied else "-", "-"]

    def listen(self, node: str, port: int) -> socket.socket:
        return _listening(self._nodes[node], port)

    def socket_on(self, node: str) -> socket.socket:
        return _plain(self._nodes[node])

    def inner(self, node: str) -> str:
        return f"127.0.4.{self._nodes[node].rsplit('.', 1)[1]}"

    def swallow(self, node: str, port: int) -> list[socket.socket]:
        return _swallowing(self._nodes[node], port)

    def set_link(self, node: str, up: bool) -> None:
        """There are no links; a dead host's ports refuse instead of being silent."""

    def link_is_up(self, node: str) -> bool:
        return True

    def block(self, source: str, target: str) -> None:
        raise NetworkError(f"no partitions without namespaces ({self.reason})")

    def unblock(self, source: str, target: str) -> None:
        """Nothing was blocked."""

    def blocked(self) -> list[tuple[str, str]]:
        return []

    def limitations(self) -> list[str]:
        return [
            f"no network namespaces here: {self.reason}",
            "no cables and no partitions: a dead host refuses connections at once, where a real one is silent",
            "all hosts share one loopback device: source addresses and management interfaces are not real",
        ]


def low_ports_allowed() -> bool:
    """Whether this process may listen on ports 80 and 443."""
    try:
        _listening("127.0.9.1", 443).close()
    except OSError:
        return False
    return True
