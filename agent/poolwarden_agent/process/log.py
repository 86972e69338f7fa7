"""One-line log messages on stderr (syslog's daemon facility under systemd), rate-limited: dom0 has no rate limit of its
own, and an agent without one could fill /var/log."""

import sys
import time
from typing import Dict, Tuple

PER_MINUTE = 6
_seen: Dict[str, Tuple[float, int]] = {}
_who = ["-"]


def name(host: str) -> None:
    """Which host the messages name from now on."""
    _who[0] = host


def say(text: str, topic: str = "") -> None:
    """Write one line; at most six a minute per topic, then one that says how many were left out."""
    now = time.monotonic()
    since, count = _seen.get(topic or text, (now, 0))
    if now - since >= 60:
        if count > PER_MINUTE:
            _write("%d more lines like: %s" % (count - PER_MINUTE, text))
        since, count = now, 0
    _seen[topic or text] = (since, count + 1)
    if count < PER_MINUTE:
        _write(text)
    if len(_seen) > 500:
        _seen.clear()


def _write(text: str) -> None:
    try:
        # Parts of it may come from elsewhere: nothing in a line may move a terminal's cursor or begin another line.
        line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
        sys.stderr.write("poolwarden-agent[%s]: %s\n" % (_who[0], line))
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
