"""Signs what changes an agent's state, for agents that can verify it; the one place where that is done.

Rules
-----
* Welcome, Settings, Order, GateAnswer, Renewal and Elsewhere go out as Signed content (agent_link.proto) on every
  stream whose Hello has said the capability ``signed_orders``; on any other, and everything else, as it is.
* The signature belongs to the wire: what is decided, journaled and played again knows nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden.v1 import agent_link_pb2 as pb

if TYPE_CHECKING:
    from poolwarden_collector.shell.agents.order_key import OrderKey
    from poolwarden_collector.shell.agents.stream import StreamState

CAPABILITY = "signed_orders"
VALID_MS = 60_000  # of a Welcome, Settings, a Renewal and an Elsewhere; an order and a gate answer say their own
_SIGNED = ("welcome", "settings", "order", "gate_answer", "renewal", "elsewhere")


class Signer:
    """Signs for one collector's streams."""

    def __init__(self, key: OrderKey) -> None:
        self._key = key
        self.key_id = key.key_id

    def seal(self, message: pb.CollectorMessage, state: StreamState, epoch: int) -> pb.CollectorMessage:
        """The message as it goes out on this stream."""
        kind = message.WhichOneof("body")
        if kind not in _SIGNED or CAPABILITY not in state.capabilities:
            return message
        content = pb.SignedContent(
            pool_uuid=state.pool,
            host_uuid=state.host,
            boot_id=state.boot_id,
            epoch=epoch,
            echo_mono_ms=state.echo,
            valid_for_ms=VALID_MS,
        )
        body = getattr(message, kind)
        getattr(content, kind).CopyFrom(body)
        if kind == "order":
            content.pool_uuid, content.host_uuid = body.pool_uuid, body.host_uuid
        if kind in ("order", "gate_answer"):
            content.boot_id, content.epoch, content.term = body.boot_id, body.epoch, body.term
            content.echo_mono_ms, content.valid_for_ms = body.echo_mono_ms, body.valid_for_ms
        payload = content.SerializeToString()
        sealed = pb.Signed(payload=payload, signature=self._key.sign(payload), key_id=self.key_id)
        return pb.CollectorMessage(signed=sealed)
