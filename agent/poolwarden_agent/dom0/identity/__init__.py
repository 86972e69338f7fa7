"""This host's key and certificate: made, kept and replaced in dom0, where the key stays."""
