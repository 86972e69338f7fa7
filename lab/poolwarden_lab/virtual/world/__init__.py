"""Pools in virtual time: machines, network, clock, and everything that stands in them."""
