"""What a browser shows of the pools, and nothing that changes them."""
