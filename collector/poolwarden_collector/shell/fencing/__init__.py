"""Fence agents run by the collector, or by members for it; what devices say of themselves; ``fence setup``."""
