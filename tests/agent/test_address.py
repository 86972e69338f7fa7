"""The management address by one question about one interface."""

import os
import subprocess
import sys

import pytest

from poolwarden_agent.core import addresses
from poolwarden_agent.dom0.system import address, files


def test_the_loopback_has_one():
    assert address.ipv4("lo") == "127.0.0.1" and address.of("lo", False) == "127.0.0.1"


@pytest.mark.parametrize("name", ["", "nowhere0", "x" * 16, "x" * 300, "lo\0", "b\u00fcro"])
def test_none_where_there_is_no_such_interface(name):
    assert address.ipv4(name) == "" or name == "lo\0"
    assert address.ipv6(name) == ""


ASK = "import sys; from poolwarden_agent.dom0.system import address as a; print(a.of(*eval(sys.argv[1])) or '-')"


def in_a_namespace(*lines):
    """What these shell lines print in a network of their own; ``ask`` prints what the agent takes."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    before = ['ask() { \'%s\' -c "$ASK" "$1"; }' % sys.executable, "ip link add x0 type veth peer name x1"]
    before += ["ip link set x0 up; ip link set x1 up"]
    script = "\n".join(before + list(lines))
    said = subprocess.check_output(["unshare", "-n", "sh", "-ec", script], env=dict(env, ASK=ASK), timeout=60)
    return said.decode().split()


# The first address that is not link-local in the output of `ip addr show`, as xapi's networkd parses it.
XAPIS = "ip addr show dev x0 | sed -n 's,^ *inet6 \\([^/ ]*\\)/.*,\\1,p' | grep -v ^fe80: | head -1"


@pytest.mark.slow
@pytest.mark.needs("namespaces", "unshare", "ip")
def test_of_several_ipv6_addresses_it_is_the_first_that_ip_shows_and_never_a_link_local_one():
    first, found, link_local, loopback, unique, also, one, same = in_a_namespace(
        "for n in 5 1 9 3; do ip -6 addr add 2001:db8::$n/64 dev x0 nodad; done",
        "ip -6 addr add 2001:db8::7/128 dev x0 nodad preferred_lft 0",  # deprecated
        XAPIS,
        "ask \"('x0', True)\"; ask \"('x1', True)\"; ask \"('lo', True)\"",
        "ip -6 addr add fd00::2:1/64 dev x0 nodad",  # unique local
        "ip -6 addr add 2001:db8:0:1::8/64 dev x0",  # tentative
        XAPIS,
        "ask \"('x0', True)\"",
        "ip -6 addr flush dev x0; ip -6 addr add fe80::1234/64 dev x0 nodad; ip -6 addr add fd00::9/64 dev x0 nodad",
        "ip -6 addr add fe80::1/64 dev x0 nodad",
        XAPIS,
        "ask \"('x0', True)\"",
    )
    assert found == first and found.startswith("2001:db8::")
    assert link_local == "-" and loopback in ("-", "::1")
    assert also == unique and unique in ("fd00::2:1", "2001:db8:0:1::8")
    assert one == same == "fd00::9"


@pytest.mark.slow
@pytest.mark.needs("namespaces", "unshare", "ip")
def test_a_link_local_ipv4_address_is_none_either():
    none, second, first = in_a_namespace(
        "ip addr add 169.254.7.7/16 dev x0; ask \"('x0', False)\"",
        "ip addr add 198.51.100.7/24 dev x0; ask \"('x0', False)\"",
        "ip addr add 198.51.100.8/24 dev x0; ip addr add 203.0.113.1/24 dev x1; ask \"('x0', False)\"",
    )
    assert (none, second, first) == ("-", "198.51.100.7", "198.51.100.7")


@pytest.mark.parametrize("text", ["fd00::1", "FD00::1", "[fd00::1]", "fd00:0:0:0:0:0:0:1", "fd00:0000::0001"])
def test_one_address_in_every_spelling(text, tree):
    assert addresses.same(text, "fd00::1") and addresses.same("[fd00:0::1]", text)
    assert not addresses.same(text, "fd00::2") and not addresses.same(text, "") and not addresses.same(text, "xen1")
    tree.put("etc/xensource/pool.conf", "slave:%s\n" % text)
    role, master = files.pool_conf(str(tree.root))
    assert role == "member" and addresses.is_address(master) and addresses.same(master, "fd00::1")


def test_what_is_no_literal_is_compared_as_it_is():
    assert addresses.same("xen1", "xen1") and not addresses.same("[xen1]", "xen1")
    assert addresses.bare("[xen1]") == "[xen1]" and addresses.bare("[") == "["
