"""What an xapi model says to its driver, and the two small ports through which it reads and writes its host.

The driver feeds inputs (start, calls, timers, peers' replies, SIGTERM), and each input returns a list of actions in the
order in which they have to be carried out. Nothing else passes between them, so that sockets and virtual time can
drive the same model. All times are integer milliseconds on the driver's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

Door = Literal["unix", "tcp", "tls"]
"""Where a call came in: the Unix socket, TCP 80, or TLS 443 (stunnel in front of TCP 80)."""

RESTART_CODE = 123
"""Exit code of a planned restart (xapi: ocaml/xapi/xapi_globs.ml restart_return_code)."""


class XapiFault(Exception):
    """A failure as XenAPI clients see it: ErrorDescription = [code, params...]."""

    def __init__(self, code: str, *params: str) -> None:
        super().__init__(code, *params)
        self.code = code
        self.params = params


class EmergencyRefusal(XapiFault):
    """What the emergency gate raises: it never comes to a dispatch, and is written differently in JSON."""


class HttpFailure(Exception):
    """An answer that is no XML-RPC at all, e.g. the HTML of a 500."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class PeerLost(Exception):
    """A call to a peer got no answer: refused, unreachable, reset, or given up by ourselves."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Number(int):
    """An integer that the wire carries as one. XenAPI's own fields are strings of digits instead."""

    __slots__ = ()


class Timestamp(str):
    """A date as XenAPI writes it, ``20260821T02:00:00Z``; its own type because XML-RPC has one for it."""

    __slots__ = ()


# ------------------------------------------------------------------------------------ results of calls to peers


@dataclass(frozen=True, slots=True)
class Answer:
    value: object


@dataclass(frozen=True, slots=True)
class Fault:
    code: str
    params: tuple[str, ...] = ()
    by_gate: bool = field(default=False, compare=False)  # the emergency gate refused the call


@dataclass(frozen=True, slots=True)
class Lost:
    """`why` is one of: refused, unreachable, reset, timeout, http-<status>."""

    why: str


PeerResult = Answer | Fault | Lost


# ------------------------------------------------------------------------------------ actions


@dataclass(frozen=True, slots=True)
class Reply:
    conn: int
    result: Answer | Fault


@dataclass(frozen=True, slots=True)
class HttpError:
    conn: int
    status: int


@dataclass(frozen=True, slots=True)
class HangForever:
    """This call will never be answered and no server thread has even taken it."""

    conn: int


@dataclass(frozen=True, slots=True)
class Listen:
    door: Door


@dataclass(frozen=True, slots=True)
class PeerCall:
    """Call a peer's xapi over TLS. The driver answers with `on_peer_reply`; limits are the model's own business,
    except for what TCP itself gives up on."""

    id: int
    address: str
    method: str
    params: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class CancelPeer:
    id: int


@dataclass(frozen=True, slots=True)
class Exit:
    code: int


@dataclass(frozen=True, slots=True)
class Event:
    """One named thing that happened, for logs and for comparing runs."""

    name: str
    facts: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.facts.items())])


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call `on_timer` at this time, or a little later. An earlier one stays valid."""

    at_ms: int


Action = Reply | HttpError | HangForever | Listen | PeerCall | CancelPeer | Exit | Event | WakeAt


# ------------------------------------------------------------------------------------ ports


class Disk(Protocol):
    """The host's tree. Paths are relative to its root. Writes are atomic and may raise OSError (ENOSPC)."""

    def read(self, path: str) -> bytes: ...  # raises FileNotFoundError
    def write(self, path: str, content: bytes) -> None: ...
    def exists(self, path: str) -> bool: ...
    def remove(self, path: str) -> None: ...  # a missing file is fine


class Hypervisor(Protocol):
    """The host's running domains, without domain 0. They live on while xapi restarts."""

    def domains(self) -> dict[str, str]: ...  # VM uuid -> name
    def create(self, uuid: str, name: str) -> None: ...
    def end(self, uuid: str) -> None: ...  # by itself
    def kill(self, uuid: str, why: str) -> None: ...  # by the kill rule
