"""Which words of SMBIOS and IPMI name a machine, and which only stand where a name should: one rule for all programs.

Rules
-----
* SMBIOS keeps the first three fields of a UUID with their bytes swapped (DMTF DSP0134, 7.2.1), IPMI sends all its bytes
  backwards (IPMI 2.0, 20.8), and tools print what they get: each of these is the same UUID.
* A UUID of one repeated byte is none, and neither is one that board vendors ship on every board of a kind: the counting
  samples of AMI's and other firmware (03000200-..., 00020003-..., 00010203-...), Dell's without a service tag
  (4c4c4544-0000-2010-8020-80c04f202020), and those that inventory tools have met on strangers (osquery's
  kPlaceholderHardwareUUIDList; FOG and Rockstor issues).
* A serial is none if it says so ("To be filled by O.E.M.", "Not Specified"), names the field in place of its value
  ("Chassis Serial Number"), counts ("0123456789"), or repeats one character. Case, blanks and punctuation do not count.

Runs on Python 3.6 and newer, and needs nothing.
"""

from typing import FrozenSet

_NONE = frozenset()  # type: FrozenSet[bytes]
_SAMPLES = frozenset(
    (
        "03000200040005000006000700080009",
        "00020003000400050006000700080009",
        "000102030405060708090a0b0c0d0e0f",
        "10000000000080000040000000000000",
        "123456781234567890abcddeefaabbcc",
        "12345678123412341234123456789abc",
        "12345678123456781234567812345678",
        "deadbeefdeadbeefdeadbeefdeadbeef",
        "4c4c454400002010802080c04f202020",
    )
)
# One vendor's sample, with two bytes that differ from model to model.
_SAMPLE_ENDS = ("03d40274043505", "0700080009")

_SAYS_SO = frozenset(
    (
        "default",
        "defaultstring",
        "standard",
        "empty",
        "none",
        "null",
        "nil",
        "invalid",
        "unknown",
        "unknow",
        "undefined",
        "unspecified",
    )
    + ("tobefilled", "tobefilledbyoem", "tobefilledbyoemm", "filledbyoem", "oem", "oemserial", "oemserialnumber")
    + ("tbfboem", "tbfbyoem", "tbdbyoem", "tobedetermined", "tobespecified")
    + ("na", "notapplicable", "notavailable", "notspecified", "notsettable", "notset", "notprovided", "notdefined")
    + ("notassigned", "notpresent", "noserial", "noserialnumber", "noassetinformation", "noassettag", "nodata")
    + ("outofspec", "badindex", "invalidentry", "qemu", "bochs", "virtual", "virtualmachine", "eval", "sample", "test")
)
# What stands before "serial number" where the field's name stands for its value.
_FIELDS = (
    "",
    "system",
    "chassis",
    "baseboard",
    "board",
    "motherboard",
    "mainboard",
    "product",
    "enclosure",
    "type1product",
    "type1system",
    "type2board",
    "type2baseboard",
    "type3chassis",
)
_NAMES_OF_FIELDS = frozenset(field + name for field in _FIELDS for name in ("serialnumber", "serial", "serialno", "sn"))
# Words before a number that only counts: "SSN12345678901234567", "BSS-0123456789", "MB-1234567890".
_BEFORE_COUNTING = ("", "ssn", "bss", "css", "mb", "nb", "sn", "asset", "serial")
_COUNTING = ("01234567890123456789", "12345678901234567890", "0123456789abcdef", "123456789abcdef")
_VMWARE, _VMWARE_DIGITS = "vmware", 32
_SHORTEST_SERIAL = 4


def uuid_forms(text: str) -> FrozenSet[bytes]:
    """A UUID's text as written, in SMBIOS's order, and both backwards; empty if it names no machine."""
    plain = text.replace("-", "").lower()
    if len(plain) != 32 or set(plain) - set("0123456789abcdef"):
        return _NONE
    value = bytes.fromhex(plain)
    swapped = value[3::-1] + value[5:3:-1] + value[7:5:-1] + value[8:]
    both = frozenset((value, swapped, value[::-1], swapped[::-1]))
    return _NONE if len(set(value)) == 1 or any(_is_sample(each.hex()) for each in both) else both


def _is_sample(plain: str) -> bool:
    begins, ends = _SAMPLE_ENDS
    return plain in _SAMPLES or (plain.startswith(begins) and plain.endswith(ends))


def serial(text: str) -> str:
    """A serial as it can be compared; empty if it names no machine."""
    plain = "".join(each for each in text.casefold() if each.isalnum())
    placeholder = plain in _SAYS_SO or plain in _NAMES_OF_FIELDS or len(set(plain)) <= 1 or _counts(plain)
    # The serial of a virtual machine of VMware's is its UUID; cut off, it is that of all of them.
    placeholder = placeholder or (plain.startswith(_VMWARE) and len(plain) < len(_VMWARE) + _VMWARE_DIGITS)
    return "" if placeholder or len(plain) < _SHORTEST_SERIAL else plain


def _counts(plain: str) -> bool:
    """Is it, or does it end as, the beginning of counting?"""
    for word in _BEFORE_COUNTING:
        number = plain[len(word) :] if plain.startswith(word) else ""
        if len(number) > 4 and any(counting.startswith(number) for counting in _COUNTING):
            return True
    return False


def names_no_machine(text: str) -> bool:
    """Is this word of SMBIOS's, whichever it is, one that many machines have, or none at all?"""
    plain = text.replace("-", "").lower()
    is_uuid = len(plain) == 32 and not set(plain) - set("0123456789abcdef")
    return not uuid_forms(text) if is_uuid else not serial(text)
