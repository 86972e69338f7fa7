"""Start the agent: ``python3 -m poolwarden_agent --root /``.

This process is the host side: it may do everything and imports no grpc. It starts the link side as a child (the same
program with ``--link-fd``), which gives its privileges away before it imports grpc, so that the TLS stack never lives
in the privileged process.
"""

import argparse
import os
import pwd
import signal
import sys
from typing import List, Tuple

from poolwarden_agent import __version__
from poolwarden_agent.config import Config, ConfigError, load, read_certificates
from poolwarden_agent.process import log


def main() -> int:
    if sys.argv[1:2] == ["disk"]:
        from poolwarden_agent.commands import disk

        return disk.main(sys.argv[2:])
    if sys.argv[1:2] == ["gate"]:
        from poolwarden_agent.commands import gate

        return gate.main(sys.argv[2:])
    if sys.argv[1:2] == ["prepare"]:
        return _prepare(sys.argv[2:])
    arguments = _arguments()
    path = arguments.config or os.path.join(arguments.root, "etc/poolwarden/agent.conf")
    try:
        config = load(path, arguments.root)
        user = _user(config)
        if arguments.link_fd >= 0:
            return _link_side(arguments.link_fd, config, user)
        return _host_side(arguments.root, config)
    except ConfigError as error:
        return _fail(str(error))


def _prepare(rest: List[str]) -> int:
    """At installation: allocate what must be durable, before a full disk can be in the way. Keeps what is there."""
    from poolwarden_agent.core.gate_state import decode
    from poolwarden_agent.dom0.dom0 import SLOTS
    from poolwarden_agent.dom0.system.latch import Latch
    from poolwarden_agent.dom0.system.slots import SlotError, Slots

    parser = argparse.ArgumentParser(prog="poolwarden-agent prepare", description="Allocates the agent's state.")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    try:
        directory = os.path.join(parser.parse_args(rest).root, SLOTS)
        Slots(directory).prepare()
        Latch(directory).prepare()
    except SlotError as error:
        return _fail("%s; make room and run: poolwarden-agent prepare" % error)
    try:
        payload = Slots(directory).load()
        decode(payload) if payload else None
    except (SlotError, ValueError) as error:
        # Another version's, or spoiled: said at the installation, not first at xapi's next start.
        return _fail("%s. Until then orders are refused; see: poolwarden-agent gate status" % error)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="poolwarden-agent", description="Reports this host and obeys checked orders.")
    parser.epilog = (
        "poolwarden-agent disk: how full this host is, what fills it, what could be given back. "
        "poolwarden-agent gate status|open|release|forget: may xapi start here, and what it waits for."
    )
    parser.add_argument("--root", default="/", help="the directory that is this host's / (default: /)")
    parser.add_argument("--config", default="", help="default: ROOT/etc/poolwarden/agent.conf")
    parser.add_argument("--link-fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version="poolwarden-agent %s" % __version__)
    return parser.parse_args()


def _user(config: Config) -> Tuple[int, ...]:
    """User and group to become; empty: stay."""
    if not config.user or os.geteuid() != 0:
        return ()
    try:
        entry = pwd.getpwnam(config.user)
    except KeyError:
        raise ConfigError("user %s does not exist; create it or leave the key out" % config.user) from None
    return entry.pw_uid, entry.pw_gid


def _link_side(descriptor: int, config: Config, user: Tuple[int, ...]) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the host side says when to go
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read before the privileges go: the key's file is root's alone (mode 0600, as it was issued), and stays so.
    try:
        certificates, trouble = read_certificates(config), ""
    except ConfigError as error:
        certificates, trouble = None, str(error)
    if user:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # a line for every failed handshake; ours say why, and not often
    from poolwarden_agent.link import client
    from poolwarden_agent.process.link_process import adopt

    return client.main(adopt(descriptor), config, certificates, trouble)


def _host_side(root: str, config: Config) -> int:
    from poolwarden_agent.dom0.dom0 import Dom0
    from poolwarden_agent.host.host_side import HostSide
    from poolwarden_agent.process.link_process import LinkProcess
    from poolwarden_agent.process.runner import Runner, python_version

    port = Dom0(root, config)
    identity = port.identity()
    log.name(identity.name or "-")
    if not identity.host or not identity.boot_id:
        return _fail("%s has no INSTALLATION_UUID in etc/xensource-inventory (or no boot id): is this a dom0?" % root)
    read_certificates(config)
    files = (config.ca, config.certificate, config.key)
    Runner(HostSide(port, python_version(), background=True), LinkProcess(_command(), files), root).run()
    port.close()
    sys.stderr.flush()
    os._exit(0)  # the threads that still look at something have nothing to tidy up


def _command() -> List[str]:
    """How the child is started: as this process was."""
    if os.path.basename(sys.argv[0]) == "__main__.py":
        return [sys.executable, "-m", "poolwarden_agent"] + sys.argv[1:]
    return [sys.executable, "-I", "-S"] + sys.argv


def _fail(text: str) -> int:
    sys.stderr.write("poolwarden-agent: %s\n" % text)
    return 2


if __name__ == "__main__":
    sys.exit(main())
