"""The management address by one question about one interface."""

import os
import subprocess
import sys

import pytest

from poolwarden_agent.dom0.system import address


def test_the_loopback_has_one():
    assert address.ipv4("lo") == "127.0.0.1" and address.of("lo", False) == "127.0.0.1"


@pytest.mark.parametrize("name", ["", "nowhere0", "x" * 16, "x" * 300, "lo\0", "b\u00fcro"])
def test_none_where_there_is_no_such_interface(name):
    assert address.ipv4(name) == "" or name == "lo\0"
    assert address.ipv6(name) == ""


@pytest.mark.slow
@pytest.mark.needs("namespaces", "unshare", "ip")
def test_of_several_ipv6_addresses_it_is_the_first_that_ip_shows_and_never_a_link_local_one():
    ask = "import sys; from poolwarden_agent.dom0.system import address; print(address.of(sys.argv[1], True) or '-')"
    lines = [
        "ip link add x0 type veth peer name x1; ip link set x0 up; ip link set x1 up",
        "for n in 5 1 9 3; do ip -6 addr add 2001:db8::$n/64 dev x0 nodad; done",
        "ip -6 addr add 2001:db8::7/128 dev x0 nodad preferred_lft 0",
        "ip -o -6 addr show dev x0 scope global | head -1 | sed 's,.*inet6 ,,; s,/.*,,'",
        '%s -c "%s" x0; %s -c "%s" x1; %s -c "%s" lo' % ((sys.executable, ask) * 3),
    ]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    said = subprocess.check_output(["unshare", "-n", "sh", "-ec", "\n".join(lines)], env=env, timeout=60).decode()
    first, found, link_local, loopback = said.split()
    assert found == first and found.startswith("2001:db8::")
    assert link_local == "-" and loopback in ("-", "::1")
