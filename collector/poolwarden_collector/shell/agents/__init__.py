"""The agents' side: who may speak, one stream each, and databases that are carried from one to another."""
