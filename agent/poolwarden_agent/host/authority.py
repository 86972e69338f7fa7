"""Whose word this host obeys: what comes from the collector, opened and verified before anybody acts on it.

Rules
-----
* Where order keys are pinned, Welcome, Settings, Order, GateAnswer, Renewal and Elsewhere count only inside Signed
  content that verifies with one of them and is for this host (core/signed.py). It is verified here, in root's process:
  the link side, which speaks with the network, can relay orders and forge none.
* Where none is pinned, Signed content counts as its content would, unsigned.
* Where what is pinned cannot be read nothing of the six counts.
* Challenges and requests for a report change nothing here and come unsigned.
"""

from typing import Callable, NamedTuple, Optional

from google.protobuf.message import DecodeError

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import signed
from poolwarden_agent.host_port import HostPort, PinnedKeys

NEEDS_IT = ("welcome", "settings", "order", "gate_answer", "renewal", "elsewhere")
JUDGED_INSIDE = ("order", "gate_answer")


class Heard(NamedTuple):
    """A message that may be acted on, or why not: a stable word and one sentence.

    ``message`` of a refused one is what it claims to be, so that a refused order can be answered.
    """

    message: pb.CollectorMessage
    signed: bool
    reason: str = ""
    text: str = ""


class Authority(object):
    """Opens what the collector sends to this host; ``pool`` tells this host's own, empty where it is not known."""

    def __init__(self, port: HostPort, pool: Callable[[], str]) -> None:
        self._port = port
        self._pool = pool

    def open(self, message: pb.CollectorMessage) -> Heard:
        """The message that counts: the content of a signed one."""
        kind = message.WhichOneof("body")
        pinned = self._port.order_keys()
        if kind != "signed":
            if kind not in NEEDS_IT or not (pinned.keys or pinned.trouble):
                return Heard(message, False)
            text = pinned.trouble or "it is not signed, and this host has pinned the order key %s" % _named(pinned)
            return Heard(message, False, signed.UNSIGNED, text)
        content = _content(message.signed.payload)
        if content is None:
            return Heard(message, False, signed.BAD_SIGNATURE, "what is signed cannot be read")
        inside = _unwrapped(content)
        if not pinned.keys and not pinned.trouble:
            return Heard(inside, False)
        why = pinned.trouble or self._wrong(message.signed, content, pinned)
        return Heard(inside, not why, signed.BAD_SIGNATURE if why else "", why)

    def _wrong(self, given: pb.Signed, content: pb.SignedContent, pinned: PinnedKeys) -> str:
        public = next((each.public for each in pinned.keys if each.key_id == given.key_id), None)
        if public is None:
            return "it is signed with the order key %.16s, this host has pinned %s" % (given.key_id, _named(pinned))
        # safety: over the very bytes that came; what is read from them below is nothing that anybody else has put in.
        if not self._port.signature_fits(public, given.signature, signed.CONTEXT + given.payload):
            return "its signature is not that order key's"
        identity = self._port.identity()
        here = signed.Here(self._pool(), identity.host, identity.boot_id, self._port.mono_ms())
        kind = content.WhichOneof("body") or ""
        envelope = signed.Envelope(
            content.pool_uuid,
            content.host_uuid,
            content.boot_id,
            content.epoch,
            content.term,
            content.echo_mono_ms,
            content.valid_for_ms,
        )
        return signed.wrong(envelope, _inside(content, envelope), kind in JUDGED_INSIDE, here)


def _named(pinned: PinnedKeys) -> str:
    return ", ".join(pinned.ids)


def _content(payload: bytes) -> Optional[pb.SignedContent]:
    try:
        content = pb.SignedContent.FromString(payload)
    except DecodeError:
        return None
    return content if content.WhichOneof("body") in NEEDS_IT else None


def _unwrapped(content: pb.SignedContent) -> pb.CollectorMessage:
    kind = content.WhichOneof("body") or ""
    message = pb.CollectorMessage()
    getattr(message, kind).CopyFrom(getattr(content, kind))
    return message


def _inside(content: pb.SignedContent, envelope: signed.Envelope) -> signed.Envelope:
    """The envelope as an order or a gate answer repeats it; a gate answer names neither pool nor host."""
    kind = content.WhichOneof("body")
    if kind not in JUDGED_INSIDE:
        return envelope
    body = getattr(content, kind)
    pool, host = (body.pool_uuid, body.host_uuid) if kind == "order" else (envelope.pool, envelope.host)
    return signed.Envelope(pool, host, body.boot_id, body.epoch, body.term, body.echo_mono_ms, body.valid_for_ms)
