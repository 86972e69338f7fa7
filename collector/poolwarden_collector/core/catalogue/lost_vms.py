"""What is told of a dead host's VMs: that they are down, and why they are not started. ``name`` is the host."""

from __future__ import annotations

from poolwarden_collector.core.catalogue.message import Message

NOT_DECLARED_DEAD = Message(
    "not-declared-dead",
    "warning",
    "{name} is not declared dead",
    "{name}, which was lost",
    "did not tell xapi that it is dead: {why}",
    "nothing: it is tried again every ten minutes; at once: poolwarden declare-dead {name}",
    "its VMs cannot be started elsewhere; {running}",
    "xapi takes its VMs for running and keeps their disks locked until it is told that the host is dead.",
    "when it is declared dead or heard again",
)
LOST_VMS = Message(
    "vms-down",
    "critical",
    "{count} down since {name} died",
    "with {name}: {names}",
    "started none: that is yours to decide; each can start on {where}",
    "poolwarden start-lost {pool} --dry-run tells where each can start; without --dry-run they are started",
    "these VMs are down until then; or take them off the list: poolwarden start-lost {pool} --forget",
    "VMs that ran on the dead host are down. Their disks are as the crash left them; each can start "
    "where its storage is reached.",
    "when they run or are taken off the list",
)
LOST_VMS_BY_POLICY = Message(
    "vms-down-by-policy",
    "critical",
    "{count} down since {name} died",
    "with {name}: {names}",
    "starts by itself those that their owners wish to be started (policy start_lost), once {name} is declared dead",
    "poolwarden start-lost {pool} --dry-run tells which and where; without --dry-run all that can start are started",
    "the others are down until then; stop it: poolwarden pause {pool}, or start-lost {pool} --forget",
    "VMs that ran on the dead host are down. Those with the tag poolwarden:start or "
    "other_config:poolwarden_start=true are started elsewhere, in the order of VM.order.",
    "when they run or are taken off the list",
)
NOT_STARTED = Message(
    "vms-not-started",
    "critical",
    "{count} of {name} not started by itself",
    "with {name}: {names}",
    "does not start what its owner wishes to be started: {why}",
    "poolwarden start-lost {pool} --dry-run; without --dry-run they are started at your word",
    "these VMs are down until then; or take them off the list: poolwarden start-lost {pool} --forget",
    "The policy start_lost starts a VM only while everything that a second start could hurt by is seen. A start that "
    "failed is never repeated by itself.",
    "when they run, are taken off the list, or nothing stands against it any more",
)
ALL = (NOT_DECLARED_DEAD, LOST_VMS, LOST_VMS_BY_POLICY, NOT_STARTED)
