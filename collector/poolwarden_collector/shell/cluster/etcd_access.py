"""Where etcd is, and who asks it.

Rules
-----
* Endpoints are https with the authority, certificate and key of this collector; plain http reaches loopback alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ENDPOINT = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?")


class BadEndpoint(ValueError):
    """An endpoint or a set of credentials that cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class Access:
    """How etcd is reached. Files are PEM; ``user`` is empty where etcd's own users are not enabled."""

    endpoints: tuple[str, ...]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise BadEndpoint("no endpoint of etcd is named")
        for text in self.endpoints:
            self._check(text)

    def _check(self, text: str) -> None:
        found = _ENDPOINT.fullmatch(text)
        if found is None:
            raise BadEndpoint(f"{text!r} is no endpoint of etcd; expected https://host:2379")
        if found[1] == "http" and found[2] not in _LOOPBACK:
            raise BadEndpoint(f"{text}: over a network etcd is reached by https alone")
        if found[1] == "https" and (self.ca is None or self.cert is None or self.key is None):
            raise BadEndpoint(f"{text}: needs the authority, the certificate and the key of this collector")
