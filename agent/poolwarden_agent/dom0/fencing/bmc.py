"""What this machine's BMC tells its own dom0: its LAN address and GUID, by ``ipmitool`` over the system interface.

It is asked at the agent's start and then each six hours, one question at a time, and never waited for: each look takes
what has been answered since the last one. A BMC that hangs costs a child that is killed after a minute, and nothing is
known of it then. (IPMI 2.0: 23.2 Get LAN Configuration Parameters, 22.14 Get System GUID.)
"""

import os
import re
import subprocess
from typing import Callable, NamedTuple

DEVICES = ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")
PROGRAM = "usr/bin/ipmitool"
ASK_EVERY_S, LIMIT_S = 6 * 3600.0, 60.0
MOST = 16384  # less than a pipe holds: the child never waits for a reader
QUESTIONS = (("lan", "print"), ("mc", "guid"))
_ADDRESS = re.compile(r"^\s*IP Address\s*:\s*([0-9.]{7,15})\s*$", re.M)
_GUID = re.compile(r"^\s*(?:System |Device )?GUID\s*:\s*([0-9a-fA-F-]{32,36})\s*$", re.M)

Known = NamedTuple("Known", [("address", str), ("guid", str)])


class Bmc:
    """See the module's docstring. ``look`` never blocks."""

    def __init__(self, root: str, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._known = Known("", "")
        self._next = clock()
        self._since = 0.0
        self._left = []  # type: List[Tuple[str, ...]]
        self._child = None  # type: Optional[subprocess.Popen[bytes]]

    def look(self) -> Known:
        """What is known now; begins or takes in a question where one is due."""
        now = self._clock()
        if self._child is not None:
            self._take(now)
        elif self._left:
            self._ask(now)
        elif now >= self._next and self._is_there():
            self._left = list(QUESTIONS)
            self._ask(now)
        return self._known

    def _is_there(self) -> bool:
        self._next = self._clock() + ASK_EVERY_S
        device = any(os.path.exists(os.path.join(self._root, path)) for path in DEVICES)
        return device and os.access(os.path.join(self._root, PROGRAM), os.X_OK)

    def _ask(self, now: float) -> None:
        command = [os.path.join(self._root, PROGRAM)] + list(self._left[0])
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}
        null = subprocess.DEVNULL
        try:
            self._child = subprocess.Popen(
                command, stdin=null, stdout=subprocess.PIPE, stderr=null, env=environment, cwd="/", close_fds=True
            )
        except OSError:
            self._left = []
            return
        self._since = now

    def _take(self, now: float) -> None:
        child = self._child
        assert child is not None and child.stdout is not None
        if child.poll() is None:
            if now - self._since >= LIMIT_S:
                child.kill()  # taken in at a later look, if the kernel lets go of it
                self._left = self._left[:1]
            return
        question, self._left, self._child = self._left[0], self._left[1:], None
        with child.stdout as stream:
            said = stream.read(MOST).decode("utf-8", "replace") if child.returncode == 0 else ""
        found = (_ADDRESS if question == QUESTIONS[0] else _GUID).search(said)
        text = found.group(1).lower() if found else ""
        if question == QUESTIONS[0]:
            self._known = self._known._replace(address="" if text == "0.0.0.0" else text)
        else:
            self._known = self._known._replace(guid=text)
