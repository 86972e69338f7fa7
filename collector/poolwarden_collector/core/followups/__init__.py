"""What is owed after a failover, for days if need be."""
