"""``python -m poolwarden_lab``: the same as ``poolwarden lab``."""

from poolwarden_lab.cli import lab

if __name__ == "__main__":
    lab(prog_name="poolwarden lab")
