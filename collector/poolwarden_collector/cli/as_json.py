"""Replies as JSON: field names of the contract, every field present, numbers as numbers.

protobuf's own JSON form is not used: it writes 64-bit numbers as strings and its options differ between releases. An
absent message is null. A history entry's `data`, which is JSON itself, becomes the object that it says.
"""

import json
import sys
from typing import Any

from google.protobuf.message import Message

EMBEDDED = {"poolwarden.v1.HistoryEntry": "data"}


def as_object(message: Message) -> dict[str, Any]:
    """The message as dicts, lists, strings, numbers and null. Enums do not occur in the operator's replies."""
    embedded = EMBEDDED.get(message.DESCRIPTOR.full_name)
    result: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            repeated = not isinstance(value, str | int | float | bytes)
            result[field.name] = list(value) if repeated else value
        elif field.message_type.GetOptions().map_entry:
            result[field.name] = dict(value)
        elif hasattr(value, "DESCRIPTOR"):
            result[field.name] = as_object(value) if message.HasField(field.name) else None
        else:
            result[field.name] = [as_object(item) for item in value]
    if embedded is not None:
        result[embedded] = _parsed(result[embedded])
    return result


def _parsed(text: str) -> Any:
    """The JSON that a collector put into a string; the string itself if it is none."""
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


def print_json(value: Any, *, one_line: bool = False) -> None:
    """Print a JSON value: indented, or on one line for streams."""
    json.dump(value, sys.stdout, indent=None if one_line else 2)
    print(flush=True)
