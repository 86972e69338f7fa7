"""Hooks: programs of the operator's that are run when the master changes; one that is shipped, for a DNS name."""
