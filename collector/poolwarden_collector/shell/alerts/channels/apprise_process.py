"""One notification by apprise, in a process of its own: told on standard input as JSON, answers one line.

It is run as a file (apprise.py), so it imports nothing of ours, and apprise only when it is asked to send: the import
takes tenths of a second and tens of megabytes, which the collector itself need not carry.

Rules
-----
* Nothing that apprise logs is passed on: it quotes addresses. Of it only the number of an HTTP status is told.
* Redirects are not followed.
* What the address itself says (a priority, a key of incidents) is not overridden.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

TAKEN = "taken"
# Where the alert's key becomes that of the service's incident: its parameter, and what has an end close it.
# apprise 2.3, plugins/*.py: template_args.
INCIDENTS = {
    "pagerduty": ("dedup", {"action": "map"}),
    "squadcast": ("dedup", {"action": "map"}),
    "ilert": ("dedup", {"action": "map"}),
    "incidentio": ("dedup", {"action": "map"}),
    "firehydrant": ("dedup", {"action": "map"}),
    "pagertree": ("dedup", {"action": "map"}),
    "signl4": ("dedup", {"action": "map"}),
    "goalert": ("dedup", {"action": "map"}),
    "goalerts": ("dedup", {"action": "map"}),
    "opsimate": ("dedup", {"action": "map"}),
    "opsimates": ("dedup", {"action": "map"}),
    "splunk": ("entity_id", {"action": "map"}),
    "victorops": ("entity_id", {"action": "map"}),
    # A new alert of every severity: by itself it would make an info a note of an alert that is not there.
    "opsgenie": ("alias", {":info": "new"}),
}  # fmt: skip
# Where the severity is not told by the kind of notification. Opsgenie's P1 is its gravest.
PRIORITIES = {
    "opsgenie": {"critical": "p1", "warning": "p3", "info": "p5", "over": "p5"},
    "ntfy": {"critical": "max", "warning": "high", "info": "default", "over": "default"},
    "ntfys": {"critical": "max", "warning": "high", "info": "default", "over": "default"},
    "pover": {"critical": "high", "warning": "normal", "info": "low", "over": "normal"},
}


def main() -> None:
    """Do what standard input says."""
    told = json.load(sys.stdin)
    sys.path[:] = told.pop("path")
    answer = os.dup(1)
    os.dup2(2, 1)  # what a plugin prints is not an answer
    said = send(told)
    os.write(answer, f"{said}\n".encode())


def send(told: dict[str, Any]) -> str:
    """Deliver; "taken", or why not."""
    import apprise  # late: see above

    heard = io.StringIO()
    logger = logging.getLogger("apprise")
    logger.handlers[:], logger.propagate = [logging.StreamHandler(heard)], False
    logger.setLevel(logging.WARNING)
    asset = apprise.AppriseAsset(app_id="Poolwarden", app_desc="Poolwarden", app_url="", http_redirects=False)
    service = apprise.Apprise.instantiate(address(told), asset=asset, suppress_exceptions=True)
    if not isinstance(service, apprise.NotifyBase):
        return "apprise can make nothing of its address: an unknown service, or a part is missing"
    if told.get("check"):
        return TAKEN
    service.redirects = False
    if told["over"] and urlsplit(told["url"]).scheme.lower() == "opsgenie":
        return _closed(service, told)
    kinds = {"critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING}
    kind = apprise.NotifyType.SUCCESS if told["over"] else kinds.get(told["severity"], apprise.NotifyType.INFO)
    all_services = apprise.Apprise(asset=asset)
    all_services.add(service)
    done = all_services.notify(
        body=told["body"], title=told["title"], notify_type=kind, body_format=apprise.NotifyFormat.TEXT
    )
    return TAKEN if done else _why(heard.getvalue())


def address(told: dict[str, Any]) -> str:
    """The address, with what this alert adds to it."""
    url = str(told["url"])
    if told.get("check"):
        return url
    scheme = url.partition("://")[0].lower()
    given = {name.lower() for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    added = {"overflow": "truncate"}
    if scheme in INCIDENTS:
        key, more = INCIDENTS[scheme]
        added |= {key: told["incident"], **more}
    if scheme in PRIORITIES:
        added["priority"] = PRIORITIES[scheme]["over" if told["over"] else told["severity"]]
    rest = {name: value for name, value in added.items() if name not in given}
    return url + ("&" if "?" in url else "?") + urlencode(rest)


def _closed(service: Any, told: dict[str, Any]) -> str:
    """Close Opsgenie's alert by its alias: apprise does that by what it remembers of the process that opened it."""
    import requests
    from apprise.plugins import opsgenie

    alert = quote(service.alias or told["incident"], safe="")
    where = f"{opsgenie.OPSGENIE_API_LOOKUP[service.region_name]}/{alert}/close"
    note = {"source": "Poolwarden", "note": f"{told['title']}\n{told['body']}"[:25000]}
    done, _ = service._fetch(requests.post, where, note, {"identifierType": "alias"})
    return TAKEN if done else "it has not closed the alert"


def _why(heard: str) -> str:
    statuses = re.findall(r"\berror=(\d{3})\b", heard)
    return f"it answered {statuses[-1]}" if statuses else "no answer, or it refused; apprise tells no status"


if __name__ == "__main__":
    main()
