"""A tree, certificates, a collector and the agent on them; short paths, because Unix sockets want them."""

import shutil
import tempfile
from pathlib import Path

import pytest

from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import log

from . import tree as trees
from .fake_port import FakePort


@pytest.fixture
def short():
    """A directory with a short name."""
    path = Path(tempfile.mkdtemp(prefix="pwa"))
    yield path
    shutil.rmtree(str(path), ignore_errors=True)


@pytest.fixture
def tree(short):
    """A member's dom0 tree."""
    return trees.Tree(short / "h1")


@pytest.fixture(scope="session")
def certificates():
    """A CA, the collector's certificate and the host's."""
    path = Path(tempfile.mkdtemp(prefix="pwc"))
    trees.authority(path)
    trees.certificate(path, "collector", "DNS:collector,URI:poolwarden://collector/test")
    trees.certificate(path, "host", "URI:poolwarden://host/" + trees.HOST)
    yield path
    shutil.rmtree(str(path), ignore_errors=True)


@pytest.fixture
def collector(certificates):
    """A collector that runs."""
    from .collector import Collector

    running = Collector(certificates).start()
    yield running
    running.stop()


@pytest.fixture
def agent(tree, certificates, collector):
    """The agent on the tree, not started yet; ended after the test."""
    trees.give_certificates(tree, certificates)
    configure(tree, collector.port)
    made = trees.Agent(tree)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def configure(tree, port, extra="", free_port=1):
    """Write agent.conf; xapi's ports lie where nobody listens. ``port``: the collector's, or the whole list."""
    listed = "127.0.0.1:%d" % port if isinstance(port, int) else port
    tree.put(
        "etc/poolwarden/agent.conf",
        "[agent]\ncollector = %s\nxapi_http = 127.0.9.1:%d\nxapi_tls_port = 1\n"
        "management_address = 127.0.9.1\n%s" % (listed, free_port, extra),
    )


@pytest.fixture
def port():
    """A host without files and sockets."""
    return FakePort()


@pytest.fixture
def side(port):
    """The host side on it."""
    return HostSide(port, "3.6.8")


@pytest.fixture(autouse=True)
def unlimited_log(monkeypatch):
    """No test is kept from its log line by an earlier one."""
    monkeypatch.setattr(log, "_seen", {})
