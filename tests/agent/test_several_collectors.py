"""The real agent, both processes, against several collectors over mutual TLS: one at a time, and whose pool it is."""

import contextlib
import socket

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.commands import gate
from poolwarden_agent.core.collector_turns import first_of
from poolwarden_agent.dom0.system import order_key
from poolwarden_agent.process import link_file

from . import tree as trees
from .collector import Collector
from .conftest import configure
from .test_signed import PUBLIC, seal
from .tree import HOST, POOL, until

pytestmark = pytest.mark.needs("openssl")


def elsewhere(address, reason="it has it", collector="c2"):
    return pb.CollectorMessage(elsewhere=pb.Elsewhere(address=address, collector=collector, reason=reason))


class Site(object):
    """Some collectors and the agent, in the order in which this host dials them."""

    def __init__(self, tree, certificates):
        self.tree = tree
        self.certificates = certificates
        self.agent = trees.Agent(tree)
        self.running = []
        trees.give_certificates(tree, certificates)

    def collector(self, **how):
        made = Collector(self.certificates, **how).start()
        self.running.append(made)
        return made

    def stop(self, collector):
        self.running.remove(collector)
        collector.stop()

    def start(self, *addresses):
        """With these in agent.conf so that the first is dialled first."""
        first = first_of(HOST, len(addresses))
        turned = addresses[-first:] + addresses[:-first] if first else addresses
        configure(self.tree, ", ".join(turned))
        return self.agent.start()

    def lines(self):
        boot = self.tree.text("proc/sys/kernel/random/boot_id").strip()
        return link_file.lines(str(self.tree.root), boot, 0)

    def end(self):
        if self.agent.process is not None:
            assert self.agent.stop() == 0, self.agent.said()
        for collector in list(self.running):
            self.stop(collector)


@pytest.fixture
def site(tree, certificates):
    made = Site(tree, certificates)
    yield made
    made.end()


def unused():
    """A port of 127.0.0.1 where nobody listens."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def hello(collector, number=0):
    until(lambda: len(collector.streams) > number)
    return collector.streams[number].wait("hello")


@pytest.mark.slow
def test_one_that_refuses_is_left_at_once_and_named_with_its_reason(site, capsys):
    dead = "127.0.0.1:%d" % unused()
    alive, spare = site.collector(epoch=7), site.collector()
    site.start(dead, alive.address, spare.address)
    stream = alive.stream()
    assert "elsewhere" in stream.messages[0].hello.capabilities
    ack = stream.wait("epoch_ack")
    assert (ack.epoch, ack.boot_id) == (7, stream.messages[0].hello.boot_id)
    until(lambda: "talks to the collector at %s" % alive.address in site.lines()[0])
    _, *others = site.lines()
    assert any(line.startswith(dead + ": ") and "refused" in line for line in others), others
    assert spare.address + ": not tried" in others
    assert gate.main(["status", "--root", str(site.tree.root)]) == 0
    assert "collector:  talks to the collector at " + alive.address in capsys.readouterr().out
    assert len(alive.streams) == 1 and spare.streams == []


@pytest.mark.slow
def test_it_goes_to_the_next_when_its_collector_dies_and_stays_there(site):
    first, second = site.collector(), site.collector(epoch=2)
    site.start(first.address, second.address)
    first.stream()
    site.stop(first)
    assert hello(second).highest_epoch == 1
    again = site.collector(port=first.port)
    assert second.streams[0].fresh("report") and again.streams == []


@pytest.mark.slow
def test_it_follows_to_the_owner_and_stores_nothing_of_who_is_none(site):
    """A mere Welcome of a stray collector would depose the owner of every pool on this host's word."""
    owner, stray = site.collector(epoch=5), site.collector(epoch=9)
    stray.opening = [elsewhere(owner.address)]
    site.start(stray.address, owner.address)
    assert hello(owner).highest_epoch == 0
    assert owner.stream().wait("epoch_ack").epoch == 5
    assert stray.streams[0].of("epoch_ack") == []
    until(lambda: stray.streams[0].ended)
    # Sent back from a stream that runs: what the owner's Welcome has stored is all that is stored.
    stray.opening = [elsewhere(owner.address)]
    owner.send(owner.stream(), elsewhere=elsewhere(stray.address).elsewhere)
    assert hello(owner, 1).highest_epoch == 5
    assert len(stray.streams) == 2 and hello(stray, 1).highest_epoch == 5


