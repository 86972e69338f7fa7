"""Signed content: what a pinned order key lets through, and everything that it does not."""

import hashlib
import os

import pytest
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import signed
from poolwarden_agent.core.orders import LONGEST_VALID_MS
from poolwarden_agent.core.signed import Envelope, Here, implausible, wrong
from poolwarden_agent.dom0.system import order_key
from poolwarden_agent.host_port import NO_KEYS, PinnedKey, PinnedKeys

from .fake_port import HOST, POOL, order

PUBLIC, SECRET = crypto_sign_seed_keypair(b"k" * 32)
OTHER_PUBLIC, OTHER_SECRET = crypto_sign_seed_keypair(b"o" * 32)


def seal(secret=SECRET, public=PUBLIC, context=signed.CONTEXT, **content):
    """A CollectorMessage with this SignedContent, signed by this key."""
    payload = pb.SignedContent(**content).SerializeToString()
    signature = crypto_sign(context + payload, secret)[:crypto_sign_BYTES]
    key_id = hashlib.sha256(public).hexdigest()[:16]
    return pb.CollectorMessage(signed=pb.Signed(payload=payload, signature=signature, key_id=key_id))


def sealed_order(given, **given_envelope):
    """An order, signed; the envelope as the order says it where nothing else is given."""
    envelope = {
        "pool_uuid": given.pool_uuid,
        "host_uuid": given.host_uuid,
        "boot_id": given.boot_id,
        "epoch": given.epoch,
        "term": given.term,
        "echo_mono_ms": given.echo_mono_ms,
        "valid_for_ms": given.valid_for_ms,
    }
    keys = {name: given_envelope.pop(name) for name in ("secret", "public", "context") if name in given_envelope}
    envelope.update(given_envelope)
    return seal(order=given, **keys, **envelope)


def welcome(port, secret=SECRET, public=PUBLIC, epoch=5, **other):
    content = {"pool_uuid": POOL, "host_uuid": HOST, "boot_id": port.identity().boot_id, "epoch": epoch}
    content.update(echo_mono_ms=port.mono_ms(), valid_for_ms=60000)
    content.update(other)
    return seal(
        secret, public, welcome=pb.Welcome(epoch=epoch, settings=pb.Settings(report_interval_ms=777)), **content
    )


@pytest.fixture
def pinned(port):
    """The port has this key pinned."""
    port.order_keys = lambda: PinnedKeys((PinnedKey(PUBLIC, order_key.key_id(PUBLIC)),), "")
    port.signature_fits = order_key.fits
    return port


def ended(side, message):
    """What an order came to: (outcome, reason) of an answer at once, or None where it was let through."""
    answers, let_through = side.conversation.receive(message)
    if let_through is not None:
        assert answers == []
        return None
    [answer] = answers
    assert answer.order_result.order_id and side.conversation.take_remark()
    assert answer.order_result.outcome == pb.OrderResult.REFUSED
    return answer.order_result.reason


def test_a_signed_order_is_obeyed_and_an_unsigned_one_is_not(side, pinned):
    given = order(pinned, claim=pb.Claim())
    assert ended(side, sealed_order(given)) is None
    assert ended(side, pb.CollectorMessage(order=given)) == "unsigned"


def test_copies_of_two_signed_orders_in_turn_are_each_carried_out_once(side, pinned):
    """Whoever only relays them can deliver both for as long as they are valid."""
    given = [
        sealed_order(order(pinned, name, valid_for_ms=LONGEST_VALID_MS, repoint=pb.Repoint(master_address=address)))
        for name, address in (("a", "10.0.0.2"), ("b", "10.0.0.3"))
    ]
    answers = []
    for number in range(12):
        _, let_through = side.conversation.receive(given[number % 2])
        answers.append(side.executor.carry_out(let_through, 1500))
        pinned.now += 20000
    assert [answer.replayed for answer in answers] == [False] * 2 + [True] * 10
    assert len(pinned.acts) == 2 and {answer.outcome for answer in answers} == {pb.OrderResult.DONE}
    pinned.now += LONGEST_VALID_MS
    _, let_through = side.conversation.receive(given[0])
    assert side.executor.carry_out(let_through, 1500).reason == "expired" and len(pinned.acts) == 2


