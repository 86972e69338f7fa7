"""The one thing that is asked of systemd: restart xapi. Never a shell, never xe-toolstack-restart (it closes 443)."""

import os
import signal
import subprocess


def restart_xapi(systemctl: str, limit_s: float) -> str:
    """Run ``systemctl restart xapi.service``; empty on success, else why not. ``limit_s``: seconds."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            [systemctl, "restart", "xapi.service"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return "systemctl cannot be run: %s" % error
    try:
        _, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "systemctl has not ended within %d s" % limit_s
    if process.returncode:
        return "systemctl ended with %d: %s" % (process.returncode, said.decode("utf-8", "replace").strip()[-200:])
    return ""
