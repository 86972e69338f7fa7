"""IP literals: whether a text is one, and whether two are the same however they are spelled.

xapi and its clients write IPv6 as it was given to them: pool.conf keeps what somebody typed at pool-join, HOST_IS_SLAVE
names it so, and in URLs it stands in brackets (xapi: ocaml/libs/http-lib/http.ml, maybe_wrap_IPv6_literal).
"""

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


def bare(text: str) -> str:
    """An IPv6 literal without the brackets that it has in a URL; any other text as it is."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") and is_address(text[1:-1]) else text


@functools.lru_cache(maxsize=256)
def same(one: str, other: str) -> bool:
    """Are these the same address, however IPv6 is spelled, and in brackets or not?"""
    if one == other:
        return True
    one, other = bare(one), bare(other)
    if is_address(one) and is_address(other):
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    return one == other
