"""Every file that the agent reads in a dom0, nearly right: it is read, or is not known, within bounds; nothing else.

The seeds are below tests/fuzz/corpus; mutator.py says how they are changed and how to play longer.
"""

import os

import pytest

from poolwarden_agent import config
from poolwarden_agent.core import certificate, gate_state
from poolwarden_agent.dom0.system import (
    adapters,
    boot_findings,
    files,
    links,
    memory_users,
    neighbours,
    openvswitch,
    policy_file,
    procfs,
)
from poolwarden_agent.dom0.system.surroundings import Reader
from poolwarden_agent.dom0.xapi import database
from poolwarden_agent.process import gate_file

from . import tree as trees
from .mutator import played

pytestmark = pytest.mark.slow
NOTHING = ()


def reading(path, read):
    """A target: the data as this file of a tree, and what reads it."""

    def of(tree):
        root = str(tree.root)
        target = tree.path(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)

        def play(data):
            with open(target, "wb") as file:
                file.write(data)
            return read(root)

        return play

    return of


def looked_around(root):
    return Reader(root, {}).read(files.inventory(root))


def gated_by(root):
    boot_findings.found(root, "b")
    boot_findings.let_wait(root, "b")
    boot_findings.note_found(root, "b")
    return gate_file.heard(root, "b", 5)


READ = {
    "inventory": reading(files.INVENTORY, looked_around),
    "pool_conf": reading(files.POOL_CONF, files.pool_conf),
    "local_db": reading(files.LOCAL_DB, files.ha_armed),
    "state_db": reading("var/lib/xcp/state.db", lambda root: (database.view(root, trees.HOST), database.hosts(root))),
    "generation": reading("var/lib/xcp/state.db.generation", database.loads),
    "meminfo": reading("proc/meminfo", lambda root: (procfs.memory(root), procfs.swap(root))),
    "stat": reading("proc/4711/stat", files.xapi_process),
    "xapi_pid": reading(files.XAPI_PID, files.xapi_process),
    "hostname": reading("etc/hostname", files.host_name),
    "route": reading("proc/net/route", lambda root: neighbours.gateway(root, "xenbr0")),
    "ipv6_route": reading("proc/net/ipv6_route", lambda root: neighbours.gateway(root, "xenbr0")),
    "statm": reading("proc/4711/statm", memory_users.biggest),
    "cmdline": reading("proc/4711/cmdline", memory_users.biggest),
    "arp": reading("proc/net/arp", lambda root: neighbours.answers(root, ["198.51.100.1"])),
    "word": reading(gate_file.WORD, gated_by),
    "mountinfo": reading("proc/self/mountinfo", adapters.root_disks),
    "bonding": reading("proc/net/bonding/bond0", lambda root: adapters.mac(root, "eth1")),
}


@pytest.mark.parametrize("kind", sorted(READ))
def test_a_file_of_dom0_is_read_or_not_known(kind, tree, monkeypatch):
    monkeypatch.setattr(neighbours, "_knock", lambda address: None)
    tree.xapi_runs(4711) if kind == "stat" and not os.path.lexists(tree.path("proc/4711")) else None
    if kind == "mountinfo":
        tree.put("sys/dev/block/8:1/size", "1")
    if kind == "bonding":
        tree.put("sys/class/net/bond0/bonding/mode", "active-backup 1")
        tree.put("sys/class/net/eth1/device/x", "")
        os.symlink("../bond0", tree.path("sys/class/net/eth1/master"))
    if kind == "cmdline":
        tree.put("proc/4711/statm", "900 400 1 1 0 1 0")
    if kind == "stat":
        os.unlink(tree.path("proc/4711"))
    accepted, _ = played("dom0/" + kind, READ[kind](tree), 150, NOTHING)
    assert accepted, "what is nearly right is often right"


def test_an_answer_of_open_vswitch_is_understood_or_not_known(tree):
    tree.put("sys/class/net/ovs-system/carrier", "0")
    for name in ("eth0", "xenbr0", "xapi7"):
        tree.put("sys/class/net/%s/carrier" % name, "1")

    def play(data):
        switch = openvswitch.understood(data)
        for bridge in ("xenbr0", "xapi7"):
            assert links.link(str(tree.root), bridge, switch) in (True, False, None)
        assert isinstance(links.bond(str(tree.root), "eth0", switch), str)
        if switch is None:
            raise ValueError("not known")

    accepted, errors = played("dom0/ovsdb", play, 300, ValueError)
    assert accepted and errors


def test_a_certificate_has_an_end_or_is_none(tree):
    def play(data):
        certificate.expires(data.decode("ascii", "replace"))

    accepted, errors = played("dom0/certificate", play, 300, ValueError)
    assert accepted and len(errors) > 2, errors


def test_durable_state_is_read_or_refused_as_such():
    def play(data):
        state = gate_state.decode(data)
        again = gate_state.decode(gate_state.encode(state))
        assert again._replace(more="") == state._replace(more="")

    accepted, errors = played("dom0/gate_state", play, 400, ValueError)
    assert accepted and len(errors) > 5, errors


def test_policy_conf_is_taken_or_refused_by_one_line(tree):
    def play(data):
        try:
            policy_file.parsed(data.decode("utf-8"))
        except ValueError as error:
            assert isinstance(error, UnicodeDecodeError) or ("\n" not in str(error) and len(str(error)) < 600), str(
                error
            )
            raise

    accepted, errors = played("policy.conf", play, 300, ValueError)
    assert accepted and len(errors) > 8, errors


def test_agent_conf_is_taken_or_refused_by_one_line(tree):
    path = tree.path("etc/poolwarden/agent.conf")
    os.makedirs(os.path.dirname(path))

    def play(data):
        with open(path, "wb") as file:
            file.write(data)
        try:
            config.load(path, str(tree.root))
        except config.ConfigError as error:
            assert "\n" not in str(error) and str(error).startswith(path), str(error)
            raise

    accepted, errors = played("agent.conf", play, 400, config.ConfigError)
    assert accepted and len(errors) > 12, "they get past the first check: %s" % errors
