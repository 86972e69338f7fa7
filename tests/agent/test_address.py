"""The management address by one question about one interface."""

import pytest

from poolwarden_agent.dom0.system import address

TABLE = """00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 02 40 20 80   xenbr0
20010db8000000000000000000000005 02 40 00 80   xenbr0
fe800000000000000000000000000002 03 40 20 80   xenbr1
nonsense
zz010db8000000000000000000000005 02 40 00 80   broken
"""


def test_the_loopback_has_one():
    assert address.ipv4("lo") == "127.0.0.1" and address.of("lo", False) == "127.0.0.1"


@pytest.mark.parametrize("name", ["", "nowhere0", "x" * 16, "x" * 300, "lo\0", "b\u00fcro"])
def test_none_where_there_is_no_such_interface(name):
    assert address.ipv4(name) == "" or name == "lo\0"
    assert address.ipv6(name) == ""


@pytest.mark.parametrize(
    "name, want", [("xenbr0", "2001:db8::5"), ("xenbr1", "fe80::2"), ("lo", "::1"), ("eth9", ""), ("broken", "")]
)
def test_ipv6_prefers_a_routable_one(tmp_path, name, want):
    (tmp_path / "if_inet6").write_text(TABLE)
    assert address.ipv6(name, str(tmp_path / "if_inet6")) == want


def test_no_table_no_address(tmp_path):
    assert address.ipv6("lo", str(tmp_path / "none")) == ""
