"""xapi as systemd and the kernel show it: its unit, our drop-in, its process, its doors, its control group.

Units and their forms: xapi's scripts/xapi.service; systemd.service(5) of 219 and later (219 prints "0" for what later
ones call "infinity"; an exit status list that it cannot print is "[unprintable]").
"""

import errno
import glob
import os
import re
import socket
from typing import Optional, Tuple

from poolwarden_agent.core.findings import Seen, fails, familiar, holds, not_seen
from poolwarden_agent.core.host_now import NO_PROCESS
from poolwarden_agent.dom0.assumptions.scene import Scene, is_socket, read
from poolwarden_agent.dom0.system import boot_findings, files, surroundings, xenstore

STATUS = "123"  # xapi: ocaml/xapi/xapi_globs.ml, restart_return_code
# What systemd itself says; anything else may be somebody's own word.
_STATE = "loaded|not-found|bad-setting|error|merged|masked"
_RESTART = "no|always|on-success|on-failure|on-abnormal|on-watchdog|on-abort"
_TYPE = "simple|exec|forking|oneshot|dbus|notify|notify-reload|idle"
_MODE = "control-group|mixed|process|none"
_SPAN = "infinity|0|(?:[0-9]{1,5}(?:[.][0-9]{1,6})?(?:us|ms|s|min|h|d|w|month|y) ?){1,8}"
_SLICE = "(?:control|system)[.]slice"
_NOT_FOR_A_STATUS = ("no", "on-success", "on-abnormal", "on-watchdog", "on-abort")
_MINUTES = re.compile(r"(?:(\d+)min)? ?(?:(\d+(?:\.\d+)?)s)?\Z")
LONGEST_STOP_S = 600.0


def unit(scene: Scene) -> Seen:
    known, why = scene.unit()
    state = known.get("LoadState", "")
    if not state:
        return not_seen(why or "systemd does not say")
    if state == "not-found":
        return fails("systemd knows no xapi.service")
    return holds("LoadState=%s" % familiar(state, _STATE))


def restart(scene: Scene) -> Seen:
    known, why = _loaded(scene)
    policy = known.get("Restart", "")
    if not policy:
        return not_seen(why or "systemd does not say")
    said = "Restart=%s" % familiar(policy, _RESTART)
    forced = known.get("RestartForceExitStatus", "[unprintable]")
    if STATUS in known.get("RestartPreventExitStatus", "").split():
        return fails(said + ", RestartPreventExitStatus has 123")
    if STATUS in forced.split() or policy == "always":
        return holds(said)
    if policy == "on-failure":
        if STATUS in known.get("SuccessExitStatus", "").split():
            return fails(said + ", and SuccessExitStatus has 123")
        return holds(said)
    if policy in _NOT_FOR_A_STATUS and "RestartForceExitStatus" in known and not forced.startswith("["):
        return fails(said + ": an exit with 123 ends it")
    return not_seen(said)


def kind(scene: Scene) -> Seen:
    known, why = _loaded(scene)
    found = known.get("Type", "")
    if not found:
        return not_seen(why or "systemd does not say")
    said = "Type=%s" % familiar(found, _TYPE)
    return holds(said) if found == "simple" else fails(said)


def stop_limit(scene: Scene) -> Seen:
    known, why = _loaded(scene)
    limit, mode = known.get("TimeoutStopUSec", ""), known.get("KillMode", "")
    if not limit or not mode:
        return not_seen(why or "systemd does not say")
    said = "TimeoutStopUSec=%s, KillMode=%s" % (familiar(limit, _SPAN), familiar(mode, _MODE))
    span = _seconds(limit)
    if mode == "none" or limit in ("infinity", "0") or (span is not None and span > LONGEST_STOP_S):
        return fails(said)
    return holds(said) if span is not None else not_seen(said)


def _seconds(text: str) -> Optional[float]:
    """``1min 30s`` as systemd prints it, in seconds; None: another form."""
    match = _MINUTES.match(text)
    if not text or match is None:
        return None
    return 60.0 * int(match.group(1) or 0) + float(match.group(2) or 0)


def drop_in(scene: Scene) -> Seen:
    if not boot_findings.gated(scene.root):
        return not_seen("no drop-in of ours is installed here")
    known, why = _loaded(scene)
    if "DropInPaths" not in known:
        return not_seen(why or "systemd does not say")
    if _in_effect(known["DropInPaths"]):
        return holds("50-poolwarden.conf is among DropInPaths")
    return fails("DropInPaths does not name it: systemctl daemon-reload")


def start_limit(scene: Scene) -> Seen:
    known, why = _loaded(scene)
    if not _in_effect(known.get("DropInPaths", "")):
        return not_seen(why or "our drop-in is not in effect")
    limit = known.get("TimeoutStartUSec", "")
    if not limit:
        return not_seen("systemd does not say")
    said = "TimeoutStartUSec=%s" % familiar(limit, _SPAN)
    return holds(said) if limit in ("0", "infinity") else fails(said)


