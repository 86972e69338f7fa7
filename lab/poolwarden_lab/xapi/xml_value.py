"""One value as XML-RPC writes it, as text: without white space between the tags."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from poolwarden_lab.xapi.actions import Number, Timestamp

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_value(value: object) -> str:
    """One ``<value>``; what XML cannot carry becomes a question mark."""
    return f"<value>{_inside(value)}</value>"


def _inside(value: object) -> str:
    if isinstance(value, bool):
        return f"<boolean>{int(value)}</boolean>"
    if isinstance(value, Number):
        return f"<i4>{int(value)}</i4>"
    if isinstance(value, float):
        return f"<double>{value!r}</double>"
    if isinstance(value, Timestamp):
        return f"<dateTime.iso8601>{value}</dateTime.iso8601>"
    if isinstance(value, dict):
        members = (f"<member><name>{_text(str(key))}</name>{write_value(item)}</member>" for key, item in value.items())
        return f"<struct>{''.join(members)}</struct>"
    if isinstance(value, (list, tuple)):
        return f"<array><data>{''.join(write_value(item) for item in value)}</data></array>"
    return _text(str(value))


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("?", text)).replace("\r", "&#13;")
