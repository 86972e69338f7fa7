"""The agent in virtual time: production's order gate over a modelled dom0."""
