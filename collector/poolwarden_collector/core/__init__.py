"""The collector's core: pure decisions about one pool.

Nothing here reads a clock, a socket, a file or chance. Time enters as ``now``: milliseconds on the collector's
monotonic clock. What must be remembered leaves as journal entries, what must be done leaves as effects, and the shell
makes the first durable before it performs the second.
"""
