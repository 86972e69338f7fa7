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


NAMES = ["ca.pem", "cert.pem", "key.pem", "order-key", "renewal"]
SEVERAL = NAMES[:4] + ["order-keys", "renewal"]


def content(tree):
    return {name: files_of(tree).read(name) for name in SEVERAL}


@pytest.mark.parametrize(
    ("old_keys", "new_keys", "names", "step"),
    [([], [], NAMES, step) for step in range(1, 11)]
    + [(["x"], [], SEVERAL, step) for step in (1, 6, 7, 8, 9, 10, 11, 12)]
    + [([], ["x", "y"], SEVERAL, step) for step in (1, 6, 7, 8, 9, 10, 11, 12)],
)
def test_after_a_kill_at_any_rename_all_are_the_old_ones_or_all_the_new(
    tree, certificates, monkeypatch, old_keys, new_keys, names, step
):
    (tree.root / "etc/poolwarden/tls").mkdir(parents=True)
    ca = (certificates / "ca.pem").read_bytes()

    def take(name, number, more):
        (tree.root / "etc/poolwarden/tls/next-key.pem").write_bytes((certificates / (name + ".key")).read_bytes())
        terms = Terms(number, number)
        files_of(tree).install((certificates / (name + ".pem")).read_bytes(), ca, terms, ["%d" % number] + more)

    take("host", 1, old_keys)
    old = content(tree)
    assert killed_at(monkeypatch, step, lambda: take("collector", 2, new_keys)) == step
    with files_of(tree).settled():
        found = content(tree)
    take("collector", 2, new_keys)
    assert found == (content(tree) if step > len(names) + 1 else old), "the first rename after the staging is the key's"
    assert sorted(os.listdir(files_of(tree).directory)) == names
    listed = "".join("%s\n" % each for each in ["2"] + new_keys)
    assert content(tree)["order-keys"] == (listed.encode() if names is SEVERAL else b"")


def test_a_value_that_is_set_is_replaced_where_it_stands():
    text = "[agent]\ncollector = old:1\n# c\nuser = u\n"
    assert agent_conf.with_values(text, {"collector": "new:2"}) == "[agent]\ncollector = new:2\n# c\nuser = u\n"
    assert agent_conf.with_values("", {"collector": "n:2"}) == "[agent]\ncollector = n:2\n"
