"""poolwarden-agent: one per dom0. It reports what this host is, and obeys orders that its own gate has checked."""

__version__ = "0.1.0"
PROTOCOL_VERSION = 1
