"""What an administrator and systemd call on this host: ``poolwarden-agent gate`` and ``disk``."""
