"""IP literals: whether a text is one, and whether two are the same however they are spelled."""

import functools
import ipaddress


@functools.lru_cache(maxsize=256)
def is_address(text: str) -> bool:
    """Is this an IP literal?"""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def same(one: str, other: str) -> bool:
    """Are these the same address, however IPv6 is spelled?"""
    if one == other:
        return True
    if is_address(one) and is_address(other):
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    return one == other
