"""``python -m poolwarden_lab.xapi``: one simulated xapi process in one host's tree. See `sockets`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from poolwarden_lab.xapi.sockets import Settings, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="poolwarden_lab.xapi", description="One simulated xapi process.")
    parser.add_argument("--root", type=Path, required=True, help="the host's tree")
    parser.add_argument("--address", required=True, help="management address, an IP literal; peers call it")
    parser.add_argument("--time-factor", type=float, default=1.0, help="divides the model's own durations")
    parser.add_argument("--http", default="", help="HOST:PORT of plain HTTP; default all addresses, port 80")
    parser.add_argument("--tls-port", type=int, default=443, help="port of TLS, here and on every peer")
    parser.add_argument("--tls-address", default="", help="where TLS listens; default all, or the management one")
    parser.add_argument("--variant", choices=("A", "B"), default="A", help="a member starting without master: A blocks")
    args = parser.parse_args()
    host, _, port = args.http.rpartition(":")
    own_namespace, every = not args.http, "::" if ":" in args.address else "0.0.0.0"
    settings = Settings(
        root=args.root,
        address=args.address,
        time_factor=args.time_factor,
        http=(every, 80) if own_namespace else (host, int(port)),
        tls=(args.tls_address or (every if own_namespace else args.address), args.tls_port),
        peer_port=args.tls_port,
        variant=args.variant,
    )
    try:
        return run(settings)
    except (OSError, ValueError) as error:
        print(f"poolwarden_lab.xapi: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
