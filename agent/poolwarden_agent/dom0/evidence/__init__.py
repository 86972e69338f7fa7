"""What of a host is kept in an evidence capsule, and where."""
