"""What nobody may see of what a program, a device or a member says: the values of its secret parameters.

Rule: cleaned first, cut afterwards. A line that is cut, stripped or split first may keep the beginning of a secret, in
which the secret is not found any more. Where the cut came before us (a full buffer, a member of an older version), the
end is hidden as far as it could be the beginning of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_NAMES = ("pass", "secret", "token", "key", "community", "hexadecimal_kg")
STARS = "***"


def is_secret(name: str) -> bool:
    """Is this parameter's value one that nobody may see?"""
    return any(part in name.lower() for part in _NAMES)


def secrets_of(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """The values among parameters that nobody may see, longest first."""
    found = {value for name, value in parameters.items() if value and is_secret(name)}
    return tuple(sorted(found, key=len, reverse=True))


def hidden(text: str, secrets: Iterable[str], cut: bool = False) -> str:
    """The text without secrets; ``cut``: its end may be missing, and a secret may be cut with it."""
    ordered = sorted((secret for secret in secrets if secret), key=len, reverse=True)
    for secret in ordered:
        text = text.replace(secret, STARS)
    if not cut:
        return text
    whole = text.rstrip("\ufffd")  # a character that was cut in its middle
    begun = max((_begun(whole, secret) for secret in ordered), default=0)
    return whole[: len(whole) - begun] + STARS if begun else text


def _begun(text: str, secret: str) -> int:
    """How many characters of the secret's beginning end the text."""
    longest = min(len(secret) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(secret[:n])), 0)
