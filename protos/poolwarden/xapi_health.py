"""What helps a xapi that is not well, as people read it: the agent says which, the collector shows these texts alone.

HOST and POOL stand for the names of that host and of its pool.

Both programs use it: it lies in the one package that both ship, and is written for Python 3.6.
"""

RESTART = "poolwarden restart-xapi HOST (it says so if that is not safe); on the host: systemctl restart xapi"
EXPLAIN = "poolwarden explain POOL"

# xapi: ocaml/xapi/xapi.ml, xapi_ha.ml, datamodel_errors.ml. Code -> (plain words, what helps).
REASONS = {
    "HOST_STILL_BOOTING": ("xapi is still starting and has not reached its master", "wait, then look at the master"),
    "HOST_HAS_NO_MANAGEMENT_IP": (
        "the management interface has no address",
        "check cable and network; on the host: xe-reset-networking, or host-management-reconfigure in xsconsole",
    ),
    "HOST_ITS_OWN_SLAVE": ("pool.conf names this host as its own master", EXPLAIN),
    "HOST_MASTER_CANNOT_TALK_BACK": (
        "the master cannot connect back to this host",
        "check the firewall and routes from the master to port 443 of this host",
    ),
    "HOST_UNKNOWN_TO_MASTER": (
        "the master does not know this host: it was ejected, or the master's database is an older one",
        "poolwarden history POOL; do not join it again before that is understood",
    ),
    "HOST_XAPI_VERSION_HIGHER_THAN_COORDINATOR": (
        "this host's xapi is newer than its master's",
        "update the master first, then restart xapi here",
    ),
    "HOST_BROKEN": ("pool.conf says broken after a failed change of master", EXPLAIN),
    "HA_POOL_IS_ENABLED_BUT_HOST_IS_DISABLED": ("HA is on, this host is out of it", "xe pool-list params=ha-enabled"),
    "HA_HOST_CANNOT_ACCESS_STATEFILE": ("HA's state file cannot be reached", "check the storage of the heartbeat SR"),
    "HA_HEARTBEAT_DAEMON_STARTUP_FAILED": ("HA's heartbeat daemon did not start", "see /var/log/xha.log"),
    "SESSION_AUTHENTICATION_FAILED": (
        "the master refuses this host's pool secret",
        "compare /etc/xensource/ptoken with the master's: another pool's master, or a rotation that this host missed",
    ),
    "HOST_NAME_INVALID": ("the host's name is not one that xapi accepts", "hostname; /etc/hostname"),
    "INTERNAL_ERROR": ("xapi failed at its start", "see the last errors in /var/log/xensource.log"),
}  # fmt: skip

STOPPED = "systemctl status xapi and /var/log/xensource.log say why; " + RESTART
LOOK_AT_LOG = "see /var/log/xensource.log"
SHORT_OF = "top in dom0: is it short of CPU, memory or disk?"

# Everything that an agent may say helps. What a host says beside it is shown to nobody as a command.
HELPS = frozenset([RESTART, EXPLAIN, STOPPED, LOOK_AT_LOG, SHORT_OF] + [helps for _words, helps in REASONS.values()])
