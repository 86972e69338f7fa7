"""A host's running domains, kept outside xapi: the server that owns the table and the client that xapi uses.

Domains live on while xapi restarts, so that they belong to the host's supervisor. `HypervisorServer` serves one table
on two sockets below the host's tree:

* ``var/run/xenopsd.sock``: one JSON object a line. ``{"op": "list"}`` -> ``{"domains": {uuid: name}}``, ``{"op":
  "create", "uuid", "name"}``, ``{"op": "end", "uuid"}`` and ``{"op": "kill", "uuid", "why"}`` -> ``{}``, ``{"op":
  "kills"}`` -> ``{"kills": [...]}``.
* ``var/run/xenstored/socket``: xenstore's wire protocol, header of four little-endian u32 (type, request, transaction,
  length). DIRECTORY = 1 and READ = 2 are answered from the same table, everything else with ERROR = 16.

xenstore's paths: ``/local/domain`` lists domain ids, ``/local/domain/N/vm`` names ``/vm/<uuid>``, domain 0 is the
control domain. A kill that xapi orders is kept with its reason, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

XENOPSD_SOCKET = "var/run/xenopsd.sock"
XENSTORE_SOCKET = "var/run/xenstored/socket"
DIRECTORY, READ, ERROR = 1, 2, 16
_HEADER = struct.Struct("<IIII")
_XENSTORE_MAX = 4096


@dataclass(frozen=True, slots=True)
class Kill:
    uuid: str
    name: str
    why: str


class Domains:
    """The table of one host: running domains with their ids, and what was killed."""

    def __init__(self, control_domain_uuid: str = "", created: Callable[[str], None] | None = None) -> None:
        """`created` hears the VM uuid of every domain that begins here."""
        self.control_domain_uuid = control_domain_uuid
        self._created = created
        self.kills: list[Kill] = []
        self._table: dict[str, tuple[int, str]] = {}
        self._last_id = 0

    def domains(self) -> dict[str, str]:
        """VM uuid -> name, without domain 0."""
        return {uuid: name for uuid, (_, name) in self._table.items()}

    def create(self, uuid: str, name: str) -> None:
        if uuid not in self._table:
            self._last_id += 1
            self._table[uuid] = (self._last_id, name)
            if self._created is not None:
                self._created(uuid)

    def runs(self, uuid: str) -> bool:
        return uuid in self._table

    def kill(self, uuid: str, why: str) -> None:
        """Terminate one; a domain that does not run is fine."""
        _, name = self._table.pop(uuid, (0, None))
        if name is not None:
            self.kills.append(Kill(uuid, name, why))

    def end(self, uuid: str) -> None:
        """It shut down, or went on to another host: nothing was killed."""
        self._table.pop(uuid, None)

    def clear(self) -> None:
        """The power went."""
        self._table.clear()

    def xenstore(self, kind: int, path: str) -> bytes | None:
        """The payload that answers a xenstore request; None: no such node."""
        nodes = {"0": self.control_domain_uuid, **{str(number): uuid for uuid, (number, _) in self._table.items()}}
        names = {"0": "Domain-0", **{str(number): name for number, name in self._table.values()}}
        parts = [part for part in path.split("/") if part]
        if kind == DIRECTORY:
            listings = {"local": ["domain"], "local/domain": list(nodes), "vm": list(nodes.values())}
            found = listings.get("/".join(parts))
            return None if found is None else b"".join(entry.encode() + b"\0" for entry in found)
        if len(parts) == 4 and parts[:2] == ["local", "domain"] and parts[2] in nodes:
            number = parts[2]
            values = {"vm": f"/vm/{nodes[number]}", "domid": number, "name": names[number]}
            value = values.get(parts[3])
            return None if value is None else value.encode()
        return None


class HypervisorClient:
    """xapi's side: one short connection per question, 2 s limit each. Raises OSError, ValueError."""

    def __init__(self, root: Path) -> None:
        self._path = str(root / XENOPSD_SOCKET)

    def domains(self) -> dict[str, str]:
        found = self._ask({"op": "list"}).get("domains")
        return {str(uuid): str(name) for uuid, name in found.items()} if isinstance(found, dict) else {}

    def create(self, uuid: str, name: str) -> None:
        self._ask({"op": "create", "uuid": uuid, "name": name})

    def end(self, uuid: str) -> None:
        self._ask({"op": "end", "uuid": uuid})

    def kill(self, uuid: str, why: str) -> None:
        self._ask({"op": "kill", "uuid": uuid, "why": why})

    def _ask(self, question: dict[str, str]) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            connection.connect(self._path)
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
        answer = json.loads(line or b"{}")
        if not isinstance(answer, dict) or "error" in answer:
            raise OSError(f"hypervisor: {answer}")
        return answer


class HypervisorServer:
    """Serves one table below `root`. `on_kill` hears of each kill. The sockets are made by `start`."""

    def __init__(self, root: Path, domains: Domains, on_kill: Callable[[Kill], None] | None = None) -> None:
        self._root = root
        self._on_kill = on_kill
        self._servers: list[asyncio.AbstractServer] = []
        self.domains = domains

    async def start(self) -> None:
        for relative, serve in ((XENOPSD_SOCKET, self._serve_xenopsd), (XENSTORE_SOCKET, self._serve_xenstore)):
            path = self._root / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._servers.append(await asyncio.start_unix_server(serve, str(path)))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _serve_xenopsd(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while line := await reader.readline():
                try:
                    answer = self._operate(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    answer = {"error": repr(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()

    def _operate(self, question: dict[str, str]) -> dict[str, object]:
        operation = question["op"]
        if operation == "list":
            return {"domains": self.domains.domains()}
        if operation == "kills":
            return {"kills": [vars_of(kill) for kill in self.domains.kills]}
        if operation == "create":
            self.domains.create(question["uuid"], question["name"])
        elif operation == "end":
            self.domains.end(question["uuid"])
        elif operation == "kill":
            self._kill(question["uuid"], question["why"])
        else:
            raise ValueError(f"unknown operation {operation}")
        return {}

    def _kill(self, uuid: str, why: str) -> None:
        known = len(self.domains.kills)
        self.domains.kill(uuid, why)
        for kill in self.domains.kills[known:]:
            if self._on_kill is not None:
                self._on_kill(kill)

    async def _serve_xenstore(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                kind, request, transaction, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                if length > _XENSTORE_MAX:
                    return
                payload = (await reader.readexactly(length)).rstrip(b"\0").decode("utf-8", "replace")
                answer = self.domains.xenstore(kind, payload) if kind in (DIRECTORY, READ) else None
                if answer is None:
                    kind, answer = ERROR, b"ENOENT\0" if kind in (DIRECTORY, READ) else b"ENOSYS\0"
                writer.write(_HEADER.pack(kind, request, transaction, len(answer)) + answer)
                await writer.drain()


def vars_of(kill: Kill) -> dict[str, str]:
    return {"uuid": kill.uuid, "name": kill.name, "why": kill.why}
