"""``poolwarden pool``: the agents of a whole pool, a host at a time, by the operator's own OpenSSH."""
