"""Fills every message type of the contract by reflection and prints its bytes, one `name hex` line for each filling.

Run as a script by any supported Python (3.6 with protobuf 3.19.6 up to the newest): equal output means that both ends
of that range write the same bytes. Each filling is also parsed back and compared before it is printed.

A filling sets every field: scalars to a value of their own (never the default), repeated ones twice, messages
recursively. Of a oneof only the last one set survives, so a message with a oneof has one filling per member.
"""

import binascii
import sys
from typing import Any, Iterator, List, Tuple

from poolwarden.v1 import agent_link_pb2, enrolment_pb2, operator_pb2

MODULES = (agent_link_pb2, enrolment_pb2, operator_pb2)
DEEPEST = 12  # levels of messages inside messages; the contract has no recursive type


def message_types() -> List[Any]:
    """Classes of every message type, nested ones included, map entries left out; in order of full name."""
    found = []  # type: List[Any]

    def collect(holder: Any, descriptors: Any) -> None:
        for descriptor in descriptors:
            if not descriptor.GetOptions().map_entry:
                kind = getattr(holder, descriptor.name)
                found.append(kind)
                collect(kind, descriptor.nested_types)

    for module in MODULES:
        collect(module, module.DESCRIPTOR.message_types_by_name.values())
    return sorted(found, key=lambda kind: kind.DESCRIPTOR.full_name)


def is_repeated(field: Any) -> bool:
    """Newer protobuf replaced `label`."""
    known = getattr(field, "is_repeated", None)
    return field.label == field.LABEL_REPEATED if known is None else known


def scalar(field: Any, turn: int) -> Any:
    """A value that is not the default and differs from field to field."""
    number = field.number * 3 + turn
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    by_type = {
        field.CPPTYPE_BOOL: True,
        field.CPPTYPE_STRING: b"\x00\xff" + bytes([number % 256])
        if field.type == field.TYPE_BYTES
        else "text-\u00e9-%d" % number,
        field.CPPTYPE_DOUBLE: number + 0.25,
        field.CPPTYPE_FLOAT: number + 0.5,
        field.CPPTYPE_UINT64: 2**63 + number,
        field.CPPTYPE_INT64: -(2**40) - number,
        field.CPPTYPE_UINT32: 2**31 + number,
        field.CPPTYPE_INT32: -number,
    }
    return by_type[field.cpp_type]


def fill(message: Any, chosen: Any = None, depth: int = 0) -> Any:
    """Set every field of the message; of a oneof's members only `chosen` if that is one of them."""
    if depth > DEEPEST:
        raise RecursionError(message.DESCRIPTOR.full_name)
    for field in message.DESCRIPTOR.fields:
        if chosen is not None and field.containing_oneof is chosen.containing_oneof and field is not chosen:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["key-%d" % field.number] = "value"
        elif field.message_type is not None:
            targets = (
                [getattr(message, field.name).add() for _ in range(2)]
                if is_repeated(field)
                else [getattr(message, field.name)]
            )
            for target in targets:
                target.SetInParent() if not is_repeated(field) else None
                fill(target, depth=depth + 1)
        elif is_repeated(field):
            getattr(message, field.name).extend(scalar(field, turn) for turn in range(2))
        else:
            setattr(message, field.name, scalar(field, 0))
    return message


def fillings() -> Iterator[Tuple[str, Any]]:
    """(name, filled message) for every message type and every member of its oneofs."""
    for kind in message_types():
        members = [field for oneof in kind.DESCRIPTOR.oneofs for field in oneof.fields]
        for member in members:
            yield kind.DESCRIPTOR.full_name + "/" + member.name, fill(kind(), member)
        if not members:
            yield kind.DESCRIPTOR.full_name, fill(kind())


def main() -> None:
    """Print every filling's bytes; stop at the first that does not come back equal."""
    for name, message in fillings():
        data = message.SerializeToString(deterministic=True)
        if type(message).FromString(data) != message:
            sys.exit("%s does not come back from its own bytes" % name)
        print(name, binascii.hexlify(data).decode())


if __name__ == "__main__":
    main()