def _in_effect(paths: str) -> bool:
    return "/" + boot_findings.DROP_IN in paths.split()


def _loaded(scene: Scene) -> Tuple[dict, str]:
    """The unit's properties; of a unit that systemd does not know they say nothing."""
    known, why = scene.unit()
    if known.get("LoadState") == "not-found":
        return {}, "systemd knows no xapi.service"
    return known, why


# ---------------------------------------------------------------------------------------------- process and doors


def pid_file(scene: Scene) -> Seen:
    process = files.xapi_process(scene.root)
    if process != tuple(NO_PROCESS):
        return holds("it names a process that runs")
    if scene.answers() is not True:
        return not_seen("xapi does not answer now")
    found = read(scene.root, files.XAPI_PID, 64)
    if found.gone:
        return fails("xapi answers, and there is no /var/run/xapi.pid")
    if found.text is None:
        return not_seen(found.why)
    if not re.match(r"[1-9][0-9]{0,8}\Z", found.text):
        return fails("xapi answers, and /var/run/xapi.pid has no number")
    if read(scene.root, "proc/%s/stat" % found.text).gone or not os.path.lexists(scene.path("proc", found.text)):
        return fails("xapi answers, and the process that /var/run/xapi.pid names is gone")
    return not_seen("the process that it names cannot be read")


def unix_socket(scene: Scene) -> Seen:
    there = is_socket(scene.path("var/lib/xcp/xapi"))
    if there:
        return holds("it is there")
    if scene.answers() is not True or not files.exists(scene.root, files.STARTUP_COOKIE):
        return not_seen("xapi has not started now")
    return not_seen("it cannot be looked at") if there is None else fails("xapi answers on TCP, and has no such socket")


def port_443(scene: Scene) -> Seen:
    if scene.answers() is not True:
        return not_seen("xapi does not answer now")
    number = connects(scene.http[0], scene.tls_port)
    if number == 0:
        return holds("port %d takes connections" % scene.tls_port)
    if number == errno.ECONNREFUSED:
        return fails("xapi answers, and port %d refuses" % scene.tls_port)
    return not_seen("port %d cannot be tried: %s" % (scene.tls_port, os.strerror(number).lower()))


def connects(address: str, port: int, limit_s: float = 1.0) -> int:
    """0: a connection is taken; else the number of the error."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(limit_s)
        try:
            link.connect((address, port))
        except socket.timeout:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno or errno.EIO
    return 0


# ---------------------------------------------------------------------------------------------- control groups


def groups_of(scene: Scene, name: str) -> Tuple[Optional[str], Tuple[int, ...]]:
    """The slice of a unit's control group and the pids in it; None: the groups cannot be read; "": it has none."""
    known = False
    for base in surroundings.GROUPS:
        if not os.path.isdir(scene.path(base, "system.slice")):
            continue
        known = True
        for part in surroundings.SLICES:
            for path in sorted(glob.glob(scene.path(base, part, name, "cgroup.procs"))):
                found = read("/", path.lstrip("/"))
                if found.text is None:
                    return None, ()
                if found.text:
                    pids = tuple(int(each) for each in found.text.split() if each.isdigit())
                    return path.split("/")[-3], pids
    return ("", ()) if known else (None, ())


def group_of_xapi(scene: Scene) -> Seen:
    pid = files.xapi_process(scene.root)[0]
    if not pid:
        return not_seen("xapi does not run now")
    part, pids = groups_of(scene, "xapi.service")
    if part is None:
        return not_seen("control groups cannot be read here")
    if pid in pids:
        return holds("it is below %s" % familiar(part, _SLICE))
    return fails("its process is in another control group" if part else "xapi runs, and the group is empty or missing")


def group_of_services(scene: Scene) -> Seen:
    look = xenstored(scene)
    if look.domains is None:
        return not_seen("xenstored does not answer now")
    part, _ = groups_of(scene, "xenstored.service")
    if part is None:
        return not_seen("control groups cannot be read here")
    if part:
        return holds("xenstored.service is below %s" % familiar(part, _SLICE))
    return fails("xenstored answers, and its control group is empty or missing")


# ---------------------------------------------------------------------------------------------- xenstored


def xenstored(scene: Scene) -> xenstore.Look:
    return scene.once("xenstored", lambda: xenstore.look(scene.path("var/run/xenstored/socket")))


def xenstored_answers(scene: Scene) -> Seen:
    look = xenstored(scene)
    if look.domains is not None:
        return holds("%d domains beside domain 0" % len(look.domains))
    if look.contrary and (look.answered or scene.settled()):
        return fails(look.trouble)
    return not_seen(look.trouble)


def xenstored_order(scene: Scene) -> Seen:
    if xenstored(scene).domains is None:
        return not_seen("xenstored does not answer now")
    ordered = xenstore.in_order(scene.path("var/run/xenstored/socket"))
    if ordered is None:
        return not_seen("it did not answer all of them in time")
    return holds("16 questions at once") if ordered else fails("16 questions at once came back in another order")
