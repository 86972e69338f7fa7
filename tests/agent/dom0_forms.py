"""Scratch trees in the forms that real dom0s show, with what answers there: xenstored, ovsdb-server, systemctl."""

import contextlib
import json
import os
import socket
import struct
import threading
import time

from poolwarden_agent.dom0.assumptions import scene, static

from .tree import Tree

HEAD = struct.Struct("=IIII")
UUID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
XENSERVER_7 = (
    """PRIMARY_DISK='/dev/disk/by-id/ata-EXAMPLE_0001'
DOM0_VCPUS='8'
PRODUCT_VERSION='7.0.0'
DOM0_MEM='2048'
CONTROL_DOMAIN_UUID='11111111-2222-4333-8444-555555555555'
MANAGEMENT_ADDRESS_TYPE='IPv4'
PARTITION_LAYOUT='ROOT,BACKUP,LOG,BOOT,SWAP,SR'
INSTALLATION_UUID='%s'
PRODUCT_BRAND='XenServer'
MANAGEMENT_INTERFACE='xenbr0'
PLATFORM_VERSION='2.1.0'
INSTALLATION_DATE='2016-07-28 20:26:59.820624'
COMPANY_NAME='Citrix Systems, Inc.'
"""
    % UUID
)
XCP_NG_83 = (
    """PRIMARY_DISK='/dev/sda'
PRODUCT_VERSION='8.3.0'
DOM0_VCPUS='4'
CONTROL_DOMAIN_UUID='11111111-2222-4333-8444-555555555555'
DOM0_MEM='4096'
COMPANY_NAME_SHORT='Open Source'
MANAGEMENT_ADDRESS_TYPE='IPv4'
PARTITION_LAYOUT='ROOT,BACKUP,LOG,BOOT,SWAP,SR'
INSTALLATION_UUID='%s'
PRODUCT_BRAND='XCP-ng'
COMPANY_NAME='Open Source'
BRAND_CONSOLE='XCP-ng Center'
PRODUCT_VERSION_TEXT='8.3'
PLATFORM_NAME='XCP'
MANAGEMENT_INTERFACE='xenbr0'
BUILD_NUMBER='cloud'
PLATFORM_VERSION='3.4.0'
INSTALLATION_DATE='2025-01-01 10:00:00.000000'
CURRENT_INTERFACES='xenbr0'
"""
    % UUID
)
INVENTORIES = {
    "XCP-ng 8.3": XCP_NG_83,
    "XenServer 8": XCP_NG_83.replace("XCP-ng", "XenServer").replace("8.3.0", "8.4.0"),
    "XenServer 7": XENSERVER_7,
}
UNIT = {
    "LoadState": "loaded",
    "Type": "simple",
    "Restart": "on-failure",
    "RestartForceExitStatus": "",
    "RestartPreventExitStatus": "",
    "SuccessExitStatus": "",
    "TimeoutStartUSec": "0",
    "TimeoutStopUSec": "1min 30s",
    "KillMode": "control-group",
    "DropInPaths": "/usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf",
}
STATE_DB = (
    '<database><manifest><pair key="generation_count" value="42"/></manifest><table name="host">'
    '<row ref="OpaqueRef:h" uuid="%s" address="10.0.0.1" '
    "software_version=\"(('product_version'%%.'8.3.0')%%.('xapi_build'%%.'26.1.3'))\"/></table></database>" % UUID
)


