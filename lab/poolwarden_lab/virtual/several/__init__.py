"""Several collectors over etcd in virtual time: production's own shell, each on an event loop of the one clock."""
