"""The collector's shell in virtual time."""