def test_until_a_key_is_pinned_both_count(side, port):
    given = order(port, claim=pb.Claim())
    assert ended(side, pb.CollectorMessage(order=given)) is None
    assert ended(side, sealed_order(given, secret=OTHER_SECRET, public=OTHER_PUBLIC)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"host_uuid": "99999999-2222-3333-4444-555555555555"},
        {"pool_uuid": "99999999-bbbb-cccc-dddd-eeeeeeeeeeee"},
        {"boot_id": "another boot"},
        {"epoch": 77},
        {"term": 77},
        {"echo_mono_ms": 1},
        {"valid_for_ms": 299999},
        {"secret": OTHER_SECRET},
        {"secret": OTHER_SECRET, "public": OTHER_PUBLIC},
        {"context": b""},
        {"context": b"poolwarden something else v1\0"},
    ],
)
def test_an_order_that_is_signed_for_something_else_is_refused(side, pinned, change):
    assert ended(side, sealed_order(order(pinned, claim=pb.Claim()), **change)) == "bad-signature"


def test_a_changed_byte_of_payload_or_signature_is_refused(side, pinned):
    good = sealed_order(order(pinned, claim=pb.Claim()))
    for field in ("payload", "signature"):
        for at in (0, 20, -1):
            bad = pb.CollectorMessage.FromString(good.SerializeToString())
            data = bytearray(getattr(bad.signed, field))
            data[at] ^= 1
            setattr(bad.signed, field, bytes(data))
            answers, let_through = side.conversation.receive(bad)
            assert let_through is None and side.conversation.take_remark()
    for signature in (b"", good.signed.signature[:-1], good.signed.signature + b"x"):
        bad = pb.CollectorMessage.FromString(good.SerializeToString())
        bad.signed.signature = signature
        assert ended(side, bad) == "bad-signature"


def test_what_is_signed_and_is_none_of_the_five_is_refused(side, pinned):
    for payload in (b"", b"\xff\xff", pb.SignedContent(host_uuid=HOST).SerializeToString()):
        signature = crypto_sign(signed.CONTEXT + payload, SECRET)[:crypto_sign_BYTES]
        message = pb.CollectorMessage(
            signed=pb.Signed(payload=payload, signature=signature, key_id=order_key.key_id(PUBLIC))
        )
        assert side.conversation.receive(message) == ([], None)
        assert "cannot be read" in side.conversation.take_remark()


def test_a_welcome_counts_for_this_boot_and_for_its_time(side, pinned):
    for bad in ({"boot_id": "x"}, {"valid_for_ms": 0}, {"valid_for_ms": 300001}, {"echo_mono_ms": 10**9}):
        side.conversation.receive(welcome(pinned, **bad))
        assert side.conversation.take_remark() and side.executor.state.epoch == 0
    late = welcome(pinned)
    pinned.now += 60001
    side.conversation.receive(late)
    assert "too late" in side.conversation.take_remark()
    side.conversation.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=9)))
    assert "not signed" in side.conversation.take_remark() and side.executor.state.epoch == 0
    side.conversation.receive(welcome(pinned))
    assert (side.executor.state.epoch, side.conversation.settings.report_interval_ms) == (5, 777)
    assert side.conversation.take_remark() == ""


def test_settings_and_a_gate_answer_need_it_and_a_challenge_does_not(side, pinned):
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings(report_interval_ms=600)))
    assert side.conversation.settings.report_interval_ms != 600 and side.conversation.take_remark()
    heard = []
    side.boot.heard = lambda answer, signed: heard.append(signed)
    answer = pb.GateAnswer(boot_id="b", decision=pb.GateAnswer.OPEN, epoch=1, echo_mono_ms=2, valid_for_ms=3)
    side.conversation.receive(pb.CollectorMessage(gate_answer=answer))
    same = {"pool_uuid": POOL, "host_uuid": HOST, "boot_id": "b", "epoch": 1, "echo_mono_ms": 2, "valid_for_ms": 3}
    side.conversation.receive(seal(gate_answer=answer, **dict(same, epoch=2)))
    assert heard == []
    side.conversation.receive(seal(gate_answer=answer, **same))
    assert heard == [True]
    [answered], _ = side.conversation.receive(pb.CollectorMessage(challenge=pb.Challenge(nonce="n")))
    assert answered.challenge_answer.nonce == "n"


def test_a_renewed_certificate_needs_it_for_with_it_comes_an_authority_to_trust(side, pinned):
    answer = pb.Renewal(certificate_pem="c", ca_pem="a")
    side.conversation.receive(pb.CollectorMessage(renewal=answer))
    assert side.conversation.take_renewal() is None and "not signed" in side.conversation.take_remark()
    here = {
        "pool_uuid": POOL,
        "host_uuid": HOST,
        "boot_id": pinned.identity().boot_id,
        "echo_mono_ms": pinned.mono_ms(),
    }
    side.conversation.receive(seal(renewal=answer, valid_for_ms=60000, **dict(here, boot_id="x")))
    assert side.conversation.take_renewal() is None
    side.conversation.receive(seal(renewal=answer, valid_for_ms=60000, **here))
    assert side.conversation.take_renewal() == answer and side.conversation.take_renewal() is None


