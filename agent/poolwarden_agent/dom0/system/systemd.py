"""What is asked of systemd: restart xapi, stop and start the toolstack. Never a shell, never xe-toolstack-restart (it
closes 443).

A restart can take 90 s, and the agent may be killed meanwhile while systemctl goes on. So systemctl inherits a lock
(flock of an open file): the next process waits until that run has ended, and then looks whether anything is left to do.
"""

import fcntl
import os
import signal
import subprocess
import time
from typing import Callable, List, Tuple, Union

from poolwarden_agent.host_port import Act

NEW_PROCESS_S = 15.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def restart_xapi(systemctl: str, lock: str, process: Callable[[], Tuple[int, int]], limit_s: float) -> Act:
    """Run ``systemctl restart xapi.service`` and wait for another xapi process, within ``limit_s`` seconds.

    ``lock``: path of a file to lock; ``process`` tells xapi's pid and start ticks, (0, 0) for none.
    """
    deadline = time.monotonic() + limit_s
    before = process()
    try:
        held = os.open(lock, os.O_RDONLY)
    except OSError as error:
        return Act("failed", "the lock %s cannot be opened: %s" % (lock, error.strerror))
    try:
        if not _locked(held, deadline):
            return Act("unknown", "an earlier systemctl restart has not ended")
        if process() not in (before, (0, 0)):
            return Act("done", "an earlier systemctl restart has just replaced xapi")
        return _run(systemctl, held, before, process, deadline)
    finally:
        fcntl.flock(held, fcntl.LOCK_UN)  # also for whatever systemctl may have left behind
        os.close(held)


def _locked(held: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(0.05)


def _run(
    systemctl: str, held: int, before: Tuple[int, int], process: Callable[[], Tuple[int, int]], deadline: float
) -> Act:
    said = ask(systemctl, ["restart", "xapi.service"], held, deadline)
    if isinstance(said, Act):
        return said
    code, text = said
    if code:
        return Act("failed", "systemctl ended with %d: %s" % (code, text))
    return _replaced(before, process, min(deadline, time.monotonic() + NEW_PROCESS_S))


def locked(lock: str, deadline: float, work: Callable[[int], Act]) -> Act:
    """Do this while no other caller asks systemd; ``work`` gets the lock's descriptor, for its children."""
    try:
        held = os.open(lock, os.O_RDONLY)
    except OSError as error:
        return Act("failed", "the lock %s cannot be opened: %s" % (lock, error.strerror))
    try:
        if not _locked(held, deadline):
            return Act("unknown", "an earlier systemctl has not ended")
        return work(held)
    finally:
        fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)


def ask(systemctl: str, words: List[str], held: int, deadline: float) -> Union[Act, Tuple[int, str]]:
    """Run it with these words: its exit code and what it said, or the Act that it was not run or did not end."""
    try:
        run = subprocess.Popen(
            [systemctl] + words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            pass_fds=(held,),
        )
    except OSError as error:
        return Act("failed", "systemctl cannot be run: %s" % error)
    assert run.stderr is not None
    with run.stderr:
        try:
            code = run.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return Act("unknown", "systemctl has not ended within its limit")
        os.set_blocking(run.stderr.fileno(), False)  # another process may still hold the other end
        said = (run.stderr.read() or b"").decode("utf-8", "replace").strip()[-200:]
    return code, said


def _replaced(before: Tuple[int, int], process: Callable[[], Tuple[int, int]], deadline: float) -> Act:
    while process() in (before, (0, 0)):
        if time.monotonic() >= deadline:
            return Act("unknown", "systemctl restart xapi.service has ended, but no new xapi process is there")
        time.sleep(0.05)
    return Act("done", "systemctl restart xapi.service")
