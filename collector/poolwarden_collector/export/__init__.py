"""`poolwarden export`: all that is known of a failover, or of a span of time, in one archive, made from the API."""
