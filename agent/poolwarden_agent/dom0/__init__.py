"""The only code that touches the host: files, xapi's socket, systemd, disks, domains, probes. Never imports grpc."""
