"""What the agent and the collector both ship: the contract (v1), the Redfish question, the asking side of enrolment."""
