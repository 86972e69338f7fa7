"""`poolwarden query`: SQL over the collector's records, read-only, on the collector's machine."""
