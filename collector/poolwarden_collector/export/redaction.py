"""Names, addresses and UUIDs replaced, the same everywhere in an archive; so that it may be given to somebody else.

Rules
-----
* What is replaced: UUIDs, IPv4 and IPv6 addresses, MAC addresses, addresses of mail, and every name that the records
  hold as one: of pools, hosts, sites, people, collectors, VMs, storage and where it lies, fence devices, serial
  numbers, addresses by name. A host's name goes with the domain behind it.
* They are replaced in every form in which a log has them: a UUID of the device mapper (dashes doubled) or without
  dashes, a MAC address with dashes or bare, an IPv4 address with dashes (ip-192-0-2-7), a name as JSON, XML and
  addresses of the web write it.
* In what hosts kept of their logs (``log``) a name is replaced as a part of a longer word as well: payroll-web1.
* All files are read before any is written: a name that one file alone knows as such is replaced in all.
* What stands for them keeps their order and their form (a UUID for a UUID, an address for an address), so that a
  decision can still be made again and comes to the same. Addresses are of the ranges for documentation and benchmarks.
* Words of Poolwarden's own (``WORDS``) are no names: whoever calls a host "master" finds it called that.
* What no record holds as a name is not known as one: free text of a log may still say more than a sentence should.
"""

from __future__ import annotations

import html
import ipaddress
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

