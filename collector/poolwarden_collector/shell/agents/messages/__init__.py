"""Between the contract's messages and the core's values. Only shapes change here."""
