"""Attacks by whoever gives the orders: to have this host run a program of his choice by what he tells a fence agent."""

import pytest

from poolwarden_agent.core import fence_order

ALLOWED = ("fence_apc", "fence_ipmilan")
RUN = "-oProxyCommand=id"


def refusal(**parameters):
    return fence_order.refusal("fence_apc", "status", parameters, 8000, ALLOWED)


@pytest.mark.parametrize(
    "name, value",
    [
        ("username", "u@127.0.0.1 -o 'ProxyCommand=touch /tmp/x' x"),
        ("login", "u\t%s" % RUN),
        ("username", RUN),
        ("ip", "127.0.0.1 -o 'ProxyCommand=touch /tmp/x'"),
        ("ipaddr", "127.0.0.1 -f /etc/shadow"),
        ("ip", "-f/etc/shadow"),
        ("ip", "$(id)"),
        ("ip", "a;id"),
        ("ipport", "22 %s" % RUN),
        ("cipher", "3 -I open"),
        ("auth", "MD5 -I open"),
        ("privlvl", "USER -I open"),
        ("target", "0x20 -I open"),
        ("hexadecimal_kg", "00 -I open"),
        ("hexadecimal-kg", "zz"),
        ("plug", "-1"),
        ("plug", "1 'x'"),
        ("nodename", "a`id`"),
        ("ip", "127.0.0.1\x0b%s" % RUN),
        ("ip", "127.0.0.1\u00a0%s" % RUN),
        ("systems_uri", "/redfish/v1/Systems/1 x"),
    ],
)
def test_a_value_that_an_agent_would_split_into_options_is_refused_by_name_alone(name, value):
    why = refusal(**{name: value})
    assert name in why and value not in why


@pytest.mark.parametrize(
    "name, value",
    [
        ("ip", "10.0.0.7"), ("ip", "fe80::1%eth0"), ("ip", "[2001:db8::1]"), ("ipaddr", "bmc-3.example.net"),
        ("ipport", "623"), ("username", "DOMAIN\\admin"), ("username", "admin@example.net"), ("login", "ADMIN"),
        ("plug", "Outlet 4"), ("plug", "1:2"), ("port", "/dev/outlet"), ("systems_uri", "/redfish/v1/Systems/1"),
        ("cipher", "17"), ("lanplus", "1"), ("target", "0x20"), ("hexadecimal_kg", "00ff"), ("ssl_insecure", ""),
        ("password", "-o 'a b'; $(id)"), ("passwd", "\u00e4 #"), ("community", "it's public"), ("separator", ","),
    ],
)  # fmt: skip
def test_what_devices_and_people_are_called_is_let_through(name, value):
    assert refusal(**{name: value}) == ""


@pytest.mark.parametrize("name", ["fence_ack_manual", "fence_xvm", "fence_xvm.py"])
def test_what_the_collector_never_uses_is_not_run_here_either(name):
    assert fence_order.banned(name)
