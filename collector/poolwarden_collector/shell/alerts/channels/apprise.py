"""Alerts to what the library apprise knows by an address: Slack, Teams, Telegram, ntfy, PagerDuty, Pushover ...

Rules
-----
* Each delivery is a process of its own (apprise_process.py), which is told address and text on its standard input: it
  can be ended when it hangs, which no thread can; its environment names no proxy; whatever it prints is not read.
* Why a service refused is told as its status alone: the library quotes addresses, which hold tokens.
* Services with incidents get the alert's key as theirs, and the end closes the incident.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from poolwarden_collector.shell.alerts.channels.wording import body, cut, heading, is_over, line, severity
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Apprise
from poolwarden_collector.shell.store.journal import Parcel

LIMIT_S = 30.0
BODY_LIMIT = 8192  # bytes; what a service cannot carry is cut by apprise
_PROGRAM = Path(__file__).with_name("apprise_process.py")


class AppriseSink:
    """One notification per parcel."""

    def __init__(self, apprise: Apprise, limit_s: float = LIMIT_S) -> None:
        self.name = apprise.channel
        self._apprise = apprise
        self._limit_s = limit_s

    def deliver(self, parcel: Parcel) -> None:
        said = _run(order(self._apprise, parcel), self._apprise.ca, self._limit_s)
        if said != "taken":
            raise SinkError(f"{line(self._apprise.scheme)}: {said}")


def why_unknown(apprise: Apprise) -> str:
    """Why apprise can make nothing of this address; empty: it can. For check-config; sends nothing."""
    try:
        said = _run({"url": apprise.url, "check": True}, None, LIMIT_S)
    except SinkError as error:
        said = str(error)
    return "" if said == "taken" else said


def order(apprise: Apprise, parcel: Parcel) -> dict[str, Any]:
    """What the process is told."""
    over = is_over(parcel)
    runbook = line(parcel.payload.get("runbook", ""))
    said = cut(body(parcel), BODY_LIMIT)
    return {
        "url": apprise.url,
        "title": cut(heading(parcel), 250),
        "body": f"{said}\n\n{runbook}".strip() if runbook.startswith("http") else said or heading(parcel),
        "severity": severity(parcel),
        "over": over,
        "incident": incident(parcel),
        "collector": line(parcel.payload.get("collector", "")),
    }


def incident(parcel: Parcel) -> str:
    """One name for beginning, reminders and end: plain letters, because services limit length and characters."""
    key = f"{parcel.key}/{parcel.occurrence}"
    return f"poolwarden-{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:32]}"


def _run(told: dict[str, Any], ca: Path | None, limit_s: float) -> str:
    """What came of it: "taken", or why not."""
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent"}
    if ca:
        environment |= {"REQUESTS_CA_BUNDLE": str(ca), "SSL_CERT_FILE": str(ca)}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PROGRAM)],
            input=json.dumps({"path": sys.path, **told}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SinkError(f"no answer within {limit_s:g} s") from None
    except OSError as error:
        raise SinkError(f"{sys.executable} cannot be started: {error.strerror}") from None
    said = done.stdout.decode(errors="replace").splitlines()
    return said[-1] if said else f"its process ended with status {done.returncode}"
