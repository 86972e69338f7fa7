"""A bare echo over grpc.aio: ``scale_echo.py PORT TLS``. What the same messages cost without a collector behind them.

The collector's own options and the certificate of its folder ``TLS``, mutual TLS; each message goes back as it came.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path
from typing import Any

from machine import find_code

find_code()

import grpc  # noqa: E402

from poolwarden_collector.shell.agents.port import OPTIONS  # noqa: E402


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(self.attach)

    async def attach(self, _: object, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)


async def serve(port: int, tls: Path) -> None:
    pair = ((tls / "key.pem").read_bytes(), (tls / "cert.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (tls / "ca.pem").read_bytes(), require_client_auth=True)
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Echo(),))
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
