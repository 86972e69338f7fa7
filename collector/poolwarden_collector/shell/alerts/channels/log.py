"""Alerts in a file or on standard error: one line of JSON each, after the word ALERT.

The file is opened for each line, so that logrotate needs no signal; a regular file is synced before an alert counts as
taken.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from pathlib import Path

from poolwarden_collector.shell.alerts.channels.wording import document
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import LogFile
from poolwarden_collector.shell.store.journal import Parcel

MADE_BY_THE_UNIT = Path("/var/log/poolwarden")  # its LogsDirectory


class LogSink:
    """One line of JSON per alert, in a file or on standard error."""

    def __init__(self, path: str) -> None:
        self.name = LogFile(path).channel
        self._path = path

    def deliver(self, parcel: Parcel) -> None:
        line = f"ALERT {json.dumps(document(parcel), ensure_ascii=False)}\n"
        try:
            if self._path == "-":
                sys.stderr.write(line)
                sys.stderr.flush()
                return
            with open(self._path, "a", encoding="utf-8") as file:  # noqa: PTH123  (appends to what may be a pipe)
                file.write(line)
                file.flush()
                if file.seekable():
                    os.fsync(file.fileno())
        except (OSError, ValueError) as error:
            raise SinkError(f"{self._path}: {error}") from error


def alert_log_trouble(path: str) -> str:
    """Why no alert can be written to this file, by whoever asks; empty if it can be.

    Only check-config asks: a collector whose alert log is out of reach still guards its pools, by its other channels.
    """
    if path in ("", "-") or Path(path).parent == MADE_BY_THE_UNIT:
        return ""
    file = Path(path)
    if file.is_dir():
        return f"{path} is a directory; expected a file"
    if not file.parent.is_dir():
        return f"{path}: there is no directory {file.parent}; make it, writable for the collector's user"
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return f"{path} cannot be written by {getpass.getuser()}; run check-config as the collector's user"
    return ""
