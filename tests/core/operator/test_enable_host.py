"""``host enable``: a host whose toolstack is held stays disabled, whatever the master's view of it is."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, ToolstackHold, played_once, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import PoolView


@played_once
def disabled(host: int) -> Guarded:
    """A healthy pool whose master has this host live and disabled."""
    g = Guarded()
    facts = g.facts

    def told(of):  # type: ignore[no-untyped-def]
        made = facts(of)
        view = made.pool_view
        if view is None:
            return made
        assert isinstance(view, PoolView)
        hosts = tuple(replace(item, enabled=item.host != uuid(host)) for item in view.hosts)
        return replace(made, pool_view=replace(view, hosts=hosts))

    g.facts = told  # type: ignore[method-assign]
    for host_ in g.hosts:
        g.connect(host_, capabilities=(*g.pool.live.agents[host_.uuid].hello.capabilities, "enable_host"))
    g.run(8_000)
    return g


def test_a_disabled_member_is_enabled_through_the_master() -> None:
    g = disabled(2)
    reply = g.say("host-enable", 2)
    assert reply is not None and reply.accepted, reply
    assert g.has(Kind.ENABLE_INTENT) and [o.kind_name for o in g.host(1).orders][-1] == "enable_host"


def test_a_held_one_is_not() -> None:
    held = 2
    g = disabled(held)
    g.host(held).hold = ToolstackHold(1, True, True, g.now)
    g.report(g.host(held))
    reply = g.say("host-enable", held)
    assert reply is not None and not reply.accepted and reply.code == "held" and not g.has(Kind.ENABLE_INTENT)
