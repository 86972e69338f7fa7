"""Names, addresses and UUIDs replaced, the same everywhere in an archive; so that it may be given to somebody else.

Rules
-----
* What is replaced: UUIDs, IPv4 and IPv6 addresses, MAC addresses, and every name that the records hold as one: of
  pools, hosts, sites, people, VMs, storage, serial numbers. A host's name goes with the domain behind it.
* All files are read before any is written: a name that one file alone knows as such is replaced in all.
* What stands for them keeps their order and their form (a UUID for a UUID, an address for an address), so that a
  decision can still be made again and comes to the same. Addresses are of the ranges for documentation and benchmarks.
* Words of Poolwarden's own (``WORDS``) are no names: whoever calls a host "master" finds it called that.
* What no record holds as a name is not known as one: free text of a log may still say more than a sentence should.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

_UUID = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9a-fA-F])")
# With what an id of a failover begins: its pool's first eight digits.
_UUID_OR_BEGIN = re.compile(_UUID.pattern + r"|(?<![0-9a-fA-F-])[0-9a-fA-F]{8}(?![0-9a-fA-F])")
_MAC = re.compile(r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![0-9a-fA-F:])")
_V4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_V6 = re.compile(r"(?<![0-9A-Za-z:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![0-9A-Za-z:])")
_NAME_KEYS = re.compile(r"(?:.*_)?(?:name|names|serial|hostname|label)|actor|by|site|address_name|vendor_serial", re.I)
_FULL_NAME = re.compile(r"[A-Za-z0-9-]+\.((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})")
_KEPT_V4 = tuple(ipaddress.ip_network(text) for text in ("127.0.0.0/8", "0.0.0.0/32", "255.255.255.255/32"))
SHORTEST = 2  # characters of a name; one letter is none that could be found again
# In sentences and in records these words mean something else than a name.
WORDS = frozenset(
    (
        "agent", "all", "collector", "dom0", "false", "healthy", "host", "local", "master", "member", "no", "none",
        "off", "on", "pool", "poolwarden", "root", "test", "true", "unknown", "xapi", "yes", "collector's authority",
    )
)  # fmt: skip
_V4_FIRST = int(ipaddress.ip_address("198.18.0.1"))
_V6_FIRST = int(ipaddress.ip_address("2001:db8::1"))


class Redaction:
    """First ``learn`` from every file, then ``settle``, then replace."""

    def __init__(self) -> None:
        self._uuids: set[str] = set()
        self._macs: set[str] = set()
        self._v4: set[str] = set()
        self._v6: set[str] = set()
        self._names: set[str] = set()
        self._map: dict[str, str] = {}
        self._name = re.compile(r"(?!)")

    # ------------------------------------------------------------------------------------------------ learning

    def learn(self, text: str) -> None:
        """What has a form of its own in this text."""
        self._uuids.update(found.lower() for found in _UUID.findall(text))
        self._macs.update(found.lower() for found in _MAC.findall(text))
        self._v4.update(found for found in _V4.findall(text) if _is_v4(found))
        self._v6.update(found for found in _V6.findall(text) if _is_v6(found))

    def name(self, text: str) -> None:
        """This is a name."""
        text = text.strip()
        of_a_form = text.isdigit() or _UUID.fullmatch(text) or _is_v4(text) or _is_v6(text)
        if len(text) >= SHORTEST and text.lower() not in WORDS and not of_a_form:
            self._names.add(text)
            # The domain of a host's full name is somebody's name as well: example.com of h1.example.com.
            self._names.update(found[1] for found in (_FULL_NAME.fullmatch(text),) if found is not None)

    def learn_record(self, value: Any, key: str = "") -> None:
        """The names in a value of JSON: what stands under a key that says so, and below it."""
        if isinstance(value, dict):
            for inner, item in value.items():
                named = _NAME_KEYS.fullmatch(inner) is not None
                self.learn_record(item, "name" if named or (key and isinstance(item, str)) else "")
        elif isinstance(value, list):
            if value[:1] in (["E"], ["B"]):
                return
            if value[:1] == ["C"] and len(value) == 3:
                self.learn_record(value[2], "")
                return
            if value[:1] == ["D"]:
                for pair in value[1:]:
                    self.learn_record(pair[1], key)
                return
            for item in value[1:] if value[:1] in (["T"], ["L"], ["S"]) else value:
                self.learn_record(item, key)
        elif isinstance(value, str) and key:
            self.name(value)

    def settle(self) -> None:
        """All has been learned: from now on the same stands for the same."""
        self._map = {}
        for number, text in enumerate(sorted(self._uuids), 1):
            self._map[text] = f"{number:08x}-0000-8000-8000-{number:012x}"
            self._map.setdefault(text[:8], f"{number:08x}")
        for number, text in enumerate(sorted(self._macs), 1):
            self._map[text] = ":".join(f"{0x020000000000 + number:012x}"[at : at + 2] for at in range(0, 12, 2))
        for number, text in enumerate(sorted(self._v4, key=ipaddress.ip_address)):
            self._map[text] = str(ipaddress.ip_address(_V4_FIRST + number))
        for number, text in enumerate(sorted(self._v6, key=ipaddress.ip_address)):
            self._map[text] = str(ipaddress.ip_address(_V6_FIRST + number))
        # What differs in case alone is one name, as it is for people.
        for number, text in enumerate(sorted({name.lower() for name in self._names}), 1):
            self._map[f"name {text}"] = f"name-{number:04d}"
        longest = sorted({name.lower() for name in self._names}, key=lambda name: (-len(name), name))
        if longest:
            named = "|".join(map(re.escape, longest))
            self._name = re.compile(rf"(?<![\w-])({named})((?:\.[A-Za-z0-9-]+)*)(?![\w-])", re.I)

    # ------------------------------------------------------------------------------------------------ replacing

    def text(self, text: str) -> str:
        """A line or some, with everything replaced."""
        text = _UUID_OR_BEGIN.sub(self._one(str.lower), text)
        text = _MAC.sub(self._one(str.lower), text)
        text = _V4.sub(self._one(str), text)
        text = _V6.sub(self._one(str), text)
        return self._name.sub(self._named, text)

    def _one(self, form: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
        return lambda found: self._map.get(form(found[0]), found[0])

    def _named(self, found: re.Match[str]) -> str:
        return self._map[f"name {found[1].lower()}"]

    def record(self, value: Any) -> Any:
        """A value of JSON, keys that are data included; words of its structure stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.key(key): self.record(item) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        if value[:1] in (["E"], ["B"]):
            return value
        if value[:1] == ["C"] and len(value) == 3 and isinstance(value[2], dict):
            return [*value[:2], {key: self.record(item) for key, item in value[2].items()}]
        if value[:1] and value[0] in ("T", "L", "S", "D"):
            return [value[0], *(self.record(item) for item in value[1:])]
        return [self.record(item) for item in value]

    def key(self, key: str) -> str:
        """A key that is a UUID or an address is data; any other one is a word of the contract."""
        return self.text(key) if _UUID.search(key) or _is_v4(key) or _is_v6(key) else key


def _is_v4(text: str) -> bool:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not any(address in kept for kept in _KEPT_V4)


def _is_v6(text: str) -> bool:
    try:
        return not ipaddress.IPv6Address(text).is_loopback and text != "::"
    except ValueError:
        return False


def loads(text: str) -> Any:
    """JSON, or None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def learn_all(redaction: Redaction, records: Iterable[Any]) -> None:
    """From records of JSON: their names, and what has a form of its own in them."""
    for record in records:
        redaction.learn_record(record)
        redaction.learn(json.dumps(record, ensure_ascii=False))
