"""Events on their way to the engine, and who does what waits in the journal."""
