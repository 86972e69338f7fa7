"""When Python looks for garbage in cycles: seldom, and in small portions, because everything stands still meanwhile.

Rules
-----
* Nearly all that lives here is pools, facts and streams, a hundred objects for each agent and more; what dies of it is
  freed at once, by its count of references. Cycles are few: streams and tasks that have ended.
* With CPython's own thresholds (700, 10, 10) a collector of 1,000 agents looks through all of it every half minute, for
  0.15 s, and one of 10,000 for a second and more. A look through what is young takes about 3 us for each object: a
  portion of 15,000 is some 40 ms at most. All of it is looked through when about four million more objects were made
  than freed: a few hundred MB at most that wait to be freed (docs.python.org, gc.set_threshold).
* What was there before the first agent, modules above all, is never looked through again (gc.freeze).
"""

from __future__ import annotations

import gc

THRESHOLDS = (5_000, 3, 200)


def seldom() -> None:
    """From now on; to be called once, when all modules are there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
