"""The link side's relay in a process of its own, with shorter limits and a resolver of the test's own.

Started as ``link_child.py FD ROOT JSON``; JSON: ``connect_s``, ``welcome_s``, and ``names``: name -> its addresses, in
order, none: there is no such name, null: the resolver hangs. Every name that is asked for is a line of ROOT/asked.
"""

import json
import os
import socket
import sys
import time

from poolwarden_agent.config import Certificates, load
from poolwarden_agent.core import collector_turns
from poolwarden_agent.link import client
from poolwarden_agent.process.link_process import adopt


def resolver(root, names):
    real = socket.getaddrinfo

    def resolve(name, *rest, **more):
        if name not in names:
            return real(name, *rest, **more)
        with open(os.path.join(root, "asked"), "a", encoding="utf-8") as asked:
            asked.write(name + "\n")
        if names[name] is None:
            time.sleep(60)
        if not names[name]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, socket.SOCK_STREAM, 6, "", (address, 0)) for address in names[name]]

    return resolve


def main():
    root, how = sys.argv[2], json.loads(sys.argv[3])
    client.CONNECT_LIMIT_S = how.get("connect_s", client.CONNECT_LIMIT_S)
    collector_turns.FIRST_WELCOME_S = how.get("welcome_s", collector_turns.FIRST_WELCOME_S)
    socket.getaddrinfo = resolver(root, how.get("names", {}))
    client.first_of = lambda host, count: 0
    config = load(os.path.join(root, "etc/poolwarden/agent.conf"), root)
    read = []
    for name in ("ca.pem", "cert.pem", "key.pem"):
        with open(os.path.join(root, "etc/poolwarden/tls", name), "rb") as file:
            read.append(file.read())
    client.main(adopt(int(sys.argv[1])), config, Certificates(*read), "", "")


if __name__ == "__main__":
    main()
