"""Start the agent: ``python3 -m poolwarden_agent --root /``.

The host side and the link side part by a fork *before* grpc is imported, so that the TLS stack never lives in the
privileged process. If the link side dies, the host side ends the order in hand and starts both anew by exec: durable
state makes that harmless.
"""

import argparse
import os
import pwd
import signal
import socket
import sys
import time

from poolwarden_agent import __version__, log
from poolwarden_agent.config import Config, ConfigError, load

RESTART_PAUSE_S = 1.0


def main() -> int:
    arguments = _arguments()
    root = arguments.root
    path = arguments.config or os.path.join(root, "etc/poolwarden/agent.conf")
    try:
        config = load(path, root)
        uid = _user(config)
    except ConfigError as error:
        return _fail(str(error))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        ours.close()
        _link_side(theirs, config, uid)
    theirs.close()
    return _host_side(ours, child, root, config)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="poolwarden-agent", description="Reports this host and obeys checked orders.")
    parser.add_argument("--root", default="/", help="the directory that is this host's / (default: /)")
    parser.add_argument("--config", default="", help="default: ROOT/etc/poolwarden/agent.conf")
    parser.add_argument("--version", action="version", version="poolwarden-agent %s" % __version__)
    return parser.parse_args()


def _user(config: Config) -> tuple:
    if not config.user or os.geteuid() != 0:
        return ()
    try:
        entry = pwd.getpwnam(config.user)
    except KeyError:
        raise ConfigError("user %s does not exist; create it or leave the key out" % config.user) from None
    return entry.pw_uid, entry.pw_gid


def _link_side(pipe: socket.socket, config: Config, uid: tuple) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the host side says when to go
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if uid:
        os.setgroups([])
        os.setgid(uid[1])
        os.setuid(uid[0])
    from poolwarden_agent.link import client

    client.main(pipe, config)


def _host_side(pipe: socket.socket, child: int, root: str, config: Config) -> int:
    from poolwarden_agent.dom0.host import Dom0
    from poolwarden_agent.dom0.slots import SlotError
    from poolwarden_agent.hostside import HostSide
    from poolwarden_agent.runner import LinkLost, Runner, python_version

    port = Dom0(root, config)
    identity = port.identity()
    log.name(identity.name or "-")
    if not identity.host or not identity.boot_id:
        os.kill(child, signal.SIGKILL)
        return _fail("%s has no INSTALLATION_UUID in etc/xensource-inventory (or no boot id): is this a dom0?" % root)
    try:
        port.prepare()
    except SlotError as error:
        log.say("%s: reports go on, every order is refused" % error)
    runner = Runner(HostSide(port, python_version()), pipe)
    try:
        runner.run()
    except LinkLost:
        _reap(child)
        runner.settle(25.0)
        log.say("the link side has ended; starting anew")
        time.sleep(RESTART_PAUSE_S)
        os.execv(sys.executable, _command())
    pipe.shutdown(socket.SHUT_WR)
    _reap(child)
    port.close()
    return 0


def _command() -> list:
    if os.path.basename(sys.argv[0]) == "__main__.py":
        return [sys.executable, "-m", "poolwarden_agent"] + sys.argv[1:]
    return [sys.executable, "-I", "-S"] + sys.argv


def _reap(child: int) -> None:
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        try:
            if os.waitpid(child, os.WNOHANG)[0]:
                return
        except OSError:
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _fail(text: str) -> int:
    sys.stderr.write("poolwarden-agent: %s\n" % text)
    return 2


if __name__ == "__main__":
    sys.exit(main())
