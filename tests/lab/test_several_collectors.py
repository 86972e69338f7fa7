"""Three real collectors on a real etcd, as the demo plays them: their pool's owner dies, is cut off, stops."""

import os
import subprocess

import pytest
from lab_rig import LAB, lab_environment, left_behind

pytestmark = pytest.mark.needs("namespaces", "ip", "nft")
OF_ETCD = pytest.mark.needs("etcd")


def demo(where, *words, path=""):
    environment = {**lab_environment(), "TMPDIR": str(where)}
    return subprocess.run(
        [*LAB, "demo", "--plain", *words],
        env={**environment, "PATH": path or os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def played(where, name):
    done = demo(where, "--collectors", "3", "--fault", name)
    assert done.returncode == 0, done.stdout
    assert not left_behind(where)
    return done.stdout


@OF_ETCD
def test_a_failover_goes_on_with_another_collector_when_its_own_dies(short_tmp):
    said = played(short_tmp, "kill-owner-mid-failover")
    assert said.count("  promoted  ") == 1 and "OK: another collector went on with the failover" in said
    assert "pool.get_master is" in said and said.count("HOST_IS_SLAVE") == 1


@OF_ETCD
@pytest.mark.long
@pytest.mark.parametrize("name", ["cut-etcd", "stop-owner"])
def test_a_pool_finds_its_next_collector(short_tmp, name):
    assert "OK: it " in played(short_tmp, name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fault", "kill-owner"], "kill-owner is a story of several collectors: --collectors 3"),
        (["--fault", "power", "--collectors", "3"], "power is a story of one collector; those of several are"),
        (["--fault", "move", "--collectors", "9"], "not in the range 1<=x<=5"),
        (["--fault", "move", "--collectors", "3", "--page"], "--page are of one collector's stories"),
    ],
)
def test_what_does_not_fit_is_said_at_once(short_tmp, words, says):
    done = demo(short_tmp, *words)
    assert done.returncode == 2 and says in done.stdout


def test_without_etcd_it_is_said_how_it_is_had(short_tmp):
    done = demo(short_tmp, "--fault", "move", "--collectors", "3", path="/nowhere")
    assert done.returncode == 2 and "apt-get install etcd-server" in done.stdout
