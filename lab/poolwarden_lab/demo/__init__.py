"""The demo: one fault, played before the operator's eyes."""
