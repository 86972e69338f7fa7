"""When a host asks for its next certificate. Pure; times are seconds of the wall clock, which decides nothing else.

A certificate is renewed at a share of what the collector has said when it was issued, another share for each one: hosts
that were enrolled together do not come back together. The share is of the certificate, so that a restart changes
nothing. A clock that was set back makes it due at once, one that was set ahead renews early: neither does harm.
"""

import hashlib

LEAST_SHARE = 0.85
LEAST_S, MOST_S = 60, 30 * 86400
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0


def share(certificate: bytes) -> float:
    """Of this certificate: from 0.85 to 1."""
    drawn = int.from_bytes(hashlib.sha256(certificate).digest()[:4], "big") / float(1 << 32)
    return LEAST_SHARE + (1 - LEAST_SHARE) * drawn


def left_s(issued_s: float, renew_after_s: float, part: float, now_s: float) -> float:
    """How long until it is due; 0: it is."""
    if now_s < issued_s:
        return 0.0
    return max(0.0, issued_s + min(max(renew_after_s, LEAST_S), MOST_S) * part - now_s)


def pause_s(failures: int, part: float) -> float:
    """How long nothing is asked after so many attempts in a row that came to nothing."""
    return min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), LONGEST_PAUSE_S) * part
