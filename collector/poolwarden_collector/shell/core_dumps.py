"""A crash leaves no image of memory behind: it would hold the passwords of BMCs and the collector's private key.

A limit of 1 byte, not of 0: a core that is piped to a program (systemd-coredump) is not limited by 0, and the kernel
drops it at 1; a core file is never as small as that (core(5); Linux: fs/coredump.c, do_coredump). Programs that the
collector starts inherit it.
"""

from __future__ import annotations

import contextlib
import resource

LIMIT = 1


def forbid() -> None:
    """For this process and whatever it starts."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = LIMIT if most == resource.RLIM_INFINITY or most >= LIMIT else most
    with contextlib.suppress(OSError, ValueError):  # where even that may not be set, the unit's own limit stands
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