def test_a_host_that_does_not_know_its_pool_takes_any():
    envelope = Envelope("p", "h", "b", 1, 1, 10, 1000)
    assert wrong(envelope, envelope, False, Here("", "h", "b", 20)) == ""
    assert "for pool p" in wrong(envelope, envelope, False, Here("q", "h", "b", 20))


def test_where_the_pinned_key_cannot_be_used_nothing_counts(side, port):
    port.order_keys = lambda: PinnedKeys((), "the file is spoiled")
    given = order(port, claim=pb.Claim())
    assert ended(side, pb.CollectorMessage(order=given)) == "unsigned"
    assert ended(side, sealed_order(given)) == "bad-signature"
    assert side.conversation.link_up()[0].hello.local_trouble == "the file is spoiled"


def test_another_pinned_key_wants_another_hello(side, port):
    assert side.conversation.link_up()[0].hello.order_key_id == ""
    assert not side.conversation.outdated()
    port.order_keys = lambda: PinnedKeys((PinnedKey(PUBLIC, order_key.key_id(PUBLIC)),), "")
    assert side.conversation.outdated()
    assert side.conversation.link_up()[0].hello.order_key_id == order_key.key_id(PUBLIC)
    assert not side.conversation.outdated()


# ---------------------------------------------------------------------------------------------- numbers


def test_numbers_are_claims():
    leap, most = signed.EPOCH_LEAP, signed.MOST_EPOCH
    assert implausible(7, 3, 7 + leap, 3 + signed.TERM_LEAP, False) == ""
    assert "epoch" in implausible(7, 3, 8 + leap, 3, False) and "term" in implausible(
        7, 3, 7, 4 + signed.TERM_LEAP, False
    )
    assert implausible(7, 3, most, signed.MOST_TERM, True) == ""
    assert implausible(7, 3, most + 1, 3, True) and implausible(7, 3, 7, signed.MOST_TERM + 1, True)


def test_an_unsigned_jump_is_neither_stored_nor_obeyed(side, port):
    far = signed.EPOCH_LEAP + 1
    side.conversation.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=far)))
    assert "cannot be" in side.conversation.take_remark() and side.executor.state.epoch == 0
    given = order(port, claim=pb.Claim())
    given.epoch = far
    _, taken = side.conversation.receive(pb.CollectorMessage(order=given))
    result = side.executor.carry_out(taken, 1000)
    assert (result.outcome, result.reason) == (pb.OrderResult.REFUSED, "implausible")
    assert side.executor.state.epoch == 0


def test_a_signed_jump_is_taken(side, pinned):
    far = signed.EPOCH_LEAP * 3
    side.conversation.receive(welcome(pinned, epoch=far))
    assert side.executor.state.epoch == far
    given = order(pinned, claim=pb.Claim())
    given.epoch, given.term = far, signed.TERM_LEAP * 2
    _, taken = side.conversation.receive(sealed_order(given))
    assert side.executor.carry_out(taken, 1000).outcome == pb.OrderResult.DONE
    assert side.executor.state.term == signed.TERM_LEAP * 2


# ---------------------------------------------------------------------------------------------- the file


def test_the_file_is_read_when_it_changes(tree):
    keys = order_key.OrderKeys(str(tree.root))
    assert keys.look() == NO_KEYS
    order_key.pin(str(tree.root), [PUBLIC])
    assert keys.look() == PinnedKeys((PinnedKey(PUBLIC, order_key.key_id(PUBLIC)),), "")
    order_key.pin(str(tree.root), [OTHER_PUBLIC])
    assert publics(keys) == [OTHER_PUBLIC] and not os.path.exists(tree.path(order_key.ALL))
    order_key.pin(str(tree.root), [PUBLIC, OTHER_PUBLIC])
    assert publics(keys) == [PUBLIC, OTHER_PUBLIC]
    os.unlink(tree.path(order_key.FILE))
    assert keys.look() == NO_KEYS, "whatever the list says"


def publics(keys):
    found = keys.look()
    assert not found.trouble
    return [each.public for each in found.keys]


THIRD = b"t" * 32


@pytest.mark.parametrize("before", [[PUBLIC], [PUBLIC, OTHER_PUBLIC], [PUBLIC, OTHER_PUBLIC, THIRD]])
@pytest.mark.parametrize(
    "after", [[PUBLIC], [OTHER_PUBLIC], [THIRD], [PUBLIC, THIRD], [OTHER_PUBLIC, THIRD], [THIRD, PUBLIC, OTHER_PUBLIC]]
)
def test_at_every_instant_of_a_change_no_other_key_counts(tree, monkeypatch, before, after):
    root, real, seen = str(tree.root), order_key._write, []
    order_key.pin(root, before)

    def write(target, keys):
        real(target, keys)
        seen.append(publics(order_key.OrderKeys(root)))

    monkeypatch.setattr(order_key, "_write", write)
    order_key.pin(root, after)
    assert publics(order_key.OrderKeys(root)) == after == seen[-1]
    assert all(each in (before, after, after[:1]) for each in seen), seen