_UUID = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9a-fA-F])")
# As names of devices have it (vhd_1234..., VG_XenStorage--1234...--...), and with nothing between.
_UUID_OF_A_KIND = re.compile(
    r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(--|_|)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}(?![0-9a-fA-F])"
)
# With what an id of a failover begins: its pool's first eight digits.
_UUID_OR_BEGIN = re.compile(
    rf"{_UUID.pattern}|{_UUID_OF_A_KIND.pattern}|(?<![0-9a-fA-F-])[0-9a-fA-F]{{8}}(?![0-9a-fA-F])"
)
_MAC = re.compile(r"(?<![0-9a-fA-F:-])[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}(?![0-9a-fA-F:-])")
_BARE_MAC = re.compile(r"(?<![0-9a-fA-F-])[0-9a-fA-F]{12}(?![0-9a-fA-F-])")
_V4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_DASHED_V4 = re.compile(r"(?<!\d)\d{1,3}([-_])(?:\d{1,3}\1){2}\d{1,3}(?!\d)")
_V6 = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Za-z]{0,40}(?::[0-9A-Za-z]{0,40}){2,20}(?![0-9A-Za-z])")
_NAME_KEYS = re.compile(
    r"(?:.*_)?(?:name|names|serials?|hostname|label|address|addresses|servers?|by|actor|users?|operators?)|vendor_serial"
    r"|(?:.*_)?vms|site|collectors?|owner|assigner|prefer|never_promote|devices?|unplugged_srs|iscsi_targets|others",
    re.I,
)
# Where storage lies: a server and a path, each a name by itself.
_PLACE_KEY = "where"
_PLACE = re.compile(r"([^:/\s]*|\[[^\]]*\]):(/.*)")
# Of a core's value: under this key its class alone says that names are there.
_NAMES_OF = {"LocalRepository": "running"}
_MAIL = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@((?:[A-Za-z0-9-]{1,63}\.){1,8}([A-Za-z]{2,}))(?![\w-])")
# A host's own facts, as the text form of protobuf writes them: a field that is text, and where a message begins.
_FACT = re.compile(r'\s*([a-z][a-z0-9_]*): "((?:[^"\\]|\\.)*)"')
_BLOCK = re.compile(r"\s*([a-z][a-z0-9_]*) \{")
_PROCESSES = ("biggest",)  # messages whose names are those of programs
# What systemd calls an instance of a unit (getty@tty1.service) is no address of mail.
_UNITS = frozenset(("device", "mount", "path", "scope", "service", "slice", "socket", "swap", "target", "timer"))
_FIELD = re.compile(r"[a-z][a-z0-9_]*")  # how the contract and the core name what they tell
_FULL_NAME = re.compile(r"[A-Za-z0-9-]+\.((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})")
_KEPT_V4 = tuple(ipaddress.ip_network(text) for text in ("127.0.0.0/8", "0.0.0.0/32", "255.255.255.255/32"))
SHORTEST = 2  # characters of a name; one letter is none that could be found again
SHORTEST_PART = 4  # of one that is replaced within a longer word
SHORTEST_NUMBER = 6  # digits of a serial number; a shorter number is in every second line
# In sentences and in records these words mean something else than a name.
WORDS = frozenset(
    (
        "agent", "all", "collector", "dom0", "false", "healthy", "host", "local", "master", "member", "name", "no",
        "none", "off", "on", "operator", "policy", "pool", "poolwarden", "root", "test", "true", "unknown", "user",
        "xapi", "yes",
        "collector's authority",
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
        self._name = self._part = re.compile(r"(?!)")

    # ------------------------------------------------------------------------------------------------ learning

    def learn(self, text: str) -> None:
        """What has a form of its own in this text."""
        self._uuids.update(found.lower() for found in _UUID.findall(text))
        self._uuids.update(_dashed(found[0]) for found in _UUID_OF_A_KIND.finditer(text) if found[1])
        self._macs.update(_colons(found[0]) for found in _MAC.finditer(text))
        self._v4.update(found for found in _V4.findall(text) if _is_v4(found))
        self._v6.update(found[1] for each in _V6.findall(text) if (found := _v6_in(each)) is not None)
        for who, where, last in _MAIL.findall(text):
            if last.lower() not in _UNITS:
                self.name(who)
                self.name(where)

    def name(self, text: str) -> None:
        """This is a name."""
        text = text.strip()
        number = text.isdigit() and len(text) < SHORTEST_NUMBER
        of_a_form = number or _UUID.fullmatch(text) or _is_v4(text) or _is_v6(text)
        if len(text) >= SHORTEST and text.lower() not in WORDS and not of_a_form:
            self._names.add(text)
            # The domain of a host's full name is somebody's name as well: example.com of h1.example.com.
            self._names.update(found[1] for found in (_FULL_NAME.fullmatch(text),) if found is not None)

    def learn_facts(self, text: str) -> None:
        """The names in what a host kept of its own facts; what reads like none of them is left."""
        block = ""
        for line in text.split("\n"):
            begun, fact = _BLOCK.match(line), _FACT.fullmatch(line)
            if begun is not None:
                block = begun[1]
            elif line.strip() == "}":
                block = ""
            elif fact is not None and block not in _PROCESSES:
                self.learn_record({fact[1]: re.sub(r"\\(.)", r"\1", fact[2])})

    def learn_record(self, value: Any, key: str = "", packed: bool = False) -> None:
        """The names in a value of JSON: what stands under a key that says so, and below it.

        ``packed``: it is within a value of the core (core/state/decision_input.py), whose lists begin with a letter.
        """
        if isinstance(value, dict):
            for inner, item in value.items():
                named = _NAME_KEYS.fullmatch(inner) is not None
                place = _PLACE.fullmatch(item) if inner == _PLACE_KEY and isinstance(item, str) else None
                for part in place.groups() if place is not None else ():
                    self.name(part.strip("[]"))
                self.learn_record(item, "name" if named or (key and isinstance(item, str)) else "", packed)
        elif isinstance(value, list):
            if _is_core(value):
                self.learn_record(value[2], "", True)
                self.learn_record(value[2].get(_NAMES_OF.get(str(value[1]), "")), "name", True)
            elif not packed:
                for item in value:
                    self.learn_record(item, key)
            elif value[:1] == ["D"]:
                for pair in value[1:]:
                    self.learn_record(pair[1], key, True)
            elif value[:1] not in (["E"], ["B"]):
                for item in value[1:]:
                    self.learn_record(item, key, True)
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
        forms: dict[str, str] = {}
        for number, text in enumerate(sorted({name.lower() for name in self._names}), 1):
            forms |= dict.fromkeys(_forms(text), f"name-{number:04d}")
        for name in self._names:
            forms |= dict.fromkeys(_forms(name), forms[name.lower()])
        self._map |= {f"name {form.lower()}": stands for form, stands in forms.items()}
        longest = sorted(forms, key=lambda name: (-len(name), name))
        if longest:
            named = "|".join(map(re.escape, longest))
            self._name = re.compile(rf"(?<![\w-])({named})((?:\.[A-Za-z0-9-]+)*)(?![\w-])", re.I)
        if parts := [form for form in longest if len(form) >= SHORTEST_PART]:
            self._part = re.compile(rf"(?<![^\W_])({'|'.join(map(re.escape, parts))})(?![^\W_])", re.I)

    # ------------------------------------------------------------------------------------------------ replacing

    def text(self, text: str) -> str:
        """A line or some, with everything replaced."""
        text = _UUID_OR_BEGIN.sub(self._uuid, text)
        text = _MAC.sub(self._mac, text)
        text = _BARE_MAC.sub(self._mac, text)
        text = _V4.sub(lambda found: self._map.get(found[0], found[0]), text)
        text = _DASHED_V4.sub(self._v4_name, text)
        text = _V6.sub(self._address, text)
        return self._name.sub(self._named, text)

    def log(self, text: str) -> str:
        """A line of a log: nothing is made again from it, so a name goes out of longer words as well."""
        return self._part.sub(self._named, self.text(text))

    def _uuid(self, found: re.Match[str]) -> str:
        if len(found[0]) == len("12345678"):
            return self._map.get(found[0].lower(), found[0])
        stands = self._map.get(_dashed(found[0]))
        between = found[1] if found[1] is not None else "-"
        return found[0] if stands is None else stands.replace("-", between)

    def _mac(self, found: re.Match[str]) -> str:
        stands = self._map.get(_colons(found[0]))
        return found[0] if stands is None else stands.replace(":", found[1] if found.re is _MAC else "")

    def _v4_name(self, found: re.Match[str]) -> str:
        stands = self._map.get(found[0].replace(found[1], "."))
        return found[0] if stands is None else stands.replace(".", found[1])

    def _address(self, found: re.Match[str]) -> str:
        inner = _v6_in(found[0])
        if inner is None:
            return found[0]
        before, address, after = inner
        return f"{before}{self._map.get(address, address)}{after}"

    def _named(self, found: re.Match[str]) -> str:
        # Letters are alike for a pattern whose small forms are not (the long s, the dotless i): then it is any name.
        return self._map.get(f"name {found[1].lower()}", "name-0000")

    def record(self, value: Any, packed: bool = False) -> Any:
        """A value of JSON, keys that are data included; words of its structure stay. ``packed``: as learn_record."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.key(key): self.record(item, packed) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        if _is_core(value):
            return [*value[:2], {key: self.record(item, True) for key, item in value[2].items()}]
        if not packed:
            return [self.record(item) for item in value]
        if value[:1] in (["E"], ["B"]):
            return value
        # A pair of a "D" is a list without a letter.
        first = [value[0]] if value[:1] and value[0] in ("T", "L", "S", "D") else []
        if value[:1] == ["D"]:
            return ["D", *([self.record(item, True) for item in pair] for pair in value[1:])]
        return first + [self.record(item, True) for item in value[len(first) :]]

    def key(self, key: str) -> str:
        """A key that is no word of the contract is data: a UUID, an address, a name."""
        return key if _FIELD.fullmatch(key) else self.text(key)


def _is_core(value: list[Any]) -> bool:
    """Is it one of the core's values, as a decision's input has them?"""
    return value[:1] == ["C"] and len(value) == 3 and isinstance(value[2], dict)


def _dashed(text: str) -> str:
    """A UUID in the form of RFC 9562, whatever is between its digits."""
    digits = re.sub("[-_]", "", text).lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _colons(text: str) -> str:
    digits = re.sub("[:-]", "", text).lower()
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _forms(name: str) -> set[str]:
    """How a name is written, depending on who writes it."""
    plain = {name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))}
    return plain | {
        form
        for each in plain
        for form in (
            json.dumps(each)[1:-1],
            json.dumps(each, ensure_ascii=False)[1:-1],
            html.escape(each),
            html.escape(each, quote=False),
            quote(each, safe=""),
        )
    }


def _v6_in(text: str) -> tuple[str, str, str] | None:
    """What is before, the longest IPv6 address in it, and what is behind; None: there is none.

    A word before it (``host:fd00::1``) and a colon behind it (``fd00::1: refused``) look like parts of it.
    """
    groups = text.split(":")
    if len(groups) < 8 and "::" not in text:
        return None
    for length in range(len(groups), 2, -1):
        for first in range(len(groups) - length + 1):
            found = ":".join(groups[first : first + length])
            if _is_v6(found):
                at = len(":".join(groups[:first])) + (1 if first else 0)
                return text[:at], found, text[at + len(found) :]
    return None


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
        for text in _texts(record):
            redaction.learn(text)


def _texts(value: Any) -> Iterator[str]:
    """Each by itself: beside an escape, as JSON has them for a line's end, nothing would be found."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
