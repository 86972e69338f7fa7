"""Every assumption that a look at this dom0 shows, and the look itself.

A look that showed the contrary is made once more, ``AGAIN_S`` later: a file that is being replaced, or a xapi that is
just being started, is no finding. A look that fails itself has seen nothing.
"""

import time
from typing import Callable, Dict, Tuple

from poolwarden_agent.core.findings import FAILS, Seen, not_seen
from poolwarden_agent.dom0.assumptions import databases, hardware, program, toolstack
from poolwarden_agent.dom0.assumptions.scene import Scene

AGAIN_S = 2.0

LOOKS = {
    "xapi-unit": toolstack.unit,
    "xapi-unit-restart": toolstack.restart,
    "xapi-unit-type": toolstack.kind,
    "xapi-unit-stop-limit": toolstack.stop_limit,
    "gate-drop-in": toolstack.drop_in,
    "gate-no-start-limit": toolstack.start_limit,
    "xapi-pid-file": toolstack.pid_file,
    "xapi-socket": toolstack.unix_socket,
    "xapi-port-443": toolstack.port_443,
    "pool-conf-form": databases.pool_conf,
    "local-db-form": databases.local_db,
    "databases-named": databases.named,
    "database-generation": databases.generation,
    "database-on-root": databases.on_root,
    "root-size": databases.root_size,
    "no-restore-db": databases.no_restore,
    "xenstored-answers": toolstack.xenstored_answers,
    "xenstored-in-order": toolstack.xenstored_order,
    "inventory-form": hardware.inventory_form,
    "inventory-management": hardware.inventory_management,
    "management-hardware": hardware.management_hardware,
    "openvswitch-database": hardware.openvswitch_database,
    "icmp-socket": hardware.icmp,
    "dmi-readable": hardware.dmi_readable,
    "dmi-own": hardware.dmi_own,
    "ipmi-device": hardware.ipmi_device,
    "cgroup-xapi": toolstack.group_of_xapi,
    "cgroup-services": toolstack.group_of_services,
    "multipath-sysfs": hardware.multipath,
    "var-log": hardware.var_log,
    "wall-clock": program.clock,
    "kernel": program.kernel,
    "python": program.python,
    "glibc": program.glibc,
    "protobuf-compiled": program.protobuf,
    "agent-memory": program.memory,
    "agent-memory-limit": program.memory_limit,
    "agent-cpu": program.processor,
}  # type: Dict[str, Callable[[Scene], Seen]]


def look(scene: Callable[[], Scene], pause: Callable[[float], None] = time.sleep) -> Tuple[Dict[str, Seen], str]:
    """What each look has found, and the release that it was made on; ``scene`` gives a fresh one each time."""
    first = scene()
    found = {name: _one(first, name) for name in LOOKS}
    contrary = [name for name, seen in found.items() if seen.finding == FAILS]
    if contrary:
        pause(AGAIN_S)
        second = scene()
        found.update((name, _one(second, name)) for name in contrary)
    return found, program.release(first, databases.xapi_build(first.root))


def _one(scene: Scene, name: str) -> Seen:
    try:
        return LOOKS[name](scene)
    except Exception as error:  # one look that fails must not keep the others from being made
        return not_seen("the look failed: %s" % type(error).__name__)
