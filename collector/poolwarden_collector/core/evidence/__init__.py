"""From facts to one verdict, and to proofs."""
