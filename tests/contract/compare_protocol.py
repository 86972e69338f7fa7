"""Compares the bytes that two Pythons, each with its own protobuf, write for every message of the contract.

    compare_protocol.py OTHER_PYTHON

Exit status 0: equal; 1: not, and where. This is how the committed stubs are tested on dom0's Python 3.6 with protobuf
3.19.6 against the newest. Warnings of the generated code count as failures on both sides.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def written_by(python: str) -> list[str]:
    """Lines of protocol_bytes.py under that interpreter, which need not have this project installed."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "protos"), "PYTHONIOENCODING": "utf-8"}
    command = [python, "-W", "error::UserWarning", str(HERE / "protocol_bytes.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{python}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.splitlines()


def main() -> None:
    """Compare this interpreter with the named one."""
    if len(sys.argv) != 2:
        sys.exit("usage: compare_protocol.py OTHER_PYTHON")
    ours, theirs = written_by(sys.executable), written_by(sys.argv[1])
    differing = [left.split()[0] for left, right in zip(ours, theirs, strict=False) if left != right]
    if differing or len(ours) != len(theirs) or not ours:
        sys.exit(f"{len(ours)} and {len(theirs)} messages; different bytes: {', '.join(differing) or 'none'}")
    print(f"{len(ours)} filled messages, the same bytes by {sys.executable} and {sys.argv[1]}")


if __name__ == "__main__":
    main()
