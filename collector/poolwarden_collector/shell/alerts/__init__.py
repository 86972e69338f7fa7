"""Alerts on their way to people: an outbox that survives a crash, its sinks, and a way that needs no disk."""