class Server(object):
    """Serves each connection of a socket in a thread, by ``speak(connection)``."""

    def __init__(self, listener, speak):
        self.listener, self.speak = listener, speak
        listener.listen(8)
        thread = threading.Thread(target=self._accept)
        thread.daemon = True
        thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.daemon = True
            thread.start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError, struct.error):
            self.speak(connection)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Dom0(object):
    """A healthy member's dom0 of this release. ``machine`` replaces fields of what the process runs on."""

    def __init__(self, path, release="XCP-ng 8.3"):
        self.tree = Tree(path)
        self.unit = dict(UNIT)
        self.machine = {}
        self.answers, self.placed = True, False
        self.servers = []
        self.ordered, self.speaks = True, True
        self._files(INVENTORIES[release])
        self._network()
        self._services()

    def put(self, path, text, mode=0o644):
        return self.tree.put(path, text, mode)

    def gone(self, path):
        """Remove a file, or whatever has its name."""
        os.unlink(self.tree.path(path))

    def unreadable(self, path):
        """Something under its name that is no file."""
        if os.path.lexists(self.tree.path(path)):
            self.gone(path)
        os.mkdir(self.tree.path(path))

    def _files(self, inventory):
        put = self.put
        put("etc/xensource-inventory", inventory)
        put("etc/xensource/pool.conf", "slave:10.0.0.1")
        put("etc/xensource/db.conf", "[/var/lib/xcp/state.db]\nmode:no_limit\nformat:xml\ncompress:false\n")
        put("var/lib/xcp/state.db", STATE_DB)
        put("var/lib/xcp/state.db.generation", "42\n")
        put("proc/uptime", "864000.00 1000.00\n")
        put("proc/sys/kernel/osrelease", "4.19.0+1\n")
        put("proc/net/tcp", "  sl  local_address rem_address   st\n")
        put("sys/class/dmi/id/product_uuid", "4c4c4544-0046-3510-8052-b4c04f4e4d32\n")
        put("sys/class/dmi/id/product_serial", "7F5RNM2\n")
        put("dev/ipmi0", "")
        put("usr/bin/ipmitool", "#!/bin/sh\n", 0o755)
        put("sys/block/dm-0/dm/uuid", "mpath-36001405\n")
        put("sys/block/dm-0/slaves/sda/device/state", "running\n")
        memory = "sys/fs/cgroup/memory/system.slice/poolwarden-agent.service/memory.oom_control"
        put(memory, "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
        put("usr/lib/systemd/system/xapi.service.d/50-poolwarden.conf", "[Service]\n")
        self.proc = self.tree.root / "own"
        for pid in (41, 42):
            put("own/%d/smaps_rollup" % pid, "55d0-7ffc ---p 0 0:0 0 [rollup]\nRss: 30000 kB\nPss: 20000 kB\n")
            put("own/%d/stat" % pid, "%d (python3) S 0%s 100 100 0 0 20 0 1 0 1 0 0" % (pid, " 0" * 9))

    def _network(self):
        put = self.put
        put("sys/class/net/eth0/carrier", "1\n")
        put("sys/class/net/eth0/device/vendor", "0x8086\n")
        os.symlink("../ovs-system", self.tree.path("sys/class/net/eth0/master"))
        put("sys/class/net/ovs-system/carrier", "0\n")
        put("sys/class/net/xenbr0/carrier", "1\n")
        put("sys/class/net/lo/carrier", "1\n")
        self.bridges = {"xenbr0": ["eth0", "xenbr0"]}
        self.serve("var/run/openvswitch/db.sock", self._switch)

    def _services(self):
        put = self.put
        put("proc/500/stat", "500 (xapi) S 0" + " 1" * 48)
        put("var/run/xapi.pid", "500\n")
        put("var/run/xapi_startup.cookie", "")
        put("sys/fs/cgroup/systemd/system.slice/sshd.service/cgroup.procs", "1\n")
        put("sys/fs/cgroup/systemd/control.slice/xapi.service/cgroup.procs", "500\n501\n")
        put("sys/fs/cgroup/systemd/system.slice/xenstored.service/cgroup.procs", "400\n")
        put("usr/bin/systemctl", "#!/bin/sh\ncat '%s'\n" % self.tree.path("unit"), 0o755)
        self.serve("var/run/xenstored/socket", self._xenstored)
        self.serve("var/lib/xcp/xapi", lambda connection: None)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.tls = Server(listener, lambda connection: None)
        self.tls_port = listener.getsockname()[1]
        self.servers.append(self.tls)

    def serve(self, path, speak):
        target = self.tree.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(target))
        self.servers.append(Server(listener, speak))

    def close(self):
        for server in self.servers:
            server.close()

    def _xenstored(self, connection):
        while self.speaks:
            data, asked = connection.recv(65536), []
            if not data:
                return
            while data:
                kind, number, _, length = HEAD.unpack(data[: HEAD.size])
                asked.append((kind, number, data[HEAD.size : HEAD.size + length]))
                data = data[HEAD.size + length :]
            if not self.ordered and len(asked) > 1:
                asked.reverse()
            for kind, number, path in asked:
                value = b"0\x003\0" if path == b"/local/domain\0" else b"/vm/" + UUID.encode()
                connection.sendall(HEAD.pack(kind, number, 0, len(value)) + value)
        connection.recv(1)
        time.sleep(2)

    def _switch(self, connection):
        connection.recv(65536)
        names = sorted({port for ports in self.bridges.values() for port in ports})
        result = [
            {"rows": [
                {"_uuid": ["uuid", "b" + name], "name": name, "ports": ["set", [["uuid", "p" + p] for p in ports]]}
                for name, ports in sorted(self.bridges.items())
            ]},
            {"rows": [
                {"_uuid": ["uuid", "p" + n], "name": n, "interfaces": ["uuid", "i" + n], "fake_bridge": False}
                for n in names
            ]},
            {"rows": [{"_uuid": ["uuid", "i" + name], "name": name, "type": ""} for name in names]},
        ]  # fmt: skip
        connection.sendall(json.dumps({"id": 1, "result": result, "error": None}).encode())

    def scene(self):
        """As the agent looks at it."""
        self.put("unit", "".join("%s=%s\n" % pair for pair in self.unit.items()))
        machine = scene.this_machine((41, 42))._replace(proc=str(self.proc), **self.machine)
        known = {"python": (3, 6, 8), "glibc": "glibc 2.17", "protobuf": "cpp", "up_s": 864000.0}
        machine = machine._replace(**dict(known, **self.machine))
        return scene.Scene(
            str(self.tree.root), ("127.0.0.1", 80), self.tls_port, machine, lambda: self.answers, lambda: self.placed
        )

    def look(self):
        """What each look finds."""
        return static.look(self.scene, lambda span: None)
