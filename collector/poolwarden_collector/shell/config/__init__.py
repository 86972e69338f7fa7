"""collector.toml, fence blocks and certificates: read whole and checked before anything starts."""
