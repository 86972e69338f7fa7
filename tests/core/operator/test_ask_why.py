"""``host why``: an agent looks now, and the reply says what it found; nothing is decided or journaled by it."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, Host

from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness, XapiTrouble
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order

FULL = XapiTrouble("disk-full", "no space is left on its disk", "poolwarden-agent disk; explain POOL", ("a line",))


class Asked(Guarded):
    """A pool whose agents find this trouble when they look."""

    def __init__(self, trouble: XapiTrouble | None = FULL, looks: bool = True) -> None:
        self.trouble, self.looks, self.orders_why = trouble, looks, 0
        self.replies: list[Reply] = []
        super().__init__()

    def feed(self, event):  # type: ignore[no-untyped-def]
        outcome = super().feed(event)
        self.replies += [each for each in outcome.effects if isinstance(each, Reply)]
        return outcome

    def why(self, host: int) -> Reply:
        """What the operator is told, once the agent has looked."""
        self.replies.clear()
        self.say("host-why", host)
        self.run(2_000)
        assert len(self.replies) == 1
        return self.replies[0]

    def default(self, host: Host, order: Order) -> OrderOutcome | None:
        done = super().default(host, order)
        if done is None or not getattr(order.kind, "want_xapi_trouble", False):
            return done
        self.orders_why += 1
        assert order.kind.want_placements  # type: ignore[union-attr]
        return replace(done, trouble=self.trouble, looked=True) if self.looks else done


def test_the_reply_names_cause_help_and_lines() -> None:
    g = Asked()
    reply = g.why(2)
    assert reply.accepted, reply
    assert "disk-full: no space is left on its disk" in reply.text and "helps: poolwarden-agent disk" in reply.text
    assert "a line" in reply.text and "POOL" not in reply.text
    assert not g.has(Kind.RESTART_INTENT) and not g.has(Kind.OPERATOR_REFUSED)


def test_one_question_at_a_time_is_put_to_an_agent() -> None:
    g = Asked()
    g.why(2)
    g.why(2)
    assert g.orders_why == 1
    g.run(15_000)
    g.why(2)
    assert g.orders_why == 2


def test_nothing_wrong_is_said_to_be_nothing() -> None:
    reply = Asked(None).why(2)
    assert reply.accepted and "its xapi answers" in reply.text


def test_an_unknown_cause_is_told_of_a_xapi_that_is_down_alone() -> None:
    unknown = XapiTrouble("unknown", "why is not known", "tail -n 200 /var/log/xensource.log")
    g = Asked(unknown)
    assert "its xapi answers" in g.why(2).text and "not known" not in g.why(2).text
    g.host(2).liveness = Liveness.DOWN
    g.run(15_000)
    assert "why is not known" in g.why(2).text


def test_an_older_agent_and_a_silent_one_are_named_with_what_to_do() -> None:
    reply = Asked(looks=False).why(2)
    assert not reply.accepted and reply.code == "too-old"
    assert "poolwarden-agent why" in reply.next_step
    g = Asked()
    g.host(2).agent = False
    g.run(60_000)
    reply = g.why(2)
    assert not reply.accepted and reply.code == "agent-silent"
