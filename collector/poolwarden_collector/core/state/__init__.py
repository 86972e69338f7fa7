"""What is remembered: the durable record folded from the journal, live state, and one step in the making."""
