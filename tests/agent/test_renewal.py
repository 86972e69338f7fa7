"""This host's certificate renewed on the stream that runs, by the real agent; the rules of when, without it."""

import json
import time

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import renewal_rules
from poolwarden_agent.dom0.identity import openssl
from poolwarden_agent.dom0.identity.openssl import OpensslError
from poolwarden_agent.dom0.identity.tls_files import Terms, TlsError, TlsFiles
from poolwarden_agent.process.renewal import ANSWER_WITHIN_S, Renewals

from . import tree as trees
from .enrolment_server import sign, verified
from .tree import until

pytestmark = pytest.mark.needs("openssl")
URI = "poolwarden://pool/%s/host/%s" % (trees.POOL, trees.HOST)
LONG_AGO = Terms(1000.0, 86400.0)


def files_of(tree, terms=LONG_AGO):
    """The tree's certificates as enrolment has left them."""
    tree.put("etc/poolwarden/tls/renewal", json.dumps(terms._asdict()), 0o600)
    return TlsFiles(tree.path("etc/poolwarden/tls"))


@pytest.mark.long
def test_it_is_renewed_on_the_stream_which_goes_on_and_the_next_one_begins_with_it(
    agent, tree, collector, certificates, short
):
    files = files_of(tree)
    old = files.read("key.pem")
    agent.start()
    stream = collector.stream()
    request = stream.wait("renewal_request")
    assert verified(short, old, request.signature, request.csr_pem.encode())
    collector.send(stream, renewal=pb.Renewal(
        certificate_pem=sign(certificates, request.csr_pem, URI), ca_pem=(certificates / "ca.pem").read_text(),
        renew_after_s=7200,
    ))  # fmt: skip
    until(lambda: files.terms() != LONG_AGO, what=agent.said)
    assert files.read("key.pem") != old and files.terms().renew_after_s == 7200
    assert abs(files.terms().issued_s - time.time()) < 600
    for _ in range(9):  # twice as long as replaced files need to be noticed, in reports of half a second
        stream.fresh("report")
    assert len(collector.streams) == 1 and not stream.ended and len(stream.of("renewal_request")) == 1
    collector.send(stream)
    second = collector.stream(1)
    assert URI.encode() in second.uris, agent.said()
    assert agent.stop() == 0


@pytest.mark.slow
def test_a_refusal_is_said_and_the_stream_goes_on(agent, tree, collector):
    files = files_of(tree)
    agent.start()
    stream = collector.stream()
    stream.wait("renewal_request")
    collector.send(stream, renewal=pb.Renewal(refusal="this key is denied"))
    until(lambda: "does not renew this host's certificate: this key is denied; asked again in" in agent.said())
    stream.fresh("report")
    assert files.terms() == LONG_AGO and not stream.ended


@pytest.fixture
def renewals(tree, certificates):
    """Driven by hand: a stream is up, and the certificate is due."""
    trees.give_certificates(tree, certificates)
    made = Renewals(files_of(tree), lambda: None, lambda: None)
    made.stream(True)
    return made


def test_it_asks_once_and_again_after_a_while_with_the_same_key(renewals, tree):
    now = time.monotonic()
    renewals.turn(now)
    first = renewals.take()
    assert first is not None and renewals.take() is None
    waiting = tree.text("etc/poolwarden/tls/next-key.pem")
    renewals.turn(now + ANSWER_WITHIN_S - 1)
    assert renewals.take() is None
    renewals.turn(now + ANSWER_WITHIN_S)
    renewals.turn(now + ANSWER_WITHIN_S + 1)
    assert renewals.take() is None, "it has not waited"
    renewals.turn(now + ANSWER_WITHIN_S + 100)
    assert renewals.take() is not None and tree.text("etc/poolwarden/tls/next-key.pem") == waiting


def test_nothing_is_asked_before_its_time_or_of_certificates_of_ones_own(renewals, tree):
    files_of(tree, Terms(time.time(), 86400.0))
    renewals.turn(time.monotonic())
    (tree.root / "etc/poolwarden/tls/renewal").unlink()
    renewals.turn(time.monotonic())
    tree.put("etc/poolwarden/tls/renewal", "{ spoiled")
    renewals.turn(time.monotonic())
    assert renewals.take() is None


def test_nothing_is_asked_while_no_stream_is_up_and_what_was_asked_is_given_up(renewals):
    renewals.stream(False)
    renewals.turn(time.monotonic())
    assert renewals.take() is None
    renewals.stream(True)
    renewals.turn(time.monotonic())
    renewals.stream(False)
    renewals.turn(time.monotonic())
    assert renewals.take() is None, "what was for one stream is not sent on the next"


def test_an_answer_nobody_asked_for_changes_nothing(renewals, tree, certificates):
    before = tree.text("etc/poolwarden/tls/cert.pem")
    renewals.heard(pb.Renewal(certificate_pem=(certificates / "collector.pem").read_text()))
    renewals.turn(time.monotonic())
    assert tree.text("etc/poolwarden/tls/cert.pem") == before


def test_a_certificate_of_another_key_is_not_taken(renewals, tree, certificates):
    before = tree.text("etc/poolwarden/tls/cert.pem")
    renewals.turn(time.monotonic())
    renewals.heard(pb.Renewal(certificate_pem=(certificates / "collector.pem").read_text()))
    with pytest.raises(TlsError, match="not one of this host's key"):
        renewals.turn(time.monotonic())
    assert tree.text("etc/poolwarden/tls/cert.pem") == before


def test_without_openssl_it_says_so(tree, monkeypatch):
    monkeypatch.setattr(openssl, "_ENVIRONMENT", {"PATH": tree.path("nowhere")})
    with pytest.raises(OpensslError, match="the program openssl is not here"):
        openssl.new_key()


def test_when_it_is_due():
    left = renewal_rules.left_s
    assert left(1000.0, 86400.0, 0.9, 1000.0) == pytest.approx(77760.0)
    assert left(1000.0, 86400.0, 0.9, 1000.0 + 77760.0) == 0.0
    assert left(1000.0, 86400.0, 0.9, 999.0) == 0.0, "a clock that was set back"
    assert left(1000.0, 0.0, 1.0, 1000.0) == renewal_rules.LEAST_S, "never in a circle"
    assert left(0.0, 1e12, 1.0, 0.0) == renewal_rules.MOST_S
    shares = {renewal_rules.share(b"%d" % number) for number in range(50)}
    assert len(shares) == 50 and min(shares) >= 0.85 and max(shares) <= 1.0
    pauses = [renewal_rules.pause_s(count, 1.0) for count in (1, 2, 3, 50)]
    assert pauses == [60.0, 120.0, 240.0, 3600.0]
