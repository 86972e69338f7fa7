"""What can go wrong, made from outside."""
