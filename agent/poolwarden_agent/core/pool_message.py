"""What a collector may have shown in the pool, through xapi's message.create: bounds of what root passes on.

Rules
-----
* Only names of Poolwarden's own: no program takes such a message for one of xapi's, and none of xapi's is imitated.
* The text is plain: no control characters but line feeds, none that turn the direction of what is read, at most 4 KiB.
* A host shows at most ``AT_ONCE`` messages, and one more each ``ANOTHER_EACH_MS``: xapi keeps 10000 and deletes the
  oldest, whosever they are (xapi: ocaml/xapi/xapi_message.ml).
"""

import re
from typing import NamedTuple

LONGEST_BODY = 4096  # bytes of UTF-8
AT_ONCE = 20
ANOTHER_EACH_MS = 30000
_NAME = re.compile("POOLWARDEN_[A-Z0-9_]{1,48}")
_KEY = re.compile("[0-9a-f]{16,64}")
# C0 without line feed, DEL and C1, marks of direction, surrogates, and what is no character.
_STRANGE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def wrong(name: str, key: str, priority: int, body: str) -> str:
    """Why this is not shown; empty: it may be. ``priority``: xapi's, 1 (data loss) .. 5 (information)."""
    if not _NAME.fullmatch(name):
        return "%.80r is no name of a message of Poolwarden's" % name
    if not _KEY.fullmatch(key):
        return "%.80r is no key of a message" % key
    if not 1 <= priority <= 5:
        return "a message's priority is 1..5, not %d" % priority
    if not body or len(body) > LONGEST_BODY or len(body.encode("utf-8", "replace")) > LONGEST_BODY:
        return "a message has 1..%d bytes" % LONGEST_BODY
    strange = _STRANGE.search(body)
    return "a message is plain text, U+%04X is not shown" % ord(strange.group()) if strange else ""


class Allowance(NamedTuple):
    """How many messages may still be shown: ``spent_ms`` of the time that all of them together take to come back."""

    spent_ms: int = 0
    at_ms: int = 0

    def after(self, now_ms: int) -> "Allowance":
        """What of it is left at this instant."""
        return Allowance(max(0, self.spent_ms - (now_ms - self.at_ms)), now_ms)

    @property
    def used_up(self) -> bool:
        return self.spent_ms > (AT_ONCE - 1) * ANOTHER_EACH_MS

    def less_one(self) -> "Allowance":
        return self._replace(spent_ms=self.spent_ms + ANOTHER_EACH_MS)
