"""Files, mounts, units, links and domains of dom0."""
