"""An evidence capsule that this host holds, and which of them give way to another one. Pure."""

import re
from typing import List, NamedTuple, Sequence

MIB = 1024 * 1024
BIGGEST = 3 * MIB
MOST = 4  # two first signs, and what was to be seen some minutes after each
MOST_BYTES = MOST * BIGGEST
BIGGEST_PIECE = 65536
ID = re.compile(r"[0-9a-f]{32}\Z")
DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Capsule(NamedTuple):
    """``taken``: a collector has it whole. ``mono_ms``: when it was begun, by the clock of ``boot``."""

    id: str
    trigger: str
    text: str
    boot: str
    mono_ms: int
    wall_ms: int
    size: int
    sha256: str
    taken: bool = False


def giving_way(held: Sequence[Capsule]) -> List[Capsule]:
    """What has to go before another one of the biggest size is begun, by ``wall_ms`` the oldest first.

    What a collector has goes first. Of the others the first and the newest stay: what began it, and how it is now.
    """
    left = sorted(held, key=lambda capsule: (capsule.wall_ms, capsule.id))
    gone: List[Capsule] = []
    while left and (len(left) >= MOST or sum(capsule.size for capsule in left) + BIGGEST > MOST_BYTES):
        taken = [capsule for capsule in left if capsule.taken]
        one = taken[0] if taken else left[min(1, len(left) - 1)]
        left.remove(one)
        gone.append(one)
    return gone