def test_after_that_word_nothing_is_obeyed_on_its_stream(site):
    stray, owner = site.collector(), site.collector(epoch=3)
    welcome = pb.CollectorMessage(welcome=pb.Welcome(epoch=99))
    stray.opening = [elsewhere(owner.address), welcome]
    site.start(stray.address, owner.address)
    assert hello(owner).highest_epoch == 0
    owner.stream().wait("epoch_ack", lambda ack: ack.epoch == 3)


@pytest.mark.slow
def test_one_conversation_at_a_time(site):
    """Whoever is gone on from has no stream any more before the next one has its Hello."""
    owner, stray = site.collector(), site.collector()
    stray.opening = [elsewhere(owner.address)]
    together = []
    site.start(stray.address, owner.address)
    for number in range(2):
        owner.stream(number)
        together.append([each.ended for each in stray.streams])
        owner.send(owner.streams[number], elsewhere=elsewhere(stray.address).elsewhere)
        until(lambda number=number: owner.streams[number].ended)
    assert all(all(ended) for ended in together), together


def test_an_address_that_is_on_no_list_needs_the_word_of_a_pinned_key(site):
    other, stray, listed = site.collector(), site.collector(), site.collector()
    stray.opening = [elsewhere(other.address)]
    site.start(stray.address, listed.address)
    listed.stream()
    assert other.streams == [] and "is not in agent.conf" in site.agent.said()


def signed(port_of, body, **content):
    """Signed for this host now; ``port_of``: its stream's Hello and stamp."""
    given = {"pool_uuid": POOL, "host_uuid": HOST, "boot_id": port_of.messages[0].hello.boot_id}
    given.update(echo_mono_ms=port_of.messages[-1].mono_ms, valid_for_ms=60000, epoch=1)
    given.update(content)
    given.update(body)
    return seal(**given).signed


@pytest.mark.slow
def test_at_a_signed_word_it_goes_to_one_on_no_list_and_back_to_its_list_when_that_ends(site):
    order_key.pin(str(site.tree.root), [PUBLIC])
    other, only = site.collector(), site.collector()
    other.opening = only.opening = []
    site.start(only.address)
    stream = only.stream()
    only.send(stream, elsewhere=pb.Elsewhere(address=other.address))
    until(lambda: "refused elsewhere: it is not signed" in site.agent.said())
    assert not stream.ended
    only.send(stream, signed=signed(stream, {"elsewhere": pb.Elsewhere(address=other.address)}))
    assert hello(other).highest_epoch == 0
    until(lambda: site.lines()[0].startswith("is connected to %s, which has not welcomed it" % other.address))
    site.stop(other)
    assert hello(only, 1).host_uuid == HOST


@pytest.mark.slow
def test_a_machine_without_the_collectors_certificate_is_no_collector_whoever_names_it(site, short):
    strangers = short / "s"
    strangers.mkdir()
    trees.authority(strangers)
    trees.certificate(strangers, "collector", "DNS:collector")
    stranger = Collector(strangers).start()
    site.running.append(stranger)
    named, owner = site.collector(), site.collector()
    named.opening = [elsewhere(stranger.address)]
    site.start(named.address, stranger.address, owner.address)
    owner.stream()
    assert stranger.streams == [] and "not of the authority in ca.pem" in site.agent.said()


@pytest.mark.slow
def test_two_that_send_it_to_each_other_are_asked_ever_more_rarely_and_it_says_so(site):
    one, two = site.collector(), site.collector()
    one.opening, two.opening = [elsewhere(two.address)], [elsewhere(one.address)]
    site.start(one.address, two.address)
    until(lambda: len(one.streams) + len(two.streams) >= 4)
    until(lambda: any("no collector welcomes it" in line for line in site.lines()))
    assert "no collector welcomes it" in site.agent.said()
    two.opening = None
    assert two.stream(len(two.streams)).messages[0].hello.highest_epoch == 0
    assert len(one.streams) + len(two.streams) < 12


@pytest.mark.slow
def test_ipv6(site):
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        probe.bind(("::1", 0))
    six = site.collector(host="[::1]")
    site.start("[::1]:%d" % six.port, "127.0.0.1:%d" % unused())
    assert hello(six).host_uuid == HOST
    until(lambda: site.lines()[0].startswith("talks to the collector at [::1]:%d" % six.port))
