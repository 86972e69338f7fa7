"""A request that cannot be served."""

from __future__ import annotations

import grpc


class Wrong(Exception):
    """The request cannot be served: a status and one sentence."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
