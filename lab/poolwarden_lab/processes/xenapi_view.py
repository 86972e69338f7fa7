"""What a stock XenAPI client sees of the pool: run in a namespace that reaches it, it prints one JSON object a host.

``python -m poolwarden_lab.processes.xenapi_view [--tls] ADDRESS[:PORT]...`` (of IPv6 without a port) logs in at each
address as any management tool would, over TLS where the hosts have https_only. A master answers with what its database
says; a member answers ``HOST_IS_SLAVE`` with its master's address.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import XenAPI

USER, PASSWORD = "root", "xenroot"  # noqa: S105 - the simulated xapi's
LIMIT_S = 10.0


def look(address: str, tls: bool = False) -> dict[str, Any]:
    """One host's answer: ``answer`` is "master", "HOST_IS_SLAVE" or the error."""
    where = f"[{address}]" if address.count(":") > 1 else address  # of IPv6, RFC 3986, 3.2.2
    session = XenAPI.Session(f"{'https' if tls else 'http'}://{where}", ignore_ssl=tls)
    try:
        session.xenapi.login_with_password(USER, PASSWORD, "1.0", "poolwarden-lab")
    except XenAPI.Failure as failure:
        details = [str(item) for item in failure.details]
        return {"address": address, "answer": details[0], "master": details[1] if len(details) > 1 else ""}
    except OSError as error:
        return {"address": address, "answer": f"{type(error).__name__}: {error}", "master": ""}
    try:
        return {"address": address, "answer": "master", **_database(session.xenapi)}
    finally:
        session.xenapi.session.logout()


def _database(xenapi: Any) -> dict[str, Any]:
    pool = next(iter(xenapi.pool.get_all_records().values()))
    hosts = xenapi.host.get_all_records()
    metrics = xenapi.host_metrics.get_all_records()
    return {
        "pool": pool["uuid"],
        "master": hosts[pool["master"]]["address"],
        "master_uuid": hosts[pool["master"]]["uuid"],
        "hosts": [
            {
                "uuid": host["uuid"],
                "name": host["name_label"],
                "address": host["address"],
                "enabled": bool(host["enabled"]),
                "live": bool(metrics.get(host["metrics"], {}).get("live")),
            }
            for host in hosts.values()
        ],
        "messages": [
            {key: item[key] for key in ("name", "priority", "cls", "obj_uuid", "body")}
            for item in xenapi.message.get_all_records().values()
        ],
    }


def main() -> int:
    socket.setdefaulttimeout(LIMIT_S)
    tls = "--tls" in sys.argv
    for address in (word for word in sys.argv[1:] if word != "--tls"):
        print(json.dumps(look(address, tls)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
