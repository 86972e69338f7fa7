"""Start the agent: ``python3 -m poolwarden_agent --root /``.

This process is the host side: it may do everything and imports no grpc. It starts the link side as a child (the same
program with ``--link-fd``), which gives its privileges away before it imports grpc, so that the TLS stack never runs
in the privileged process.
"""

import argparse
import os
import pwd
import signal
import sys
from typing import TYPE_CHECKING, List, Optional, Tuple

from poolwarden_agent import __version__
from poolwarden_agent.config import Certificates, Config, ConfigError, load, read_certificates
from poolwarden_agent.process import core_dumps, log

if TYPE_CHECKING:
    from poolwarden_agent.dom0.identity.tls_files import TlsFiles


def main() -> int:
    if sys.argv[1:2] == ["disk"]:
        from poolwarden_agent.commands import disk

        return disk.main(sys.argv[2:])
    if sys.argv[1:2] == ["verify"]:
        from poolwarden_agent.commands import verify

        return verify.main(sys.argv[2:])
    if sys.argv[1:2] == ["why"]:
        from poolwarden_agent.commands import why

        return why.main(sys.argv[2:])
    if sys.argv[1:2] == ["enrol"]:
        from poolwarden_agent.commands import enrol

        return enrol.main(sys.argv[2:])
    if sys.argv[1:2] == ["gate"]:
        from poolwarden_agent.commands import gate

        return gate.main(sys.argv[2:])
    if sys.argv[1:2] == ["trust-key"]:
        from poolwarden_agent.commands import trust

        return trust.main(sys.argv[2:])
    if sys.argv[1:2] == ["reset-numbers"]:
        from poolwarden_agent.commands import numbers

        return numbers.main(sys.argv[2:])
    if sys.argv[1:2] == ["prepare"]:
        return _prepare(sys.argv[2:])
    arguments = _arguments()
    core_dumps.forbid()
    path = arguments.config or os.path.join(arguments.root, "etc/poolwarden/agent.conf")
    try:
        config = load(path, arguments.root)
        user = _user(config)
        if arguments.link_fd >= 0:
            return _link_side(arguments.link_fd, arguments.root, config, user)
        return _host_side(arguments.root, config)
    except ConfigError as error:
        return _fail(str(error))


def _prepare(rest: List[str]) -> int:
    """At installation: allocate what must be durable, before a full disk can be in the way. Keeps what is there."""
    from poolwarden_agent.core.gate_state import decode
    from poolwarden_agent.dom0.dom0 import SLOTS
    from poolwarden_agent.dom0.system.latch import Latch
    from poolwarden_agent.dom0.system.policy_file import keep_fence_proxy
    from poolwarden_agent.dom0.system.slots import SlotError, Slots

    parser = argparse.ArgumentParser(prog="poolwarden-agent prepare", description="Allocates the agent's state.")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    root = parser.parse_args(rest).root
    try:
        keep_fence_proxy(root)
    except OSError as error:
        sys.stderr.write("poolwarden-agent: fence_proxy in policy.conf could not be kept: %s\n" % error)
    try:
        directory = os.path.join(root, SLOTS)
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
        "poolwarden-agent verify: what is believed of a dom0, looked at on this one. "
        "poolwarden-agent why: why xapi does not start here, and what helps. "
        "poolwarden-agent enrol: gets this host its certificate from the collector, or shows it (--status). "
        "poolwarden-agent gate status|open|release|forget: may xapi start here, and what it waits for. "
        "poolwarden-agent trust-key KEY|--add|--remove|--list: whose signed orders are obeyed. "
        "poolwarden-agent reset-numbers: forget the stored epoch and term."
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


def _link_side(descriptor: int, root: str, config: Config, user: Tuple[int, ...]) -> int:
    from poolwarden_agent.dom0.system import files

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the host side says when to go
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read before the privileges go: the key's file is root's alone (mode 0600, as it was issued), and stays so.
    try:
        certificates, trouble = _read(config), ""
    except ConfigError as error:
        certificates, trouble = None, str(error)
    host_uuid = files.inventory(root).get("INSTALLATION_UUID", "")
    if user:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # a line for every failed handshake; ours say why, and not often
    from poolwarden_agent.link import client
    from poolwarden_agent.process.link_process import adopt

    return client.main(adopt(descriptor), config, certificates, trouble, host_uuid)


def _host_side(root: str, config: Config) -> int:
    from poolwarden_agent.core.collector_turns import joined
    from poolwarden_agent.dom0.dom0 import Dom0
    from poolwarden_agent.host.host_side import HostSide
    from poolwarden_agent.process.link_process import LinkProcess
    from poolwarden_agent.process.runner import Runner, python_version

    port = Dom0(root, config)
    identity = port.identity()
    log.name(identity.name or "-")
    if not identity.host or not identity.boot_id:
        return _fail("%s has no INSTALLATION_UUID in etc/xensource-inventory (or no boot id): is this a dom0?" % root)
    _read(config)
    files = (config.ca, config.certificate, config.key)
    tls = _identity_files(config)
    collectors = [joined(each) for each in config.collectors]
    side, link = HostSide(port, python_version(), background=True), LinkProcess(_command(), files)
    Runner(side, link, root, tls, collectors).run()
    port.close()
    sys.stderr.flush()
    os._exit(0)  # the threads that still look at something have nothing to tidy up


def _identity_files(config: Config) -> "Optional[TlsFiles]":
    """This host's certificate files where enrolment keeps them; None where they are somebody's own."""
    from poolwarden_agent.dom0.identity.tls_files import CA, CERTIFICATE, KEY, TlsFiles

    tls = TlsFiles(os.path.dirname(config.certificate))
    ours = tuple(tls.path(name) for name in (CA, CERTIFICATE, KEY))
    return tls if (config.ca, config.certificate, config.key) == ours else None


def _read(config: Config) -> Certificates:
    """The three files, after an interrupted replacement of them was put right. :raises ConfigError: as it reads."""
    from poolwarden_agent.dom0.identity.tls_files import TlsError

    tls = _identity_files(config)
    if tls is None:
        return read_certificates(config)
    try:
        with tls.settled() as said:
            if said:
                log.say(said, "renewal")
            return read_certificates(config)
    except TlsError:  # a disk that takes no writes: what can be read is used as it is
        return read_certificates(config)


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
