"""Telling: status, explanation, readiness, and alerts on what a person should know. Decides nothing."""
