"""What an operator may order and answer; each command is answered with a reason."""
