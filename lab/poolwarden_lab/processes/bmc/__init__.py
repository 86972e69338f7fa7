"""BMC simulators: one board, its IPMI and Redfish fronts, a chassis."""
