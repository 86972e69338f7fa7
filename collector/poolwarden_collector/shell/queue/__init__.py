"""Events on their way to the engine."""
