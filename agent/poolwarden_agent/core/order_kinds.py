"""The kinds of orders: what each needs, and what is kept of it."""

# What only the serving master can do, through its own xapi.
SERVING = ("sync_database", "designate_master", "declare_host_dead", "enable_host", "recover_members", "start_vm")

# A claim is looked at anew each time it arrives: a stored last look would be an old one.
REPLAYED = (
    "promote", "repoint", "restart_xapi", "set_tombstone", "toolstack_fence", "toolstack_release", "place_database",
    "release_gc",
) + SERVING  # fmt: skip

MUTATING = ("claim",) + REPLAYED
LOOKING = ("probe_now", "collect_evidence", "read_database", "locate_vms")
FENCE_PROXY = "fence_proxy"
KNOWN = MUTATING + LOOKING + (FENCE_PROXY,)
IN_PLACE = "restart_in_place"  # a capability beside the kinds: the orders of a restart in place with a placed database

NEEDS_HA_OFF = (
    "promote", "repoint", "restart_xapi", "toolstack_fence", "designate_master", "declare_host_dead", "recover_members"
)  # fmt: skip
