"""Looks at what this dom0 is believed to be like: read-only, bounded in time, and without effect on anything."""
