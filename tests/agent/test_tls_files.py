"""A host's certificate files are replaced together, whatever ends the program in between."""

import contextlib
import os

import pytest

from poolwarden_agent.dom0.identity import agent_conf
from poolwarden_agent.dom0.identity.tls_files import Terms, TlsFiles

pytestmark = pytest.mark.needs("openssl")


def files_of(tree):
    return TlsFiles(tree.path("etc/poolwarden/tls"))


class Killed(BaseException):
    """The program ends here."""


def killed_at(monkeypatch, step, run):
    """Run it until its rename of this number, counted from 1; how many there were."""
    real, count = os.rename, [0]

    def rename(source, target):
        count[0] += 1
        if count[0] == step:
            raise Killed
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        with contextlib.suppress(Killed):
            run()
    return count[0]


def content(tree):
    return {name: files_of(tree).read(name) for name in ("ca.pem", "cert.pem", "key.pem", "order-key", "renewal")}


@pytest.mark.parametrize("step", range(1, 11))
def test_after_a_kill_at_any_rename_all_are_the_old_ones_or_all_the_new(tree, certificates, monkeypatch, step):
    (tree.root / "etc/poolwarden/tls").mkdir(parents=True)
    ca = (certificates / "ca.pem").read_bytes()

    def take(name, number):
        (tree.root / "etc/poolwarden/tls/next-key.pem").write_bytes((certificates / (name + ".key")).read_bytes())
        terms = Terms(number, number)
        files_of(tree).install((certificates / (name + ".pem")).read_bytes(), ca, terms, b"%d" % number)

    take("host", 1)
    old = content(tree)
    assert killed_at(monkeypatch, step, lambda: take("collector", 2)) == step
    with files_of(tree).settled():
        found = content(tree)
    take("collector", 2)
    assert found == (content(tree) if step > 6 else old), "the sixth rename is the key's"
    assert sorted(os.listdir(files_of(tree).directory)) == ["ca.pem", "cert.pem", "key.pem", "order-key", "renewal"]


def test_a_value_that_is_set_is_replaced_where_it_stands():
    text = "[agent]\ncollector = old:1\n# c\nuser = u\n"
    assert agent_conf.with_values(text, {"collector": "new:2"}) == "[agent]\ncollector = new:2\n# c\nuser = u\n"
    assert agent_conf.with_values("", {"collector": "n:2"}) == "[agent]\ncollector = n:2\n"
