"""This host's clock for everything that expires: it runs while the machine is suspended, and no wall clock moves it.

CLOCK_MONOTONIC stands still while a machine is suspended, so an order that lay in a buffer meanwhile would count as
fresh at its resume. /proc/PID/stat counts since boot on this same clock (Linux: fs/proc/array.c, start_boottime).
"""

import time

_BOOTTIME = 7  # CLOCK_BOOTTIME; Python 3.6 has no name for it


def now_s() -> float:
    """Seconds since this boot, asleep or not."""
    return time.clock_gettime(_BOOTTIME)
