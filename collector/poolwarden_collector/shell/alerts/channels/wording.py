"""What every kind of channel says of an alert: one line for a phone, a text for a person, and names for programs.

Rules
-----
* Names of hosts, pools and mounts come from outside. ``line`` and ``lines`` take every control character and every
  separator out of a text, so that none of them ends a header, a line or a field.
* ``state`` "resolved" is the end; everything else is told as what stands.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from poolwarden_collector.core.state.alert_topic import Matter, of_key
from poolwarden_collector.shell.store.journal import Parcel

TITLE_LIMIT = 2048  # bytes
PAYLOAD_VERSION = 1  # of docs/webhook.schema.json
_BREAKS = {"Cc", "Zl", "Zp"}  # control characters, line and paragraph separators (Unicode, general categories)
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder what is read


def document(parcel: Parcel) -> dict[str, Any]:
    """The alert as the object that webhooks and the log get."""
    return {"version": PAYLOAD_VERSION, **parcel.payload}


def is_over(parcel: Parcel) -> bool:
    """Does it tell the end of its alert?"""
    return bool(parcel.payload.get("state", parcel.state) == "resolved")


def line(text: object) -> str:
    """In one line, without control characters."""
    return " ".join("".join(" " if _is_odd(each) else each for each in _sound(text)).split())


def lines(text: object) -> str:
    """The same with its line breaks kept."""
    kept = (each if each == "\n" else " " if _is_odd(each) else each for each in _sound(text))
    return "\n".join(each.rstrip() for each in "".join(kept).split("\n")).strip()


def cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8, ending with three dots where something is missing."""
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "..."


def severity(parcel: Parcel) -> str:
    """critical, warning or info; what is unknown is a warning."""
    given = str(parcel.payload.get("severity", ""))
    return given if given in ("critical", "warning", "info") else "warning"


def title(parcel: Parcel) -> str:
    """The title, in one line of a bounded length."""
    return cut(line(parcel.payload.get("title", "")) or line(parcel.key), TITLE_LIMIT)


def heading(parcel: Parcel) -> str:
    """The title behind its severity, or behind the word resolved."""
    return f"[{'resolved' if is_over(parcel) else severity(parcel)}] {title(parcel)}"


def body(parcel: Parcel) -> str:
    """What the alert says below its title, in lines."""
    return lines(parcel.payload.get("body", ""))


def text(parcel: Parcel) -> str:
    """All of it for a person: what it says, and below that the facts."""
    payload = parcel.payload
    facts = {
        "Pool": _named(payload),
        "Collector": payload.get("collector", ""),
        "Began": payload.get("raised_at", ""),
        "Ended": payload.get("resolved_at", ""),
        "Runbook": payload.get("runbook", ""),
        "Alert": f"{parcel.key} ({parcel.occurrence})",
    }
    told = "\n".join(f"{name + ':':<10} {line(fact)}" for name, fact in facts.items() if fact)
    return f"{body(parcel)}\n\n{told}\n"


def message_id(parcel: Parcel) -> str:
    """The alert's section in the runbook, or a word for what has none."""
    data = parcel.payload.get("data", {})
    found = str(data.get("message", "")) or (parcel.key.partition("/")[0] if "/" in parcel.key else "")
    return found if re.fullmatch(r"[a-z][a-z0-9-]*", found) else "alert"


def place(parcel: Parcel) -> dict[str, str]:
    """What it is about: pool, pool_uuid, host or device, where they are known."""
    pool = parcel.payload.get("pool", {})
    found = {"pool": line(pool.get("name", "")), "pool_uuid": line(pool.get("uuid", ""))}
    topic = of_key(parcel.pool, parcel.key)
    found["device" if topic.matter is Matter.FENCE else "host"] = line(
        topic.host or parcel.payload.get("data", {}).get("host", "")
    )
    return {name: value for name, value in found.items() if value}


def _named(payload: dict[str, Any]) -> str:
    pool = payload.get("pool", {})
    return " ".join(part for part in (pool.get("name", ""), pool.get("uuid", "")) if part)


def _sound(text: object) -> str:
    """Without halves of characters, which no encoding takes."""
    return str(text).encode(errors="replace").decode()


def _is_odd(character: str) -> bool:
    return unicodedata.category(character) in _BREAKS or character in _OVERRIDES
