"""What an administrator and systemd call on this host: ``poolwarden-agent enrol``, ``gate`` and ``disk``."""
