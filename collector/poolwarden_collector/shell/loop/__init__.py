"""The one loop: step, commit, perform."""
