"""The table of running domains, by xapi's line protocol and by xenstore's wire protocol."""

import asyncio
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from poolwarden_lab.xapi.hypervisor import Domains, HypervisorClient, HypervisorServer, Kill

ROOT = Path(f"/tmp/pwv{os.getpid()}")


async def serve(work: Callable[[HypervisorServer], object]) -> list[Kill]:
    heard: list[Kill] = []
    server = HypervisorServer(ROOT, Domains("dom0-uuid"), heard.append)
    try:
        await server.start()
        await asyncio.to_thread(work, server)
    finally:
        await server.stop()
        shutil.rmtree(ROOT)
    return heard


def ask(link: socket.socket, kind: int, path: str) -> tuple[int, bytes]:
    payload = path.encode() + b"\0"
    link.sendall(struct.pack("<IIII", kind, 7, 0, len(payload)) + payload)
    answer, request, _, length = struct.unpack("<IIII", link.recv(16, socket.MSG_WAITALL))
    assert request == 7
    return answer, link.recv(length, socket.MSG_WAITALL) if length else b""


def test_domains_are_created_listed_and_killed_with_a_reason() -> None:
    def work(_server: HypervisorServer) -> None:
        client = HypervisorClient(ROOT)
        client.create("u1", "web")
        client.create("u1", "again")
        client.create("u2", "db")
        assert client.domains() == {"u1": "web", "u2": "db"}
        client.kill("u1", "why not")
        client.kill("u1", "twice")
        assert client.domains() == {"u2": "db"}

    assert asyncio.run(serve(work)) == [Kill("u1", "web", "why not")]


def test_xenstore_knows_the_same_domains() -> None:
    def work(server: HypervisorServer) -> None:
        server.domains.create("u1", "web")
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(ROOT / "var/run/xenstored/socket"))
            assert ask(link, 1, "/local/domain") == (1, b"0\x001\0")
            assert ask(link, 2, "/local/domain/1/vm") == (2, b"/vm/u1")
            assert ask(link, 2, "/local/domain/0/vm") == (2, b"/vm/dom0-uuid")
            assert ask(link, 2, "/local/domain/9/vm") == (16, b"ENOENT\0")
            assert ask(link, 11, "/local/domain") == (16, b"ENOSYS\0")

    asyncio.run(serve(work))


def test_nonsense_is_answered_with_an_error() -> None:
    def work(_server: HypervisorServer) -> None:
        with socket.socket(socket.AF_UNIX) as link, link.makefile("rb") as answers:
            link.connect(str(ROOT / "var/run/xenopsd.sock"))
            for line in (b"nonsense\n", b'{"op": "fly"}\n', b'{"op": "kill"}\n', b"[]\n"):
                link.sendall(line)
                assert b"error" in answers.readline()

    asyncio.run(serve(work))


def test_without_a_server_the_client_raises() -> None:
    with pytest.raises(OSError):
        HypervisorClient(Path("/tmp/nowhere")).domains()
