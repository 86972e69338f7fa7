"""Fence devices: what they say together, who runs them, and whose machine each switches."""
