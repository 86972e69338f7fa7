"""The causes for which xapi does not start: their words, one sentence each, and the command that helps.

The one table for the agent that finds a cause and for the collector that tells it: what a person is to type comes from
here, and never from a report. A word is stable: it stands in reports, alerts and docs. The sentence goes on after "xapi
does not start: ". The command is for this host's shell, or the operator's ``poolwarden``; it looks first, and changes
nothing of the database.

Runs on Python 3.6 and newer, and needs nothing.
"""

from typing import NamedTuple, Tuple

UNKNOWN = "unknown"
EXPLAIN = "poolwarden explain POOL"
_RESTART = "then: xe-toolstack-restart"

# What an agent has found. ``cause`` empty: nothing is wrong. ``lines``: what says so, or the last errors; to be shown.
Trouble = NamedTuple("Trouble", [("cause", str), ("sentence", str), ("help", str), ("lines", Tuple[str, ...])])
NO_TROUBLE = Trouble("", "", "", ())
Cause = NamedTuple("Cause", [("word", str), ("sentence", str), ("help", str)])

ALL = (
    Cause(
        "database",
        "its database cannot be loaded",
        "cp -a /var/lib/xcp/state.db /root/ ; poolwarden explain POOL tells which member's copy can be used",
    ),
    Cause(
        "database-newer",
        "its database was written by a newer xapi",
        "bring this host to the pool's version: yum update, or its installation media",
    ),
    Cause(
        "disk-full",
        "no space is left on its disk",
        "poolwarden-agent disk tells what fills it, and what can be given back; " + _RESTART,
    ),
    Cause(
        "disk-read-only",
        "its disk takes no writes: it is mounted read-only",
        "dmesg | tail -50 tells why; once it is repaired: mount -o remount,rw / ; " + _RESTART,
    ),
    Cause("disk-error", "its disk fails with input/output errors", "dmesg | tail -50 ; smartctl -a /dev/sda"),
    Cause("memory", "dom0 has no memory left for it", "free -m ; ps aux --sort=-rss | head"),
    Cause(
        "oom-killed",
        "the kernel has killed it, as dom0 was out of memory",
        "free -m ; ps aux --sort=-rss | head ; what dom0 has: /opt/xensource/libexec/xen-cmdline --get-xen dom0_mem",
    ),
    Cause("open-files", "it has too many files open", "ls /proc/$(pidof xapi)/fd | wc -l ; " + _RESTART),
    Cause("permission", "it may not use a file of its own", "ls -la /var/lib/xcp /etc/xensource ; rpm -V xapi-core"),
    Cause(
        "certificate",
        "a certificate of this host or of its master cannot be used",
        "ls -l /etc/xensource/*.pem ; one that is empty: move it away; then: systemctl restart gencert stunnel@xapi",
    ),
    Cause(
        "pool-bundle",
        "it trusts no other host: the certificates of its pool are not there",
        "/opt/xensource/bin/update-ca-bundle.sh /etc/stunnel/certs-pool /etc/stunnel/xapi-pool-ca-bundle.pem",
    ),
    Cause(
        "clock",
        "the clock of this host or of its master is wrong",
        "timedatectl ; chronyc makestep ; " + _RESTART,
    ),
    Cause(
        "no-management-interface",
        "this host has no management interface",
        "xe pif-list ; xe host-management-reconfigure pif-uuid=UUID ; or in xsconsole",
    ),
    Cause(
        "management-ip",
        "the management interface has no address",
        "ip addr ; check cable, VLAN and DHCP; to set it anew: xsconsole, or xe-reset-networking",
    ),
    Cause(
        "management-link",
        "the management interface has an address and no link",
        "ip link ; check cable and switch port of the management interface, and its bond",
    ),
    Cause(
        "xenstored",
        "xenstored does not run",
        "systemctl status xenstored ; it cannot be started anew beside running VMs: shut them down and reboot",
    ),
    Cause("forkexecd", "forkexecd does not run", "systemctl status forkexecd ; systemctl restart forkexecd"),
    Cause(
        "message-switch",
        "message-switch does not run, or does not answer",
        "systemctl status message-switch ; systemctl restart message-switch ; " + _RESTART,
    ),
    Cause("xenopsd", "xenopsd does not run", "systemctl status xenopsd-xc ; systemctl restart xenopsd-xc"),
    Cause("networkd", "xcp-networkd does not run", "systemctl status xcp-networkd ; systemctl restart xcp-networkd"),
    Cause("squeezed", "squeezed does not run", "systemctl status squeezed ; systemctl restart squeezed"),
    Cause(
        "ha-statefile",
        "HA's state file cannot be reached",
        "check the storage of the heartbeat SR: poolwarden host show HOST",
    ),
    Cause("ha-daemon", "HA's heartbeat daemon does not start", "tail -n 50 /var/log/xha.log"),
    Cause(
        "ha-disarmed",
        "HA is on in its pool, and this host is out of it",
        "on the master: xe pool-list params=ha-enabled",
    ),
    Cause(
        "version",
        "its version is higher than its master's",
        "update the master first: yum update there; then here: systemctl restart xapi",
    ),
    Cause("another-master", "another host of its pool serves as master", EXPLAIN),
    Cause(
        "pool-secret",
        "its master does not accept its pool secret",
        "sha256sum /etc/xensource/ptoken here and on the master: another pool, or a rotation that this host missed",
    ),
    Cause(
        "unknown-to-master",
        "its master does not know this host",
        "poolwarden history POOL; do not join it again before that is understood",
    ),
    Cause(
        "talk-back",
        "its master cannot connect back to it",
        "check firewall and routes from the master to port 443 of this host",
    ),
    Cause("own-member", "its pool.conf names this host as its own master", EXPLAIN),
    Cause("broken-role", "its pool.conf says broken, after a failed change of master", EXPLAIN),
    Cause("master-unreachable", "it gets no answer from its master", EXPLAIN),
    Cause(
        "stunnel",
        "stunnel does not start, so nobody reaches it over TLS",
        "systemctl status stunnel@xapi ; ls -l /etc/xensource/*.pem",
    ),
    Cause("port-80", "another program has its port", "ss -ltnp 'sport = :80' ; stop that program; " + _RESTART),
    Cause("config", "its configuration cannot be used", "check /etc/xapi.conf and /etc/xapi.conf.d ; rpm -V xapi-core"),
    Cause(
        "program",
        "its program, or a library that it needs, is not there",
        "ldd /opt/xensource/bin/xapi | grep 'not found' ; an update that was not finished: yum update",
    ),
    Cause(
        "inventory",
        "/etc/xensource-inventory lacks what it needs",
        "cat /etc/xensource-inventory ; compare it with another host's",
    ),
    Cause(
        "stale-pid",
        "its start takes another process for a running xapi",
        "rm -f /var/run/xapi.pid /var/lock/subsys/xapi ; systemctl start xapi",
    ),
    Cause(
        "start-blocked",
        "/etc/xensource/xapi_block_startup blocks its start",
        "rm /etc/xensource/xapi_block_startup ; systemctl start xapi",
    ),
    Cause(
        "start-limit",
        "systemd starts it no more: it failed too often in a row",
        "systemctl reset-failed xapi ; systemctl start xapi",
    ),
    Cause(UNKNOWN, "why is not known", "tail -n 200 /var/log/xensource.log"),
)
CAUSES = {cause.word: cause for cause in ALL}
