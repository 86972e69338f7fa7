"""A dom0 tree, certificates and the agent's processes for tests: everything below one short directory."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
HOST = "11111111-2222-3333-4444-555555555555"
POOL = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
OTHER = "99999999-2222-3333-4444-555555555555"


def until(condition, limit_s=30.0, what=""):
    """Wait for a condition; its value."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "not within %s s: %s" % (limit_s, what or condition)
        time.sleep(0.01)


def database(pool=POOL, vms="", other_config="()"):
    """A state.db with one pool row, two hosts (127.0.9.1 and 127.0.9.9) and the given VM rows."""
    return (
        '<database><manifest><pair key="schema_major_vsn" value="5"/>'
        '<pair key="generation_count" value="42"/></manifest>'
        '<table name="VM">%s</table>'
        '<table name="host"><row ref="OpaqueRef:h1" uuid="%s" address="127.0.9.1"/>'
        '<row ref="OpaqueRef:h2" uuid="%s" address="127.0.9.9"/></table>'
        '<table name="pool"><row ref="OpaqueRef:p" uuid="%s" other_config="%s"/></table></database>'
    ) % (vms, HOST, OTHER, pool, other_config)


class Tree(object):
    """One dom0 below ``root``."""

    def __init__(self, root):
        self.root = Path(str(root))
        self.put("etc/xensource-inventory", "INSTALLATION_UUID='%s'\nMANAGEMENT_INTERFACE='lo'\n" % HOST)
        self.put("etc/hostname", "h1\n")
        self.put("etc/xensource/pool.conf", "slave:127.0.9.9")
        self.put("proc/sys/kernel/random/boot_id", str(uuid.uuid4()) + "\n")
        self.memory(MemTotal=4000, MemAvailable=1000)
        self.put("proc/1/stat", "1 (systemd) S 0" + " 1" * 48)
        self.put("proc/1/cmdline", "/usr/lib/systemd/systemd\0--system\0")
        self.put("proc/vmstat", "pswpin 0\npswpout 0\n")
        self.put("sys/class/dmi/id/product_uuid", "dmi-1\n")
        self.put("sys/class/dmi/id/product_serial", "serial-1\n")
        self.put("var/lib/xcp/state.db", database())
        self.put("var/lib/xcp/state.db.generation", "42\n")
        self.put("var/lib/xcp/local.db", '<config><row key="ha.armed" value="false"/></config>')
        self.put("var/log/.keep", "")

    def put(self, path, text, mode=0o644):
        """Write a file whole, as a rename does."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / (target.name + ".t")
        temporary.write_bytes(text if isinstance(text, bytes) else text.encode())
        temporary.chmod(mode)
        os.rename(str(temporary), str(target))
        return target

    def memory(self, **kilobytes):
        """A /proc/meminfo with these values, and with the others that every kernel of a dom0 tells."""
        values = dict.fromkeys(["MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "Active", "Inactive"], 0)
        values.update({"Shmem": 0, "SwapTotal": 0, "SwapFree": 0}, **kilobytes)
        self.put("proc/meminfo", "".join("%s: %d kB\n" % pair for pair in values.items()))

    def text(self, path):
        return (self.root / path).read_text()

    def path(self, path):
        return str(self.root / path)

    def xapi_runs(self, pid):
        """Let this live process be xapi."""
        link = self.root / "proc" / str(pid)
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/proc/%d" % pid)
        self.put("var/run/xapi.pid", "%d\n" % pid)

    def systemctl(self, script):
        """Install a systemctl; ``$ROOT`` is this tree."""
        text = '#!/bin/sh\nROOT=%s\necho "$@" >> $ROOT/calls\n%s\n' % (self.root, script)
        self.put("usr/bin/systemctl", text, 0o755)

    def calls(self):
        """What systemctl was asked so far."""
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []


def openssl(*arguments):
    subprocess.check_call(["openssl"] + list(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def authority(directory):
    """A CA in this directory: ca.pem and ca.key."""
    where = ["-keyout", str(directory / "ca.key"), "-out", str(directory / "ca.pem")]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", "-days", "2", "-subj", "/CN=test CA", *(curve + where))


def certificate(directory, name, alternatives):
    """name.pem and name.key, signed by the CA of this directory, with these subjectAltNames."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request, key = str(directory / (name + ".csr")), str(directory / (name + ".key"))
    openssl("req", "-subj", "/CN=" + name, "-keyout", key, "-out", request, *curve)
    extension = directory / (name + ".ext")
    extension.write_text("subjectAltName=%s\n" % alternatives)
    ca = ["-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"), "-CAcreateserial"]
    out = ["-out", str(directory / (name + ".pem")), "-days", "2", "-extfile", str(extension)]
    openssl("x509", "-req", "-in", request, *(ca + out))


def give_certificates(tree, directory):
    """Install CA and host certificate where the agent looks for them."""
    for name, source in (("ca.pem", "ca.pem"), ("cert.pem", "host.pem"), ("key.pem", "host.key")):
        target = tree.root / "etc/poolwarden/tls" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(directory / source), str(target))


class Agent(object):
    """The agent's two processes on a tree."""

    def __init__(self, tree, *arguments, within=()):
        self.tree = tree
        self.within = list(within)  # a command that runs the agent, in namespaces for one
        self.log = tree.root / "agent.log"
        self._arguments = arguments
        self.process = None

    def start(self):
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(str(HERE / part) for part in ("protos", "agent"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.within
                + [sys.executable, "-m", "poolwarden_agent", "--root", str(self.tree.root)]
                + list(self._arguments),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        return self

    @property
    def pid(self):
        return self.process.pid

    def link_pid(self):
        """The link side's process; 0 while there is none."""
        tasks = Path("/proc/%d/task" % self.pid)
        for task in tasks.iterdir():
            for child in (task / "children").read_text().split():
                if b"--link-fd" in Path("/proc/%s/cmdline" % child).read_bytes():
                    return int(child)
        return 0

    def kill(self):
        """kill -9 of the host side, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, limit_s=12.0):
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(limit_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("SIGTERM did not end the agent: " + self.said()) from None
        return self.process.returncode

    def freeze(self, pid=0):
        os.kill(pid or self.pid, signal.SIGSTOP)

    def thaw(self, pid=0):
        os.kill(pid or self.pid, signal.SIGCONT)

    def said(self):
        return self.log.read_text() if self.log.exists() else ""
