"""Who may use the operator's interface over a network, and in whose name.

Rules
-----
* The only identity is the certificate's single Poolwarden URI, ``poolwarden://operator/<name>``. Every other
  certificate of the same authority is refused with PERMISSION_DENIED: a dom0 that somebody broke into holds its agent's
  key, and must not be able to give the word that lets another host become master.
* Admission stands before every method, streams included, and knows none of them: a method that is added to the contract
  is guarded from its first day.
* The certificate's name replaces the actor of any request that has one: nobody writes the journal in another's name.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from poolwarden_collector.shell.config import certificates

# A follower whose machine is gone without a word is noticed in 30 s, and its queue of entries is freed.
OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)

_log = logging.getLogger(__name__)


class NoOperator(Exception):
    """The peer's certificate is no operator's; the text is one sentence that says whose it is."""


def certified_operator(auth_context: dict[str, Any]) -> str:
    """The operator named by the peer's certificate. Raises NoOperator if it names none, or anything besides."""
    # safety: URIs alone; the list of all alternative names would take a DNS name with the same text for an identity.
    uris = sorted(uri.decode("utf-8", "replace") for uri in auth_context.get("peer_uri", ()))
    ours = [uri for uri in uris if uri.startswith(certificates.URI_SCHEME)]
    name = ours[0].removeprefix(certificates.operator_uri("")) if len(ours) == 1 else ""
    if not name or ours[0] != certificates.operator_uri(name) or not certificates.is_operator_name(name):
        whose = " and ".join(repr(uri[:100]) for uri in ours[:3]) or "nobody that Poolwarden knows"
        raise NoOperator(f"the certificate is of {whose}, not of an operator (poolwarden-collector issue-operator)")
    return name


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types here
    """Lets operators' certificates through; ``warn`` hears of every other that tried."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """The method's handler behind the check; no handler where the contract has none."""
        handler = await continuation(call)
        if handler is None or handler.request_streaming:
            return None  # safety: no method takes a stream; one that did would bring its actors past this check
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._answer(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _answer(self, method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(request: Any, context: Any) -> Any:
            return await method(await self._admitted(request, context), context)

        return answer

    def _stream(self, method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            # Closed with its reader, not when it is collected: until then it would go on being told of every entry.
            async with contextlib.aclosing(method(await self._admitted(request, context), context)) as replies:
                async for reply in replies:
                    yield reply

        return stream

    async def _admitted(self, request: Any, context: Any) -> Any:
        """The request in the name of the certificate's operator; ends the call if there is none."""
        try:
            name = certified_operator(context.auth_context())
        except NoOperator as error:
            _log.warning("refused at the operators' address: %s: %s", context.peer(), error)
            self._warn(f"refused at the operators' address: {error}")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        if "actor" in request.DESCRIPTOR.fields_by_name:
            request.actor = name
        return request
