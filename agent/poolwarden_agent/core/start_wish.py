"""What a VM's own record says about its being started by itself after its host was lost.

Rules
-----
* The wish is its owner's: the tag ``poolwarden:start``, or ``other_config:poolwarden_start`` = ``true``. Any other
  value of that key says no, whatever the tags say: who writes ``false`` beside a tag means it.
* What stands against a start is told beside the wish: a VM that is not Halted, a template, a snapshot, an operation
  that is under way, a start that its owner has blocked (VM.blocked_operations).
* Order and delay are xapi's own fields, which XenCenter edits and xapi's HA and vApps follow: VM.order, the lower ones
  first, and VM.start_delay, seconds (xapi: ocaml/idl/datamodel_vm.ml). What cannot be read counts as 0.
"""

from typing import Any, Mapping, NamedTuple

TAG = "poolwarden:start"
KEY = "poolwarden_start"
HIGHEST_ORDER = 2**31
LONGEST_DELAY_S = 3600
LONGEST = 200
_KINDS = (("is_a_template", "a template"), ("is_a_snapshot", "a snapshot"), ("is_control_domain", "a control domain"))


class StartWish(NamedTuple):
    """``wished``: its owner wants it; ``against``: what forbids it all the same, in words; ``delay_s`` seconds."""

    wished: bool
    against: str
    order: int
    delay_s: int


def start_wish(record: Mapping[str, Any]) -> StartWish:
    """The wish that a record of VM.get_record has.

    :raises LookupError, TypeError, AttributeError: not the shape of such a record.
    """
    said = record["other_config"].get(KEY)
    wished = TAG in record["tags"] if said is None else str(said).strip().lower() == "true"
    order = _number(record.get("order"), HIGHEST_ORDER)
    return StartWish(
        wished, _against(record, said)[:LONGEST], order, _number(record.get("start_delay"), LONGEST_DELAY_S)
    )


def _against(record: Mapping[str, Any], said: Any) -> str:
    found = ["it is %s" % word for key, word in _KINDS if record.get(key)]
    if record["power_state"] != "Halted":
        found.append("it is %s" % record["power_state"])
    if record["current_operations"]:
        found.append("an operation is under way: %s" % ", ".join(sorted(set(record["current_operations"].values()))))
    found += ["its %s is blocked" % name for name in ("start", "start_on") if name in record["blocked_operations"]]
    if said is not None and str(said).strip().lower() != "true":
        found.append("other_config:%s is %r" % (KEY, str(said)[:40]))
    return "; ".join(found)


def _number(text: Any, most: int) -> int:
    try:
        return min(most, max(0, int(text)))
    except (TypeError, ValueError):
        return 0
