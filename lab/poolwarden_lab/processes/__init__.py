"""Real programs: collector, agents, simulated xapi and BMCs, in network namespaces."""
