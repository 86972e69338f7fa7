"""Alerts as HTTP POST of JSON (docs/webhook.schema.json), signed where a secret is configured.

Rules
-----
* ``Idempotency-Key`` and the fields ``key`` and ``occurrence`` are the same for every attempt, so that a receiver can
  tell a repetition from a new alert.
* ``Poolwarden-Signature: t=SECONDS,v1=HEX``: v1 is HMAC-SHA256, by the secret, over SECONDS, a full stop and the body
  (RFC 2104). The time is that of the attempt, so that a receiver can refuse what somebody recorded long ago.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time

from poolwarden_collector.shell.alerts.channels.http_post import header, post
from poolwarden_collector.shell.alerts.channels.wording import document
from poolwarden_collector.shell.config.alert_kinds import Webhook
from poolwarden_collector.shell.store.journal import Parcel


class WebhookSink:
    """HTTP POST of the alert as JSON."""

    def __init__(self, webhook: Webhook) -> None:
        self.name = webhook.channel
        self._webhook = webhook

    def deliver(self, parcel: Parcel) -> None:
        body = json.dumps(document(parcel), ensure_ascii=False).encode()
        headers = {"Idempotency-Key": header(parcel.delivery_key)}
        if self._webhook.secret:
            headers["Poolwarden-Signature"] = signature(self._webhook.secret, int(time.time()), body)
        post(self._webhook.url, body, headers, self._webhook.ca)


def signature(secret: str, at: int, body: bytes) -> str:
    """The header's value for a body that is sent ``at`` (seconds since 1970)."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
