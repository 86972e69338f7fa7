"""What goes out signed, to whom, and what it says; over the real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.orders import Order, Promote
from poolwarden_collector.shell.agents.order_key import CONTEXT, FILE, OrderKeyError, key_id, load_or_make

from .rig import HOSTS, POOL, PlayedAgent, Rig, running

pytestmark = pytest.mark.asyncio


async def signing(rig: Rig, host: str = HOSTS[0], **hello: Any) -> PlayedAgent:
    agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(host), host)
    rig.agents.append(agent)
    await agent.attach(capabilities=["promote", "signed_orders"], **hello)
    return agent


def opened(rig: Rig, sealed: pb.Signed) -> pb.SignedContent:
    """The content, once its signature was verified by the key that a host would have pinned."""
    key = load_or_make(rig.config.state_dir)
    Ed25519PublicKey.from_public_bytes(key.public).verify(sealed.signature, CONTEXT + sealed.payload)
    assert sealed.key_id == key.key_id
    return pb.SignedContent.FromString(sealed.payload)


async def test_an_agent_that_can_verify_gets_everything_that_changes_it_signed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await signing(rig)
        welcome = opened(rig, await agent.expect("signed"))
        assert welcome.WhichOneof("body") == "welcome" and welcome.welcome.epoch == welcome.epoch > 0
        assert (welcome.pool_uuid, welcome.host_uuid, welcome.boot_id) == (POOL, HOSTS[0], "boot-1")
        assert welcome.echo_mono_ms > 0 and 0 < welcome.valid_for_ms <= 300_000
        settings = opened(rig, await agent.expect("signed"))
        assert settings.WhichOneof("body") == "settings" and settings.settings.report_interval_ms == 2000
        given = Order("o-1", HOSTS[0], "boot-1", 7, Promote(), 5_000)
        rig.parts.service._effects.perform(POOL, SendOrder(given))  # type: ignore[attr-defined]
        content = opened(rig, await agent.expect("signed"))
        order = content.order
        assert order.WhichOneof("kind") == "promote" and order.order_id == "o-1"
        for name in ("pool_uuid", "host_uuid", "boot_id", "epoch", "term", "echo_mono_ms", "valid_for_ms"):
            assert getattr(content, name) == getattr(order, name), name
        assert content.term == 7


async def test_a_gate_answer_is_signed_and_a_challenge_is_not(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await signing(rig)
        await agent.send(gate_question=pb.GateQuestion(boot_id="boot-1", pool_conf=pb.RoleFacts.MASTER))
        while True:
            content = opened(rig, await agent.expect("signed"))
            if content.WhichOneof("body") == "gate_answer":
                break
        answer = content.gate_answer
        assert (content.boot_id, content.epoch, content.term) == (answer.boot_id, answer.epoch, answer.term)
        session = rig.parts.gateway._sessions.of(HOSTS[0])
        assert session is not None
        session.send(pb.CollectorMessage(challenge=pb.Challenge(nonce="n")))
        assert (await agent.expect("challenge")).nonce == "n"


async def test_an_agent_of_the_version_before_gets_it_as_it_always_did(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        assert (await agent.expect("settings")).report_interval_ms == 2000  # its Welcome was heard by the rig


async def test_a_host_that_has_pinned_another_key_is_named(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        mine = load_or_make(rig.config.state_dir).key_id
        await (await signing(rig, order_key_id=mine)).expect("signed")
        assert not any("order key" in warning for warning in rig.parts.service.roster.warnings())
        await (await signing(rig, HOSTS[1], order_key_id="f" * 16, local_trouble="a file is spoiled")).expect("signed")
        warnings = rig.parts.service.roster.warnings()
        assert any("f" * 16 in warning and mine in warning and HOSTS[1] in warning for warning in warnings)
        assert any("a file is spoiled" in warning for warning in warnings)


async def test_a_host_that_would_refuse_another_collectors_orders_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        mine, other, known = load_or_make(rig.config.state_dir).key_id, "ab" * 32, "cd" * 32
        pinned = [mine, key_id(bytes.fromhex(known))]
        keys = {"b": other, "c": known}
        monkeypatch.setattr(rig.parts.enrolments.enrolment, "other_order_keys", lambda: keys)
        await (await signing(rig, order_key_id=mine, order_key_ids=pinned)).expect("signed")
        await rig.agent(HOSTS[1])  # it has pinned none, which is another warning
        found = [each for each in rig.parts.service.roster.warnings() if "order key" in each]
        (warning,) = [each for each in found if "of collector" in each]
        assert HOSTS[0] in warning and "of collector b" in warning and len(found) == 2
        assert warning.endswith(f"poolwarden-agent trust-key --add {other}")


async def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    first, again = load_or_make(tmp_path), load_or_make(tmp_path)
    assert first.public == again.public and (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(first.public).verify(first.sign(b"a"), CONTEXT + b"b")
    (tmp_path / FILE).write_text("spoiled")
    with pytest.raises(OrderKeyError, match="restore it from a backup"):
        load_or_make(tmp_path)
