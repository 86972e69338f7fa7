"""What may be done, with whom, at what price, and who must agree."""
