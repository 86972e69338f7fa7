"""A program of its own that executes a fence agent, unless the time for that is over.

    python -I -S launcher.py UNTIL LIMIT WORD PROGRAM [ARGUMENT...]

``UNTIL``: milliseconds on CLOCK_BOOTTIME, which goes on while the machine sleeps. ``LIMIT``: milliseconds after which
the program is ended by SIGALRM, also where whoever started it is gone (an interval timer is kept over an execution,
setitimer(2)). ``WORD``: a file descriptor on which it says what becomes of it, each a letter: ``l`` and by how many
milliseconds it was too late; ``b`` right before the program is executed; after that ``x`` and the reason where it could
not be. Without a ``b`` it has never been executed.

Whoever starts a process cannot know when that runs: a machine may be suspended, and a process stopped, between its
start and its first instruction. So the comparison is made here, and nothing but the execution follows it.
"""

import os
import signal
import sys
import time


def main() -> None:
    """Compare, and execute."""
    until, limit, word = (int(each) for each in sys.argv[1:4])
    program = sys.argv[4:]
    os.set_inheritable(word, False)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and what is executed would ignore as well
        signal.signal(number, signal.SIG_DFL)
    late = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 - until
    # safety: whoever has the pool by now counts on it that nothing of this begins any more.
    if late >= 0:
        os.write(word, b"l%d" % late)
        return
    signal.setitimer(signal.ITIMER_REAL, limit / 1000)
    os.write(word, b"b")
    try:
        os.execv(program[0], program)
    except OSError as error:
        os.write(word, b"x" + (error.strerror or str(error)).encode())


if __name__ == "__main__":
    main()
