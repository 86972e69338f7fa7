"""The agent's pure part: the order gate, and judgements from observations. No clock, no socket, no file."""
