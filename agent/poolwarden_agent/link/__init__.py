"""The unprivileged process that owns gRPC and TLS. Nothing outside this package may import it before the fork."""
