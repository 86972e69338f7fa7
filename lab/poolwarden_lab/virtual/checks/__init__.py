"""What must never happen, checked after every event."""
