"""Alerts as channels really show them: those of a story, by the simulated pools and production's core and channels.

``docs/alerts-by-channel.md`` names stories (``<!-- alerts: NAME -->``), of ``stories`` or of ``alert_stories``; below
each name stands what mail, syslog and Alertmanager make of its alerts. ``python -m tests.screens.channel_alerts``
writes that anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.channels import alertmanager, mail, syslog
from poolwarden_collector.shell.config.alert_kinds import FACILITIES, Mail
from poolwarden_collector.shell.store.journal import Parcel

from .stage import STORIES, Screens, parts

OWN = Path(__file__).parent / "alert_stories"
DOCUMENT = Path(__file__).parents[2] / "docs/alerts-by-channel.md"
BEGIN_MS = clock.ms_of("2026-01-31T20:00:00.000Z") or 0
SETTINGS = Mail("duty", "smtp.example.com", 587, "starttls", "poolwarden@example.com", ("duty@example.com",))
DOCS = "https://wiki.example.com/poolwarden"
FENCE = "```"


def story(name: str) -> Path:
    """The file of a story."""
    own = OWN / f"{name}.txt"
    return own if own.exists() else STORIES / f"{name}.txt"


def parcels(screens: Screens) -> Iterator[tuple[int, Parcel]]:
    """What the outbox would deliver of a story, with the wall time of each, as the journal makes it."""
    names = {uuid: state.record.display_name for uuid, state in screens.shell.pools.items()}
    told: dict[str, dict[str, Any]] = {}
    for commit in screens.shell.ledger.commits:
        at = BEGIN_MS + commit.ms
        for each in commit.alerts:
            if isinstance(each, AlertRaised):
                payload = {
                    "key": each.key,
                    "occurrence": told.get(each.key, {}).get("occurrence", 0) + 1,
                    "state": "firing",
                    "severity": each.severity,
                    "title": each.title,
                    "body": each.body,
                    "pool": {"uuid": commit.pool, "name": names[commit.pool]},
                    "collector": "watch-1",
                    "raised_at": clock.text_of(at),
                    "resolved_at": "",
                    "data": each.data,
                    "runbook": f"{DOCS}/runbook.md#{each.data['message']}",
                }
            elif each.key in told:
                ended = {"state": "resolved", "body": each.text, "resolved_at": clock.text_of(at)}
                payload = told[each.key] | ended
            else:
                continue
            told[each.key] = payload
            yield at, Parcel(0, each.key, payload["occurrence"], payload["state"], "", commit.pool, payload, 0, 0)


def as_mail(parcel: Parcel) -> str:
    """The mail as a reader shows it: the headers that are the alert's own, and the text."""
    made = mail.message(SETTINGS, parcel)
    shown = [
        f"{name}: {made[name]}" for name in ("From", "To", "Subject", "Auto-Submitted", "Message-ID", "References")
    ]
    headers = "\n".join(line for line in shown if not line.endswith(": None"))
    return f"{headers}\n\n{made.get_content().strip()}"


def as_syslog(at: int, parcel: Parcel) -> str:
    """The message as it goes to the receiver."""
    with (
        mock.patch.object(clock, "wall_text", lambda: clock.text_of(at)),
        mock.patch.object(syslog.socket, "gethostname", lambda: "watch-1"),
        mock.patch.object(syslog.os, "getpid", lambda: 811),
    ):
        return syslog.message(parcel, FACILITIES["daemon"]).decode().replace("\ufeff", "")


def as_alertmanager(parcel: Parcel, now: int) -> str:
    """The alert as Alertmanager keeps it."""
    told = alertmanager.alert(parcel, now)
    labels = "\n".join(f"  {name}: {value}" for name, value in told["labels"].items())
    notes = "\n".join(f"  {name}: {value}" for name, value in told["annotations"].items())
    notes = re.sub(r"\n(?!  \w+: |\n)", "\n    ", notes)
    return f"labels:\n{labels}\nannotations:\n{notes}\nstartsAt: {told['startsAt']}"


def render(name: str) -> str:
    """What stands in the document below a story's name."""
    text, _ = parts(story(name))
    screens = Screens(name, text)
    told = list(parcels(screens))
    assert told, f"{name} raises no alert"
    mails = "\n\n".join(f"{'-' * 72}\n{as_mail(parcel)}" for _, parcel in told)
    lines = "\n".join(as_syslog(at, parcel) for at, parcel in told)
    now = BEGIN_MS + screens.stage.world.now
    last = {parcel.key: parcel for _, parcel in told}
    standing = [as_alertmanager(parcel, now) for parcel in last.values() if parcel.state == "firing"]
    shown = {
        "By mail": mails,
        "By syslog": lines,
        "What Alertmanager has at the end": "\n\n".join(standing) or "(nothing)",
    }
    return "\n\n".join(f"{head}:\n\n{FENCE}text\n{what}\n{FENCE}" for head, what in shown.items())


def named(text: str) -> list[str]:
    """The stories that the document names."""
    return re.findall(r"<!-- alerts: (\S+) -->", text)


def in_document(text: str) -> str:
    """The document with each of its stories anew."""

    def shown(found: re.Match[str]) -> str:
        return f"<!-- alerts: {found[1]} -->\n\n{render(found[1])}\n\n<!-- end -->"

    return re.sub(r"<!-- alerts: (\S+) -->.*?<!-- end -->", shown, text, flags=re.DOTALL)


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(in_document(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
