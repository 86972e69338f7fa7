"""What is said: frozen values without rules. Hosts, events, orders, effects, entries, policy, reasons."""
