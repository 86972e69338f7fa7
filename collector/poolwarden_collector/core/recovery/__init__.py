"""What is tried before and instead of a failover, and what brings hosts back."""