def test_what_an_older_agent_pins_or_reads_is_the_first_and_alone_counts(tree):
    root = str(tree.root)
    order_key.pin(root, [PUBLIC, OTHER_PUBLIC])
    assert tree.text(order_key.FILE) == PUBLIC.hex() + "\n", "as it has always been read"
    tree.put(order_key.FILE, THIRD.hex() + "\n")
    assert publics(order_key.OrderKeys(root)) == [THIRD], "the list is of before"
    order_key.pin(root, [PUBLIC])
    assert publics(order_key.OrderKeys(root)) == [PUBLIC], "and stays of before"


@pytest.mark.parametrize(
    "text", ["", "\n", PUBLIC.hex() + "\nabc\n", PUBLIC.hex() + "\n" + "z" * 64 + "\n", "x" * 5000]
)
def test_a_list_that_is_spoiled_is_trouble_or_none(tree, text):
    tree.put(order_key.FILE, PUBLIC.hex())
    tree.put(order_key.ALL, text)
    found = order_key.OrderKeys(str(tree.root)).look()
    if text.strip():
        assert found.keys == () and "order-keys does not hold" in found.trouble
    else:
        assert found.ids == (order_key.key_id(PUBLIC),)


def test_a_list_that_others_can_write_is_trouble(tree):
    order_key.pin(str(tree.root), [PUBLIC, OTHER_PUBLIC])
    keys = order_key.OrderKeys(str(tree.root))
    assert len(publics(keys)) == 2
    os.chmod(tree.path(order_key.ALL), 0o666)
    assert "order-keys is not a file that root alone can write" in keys.look().trouble and keys.look().keys == ()
    os.chmod(tree.path(order_key.ALL), 0o644)
    assert len(publics(keys)) == 2


def test_each_of_several_keys_commands_and_no_other_one(side, port):
    port.order_keys = lambda: PinnedKeys(
        tuple(PinnedKey(each, order_key.key_id(each)) for each in (PUBLIC, OTHER_PUBLIC)), ""
    )
    port.signature_fits = order_key.fits
    given = order(port, claim=pb.Claim())
    assert ended(side, sealed_order(given)) is None
    assert ended(side, sealed_order(given, secret=OTHER_SECRET, public=OTHER_PUBLIC)) is None
    assert ended(side, sealed_order(given, secret=OTHER_SECRET)) == "bad-signature", "each key signs for itself"
    assert ended(side, sealed_order(given, secret=SECRET, public=OTHER_PUBLIC)) == "bad-signature"
    stranger_public, stranger = crypto_sign_seed_keypair(b"s" * 32)
    assert ended(side, sealed_order(given, secret=stranger, public=stranger_public)) == "bad-signature"
    assert ended(side, pb.CollectorMessage(order=given)) == "unsigned"
    hello = side.conversation.link_up()[0].hello
    assert (hello.order_key_id, list(hello.order_key_ids)) == (
        order_key.key_id(PUBLIC),
        [order_key.key_id(PUBLIC), order_key.key_id(OTHER_PUBLIC)],
    )
    port.order_keys = lambda: PinnedKeys((PinnedKey(PUBLIC, order_key.key_id(PUBLIC)),), "")
    assert side.conversation.outdated(), "a key that is not pinned any more is told by another Hello"
    assert ended(side, sealed_order(given, secret=OTHER_SECRET, public=OTHER_PUBLIC)) == "bad-signature"


@pytest.mark.parametrize("text", ["", "abc", "00" * 31, "00" * 33, "zz" * 32, "00" * 32 + " x"])
def test_a_file_that_is_no_key_is_trouble(tree, text):
    tree.put(order_key.FILE, text)
    assert "64 hex digits" in order_key.OrderKeys(str(tree.root)).look().trouble


def test_a_file_that_others_can_write_or_that_is_none_is_trouble(tree):
    tree.put(order_key.FILE, "00" * 32, 0o666)
    keys = order_key.OrderKeys(str(tree.root))
    assert "root alone" in keys.look().trouble
    os.chmod(tree.path(order_key.FILE), 0o644)
    assert publics(keys) == [bytes(32)]
    os.rename(tree.path(order_key.FILE), tree.path("elsewhere"))
    os.symlink(tree.path("elsewhere"), tree.path(order_key.FILE))
    assert "root alone" in keys.look().trouble
