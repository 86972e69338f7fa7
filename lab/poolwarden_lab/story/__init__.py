"""Stories: what happens to pools, in a small text language, and the log that must come of it.

A story is for an administrator to read and to write: `tests/scenarios/README.md` explains it. ``text`` reads the
file, ``grammar`` knows the forms of commands, ``stage`` holds the simulated world they act on, ``book`` writes the log,
``play`` puts them together.
"""
