"""What Prometheus reads: figures of pools, hosts and of the collector itself, served on an address of their own."""
