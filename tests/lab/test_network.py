"""The lab's network: namespaces, cables, partitions, and that all of it is silent."""

import socket
from pathlib import Path

import pytest

from poolwarden_lab.processes import network as netns

PRELUDE = """
import json, os, socket, subprocess, sys, time
from poolwarden_lab.processes.network import Namespaces, NetworkError
network = Namespaces(2)
def say(value): print(json.dumps(value))
def connect(node, address, port, limit=0.7):
    code = f"import socket; s = socket.create_connection(('{address}', {port}), {limit}); print(s.getsockname()[0])"
    done = subprocess.run([*network.launcher(node), sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1].split(":")[0]
listener = network.listen("h1", 443)
"""


@pytest.mark.needs("namespaces", "ip")
class TestNamespaces:
    def test_each_node_has_its_address_and_low_ports_work(self, inside):
        answer = inside(PRELUDE + "say([connect('h2', network.address('h1'), 443), network.address('b2')])")
        assert answer == ["10.99.0.12", "10.99.0.102"]

    def test_a_pulled_cable_is_silence_and_heals(self, inside):
        code = "network.set_link('h1', False); a = connect('h2', '10.99.0.11', 443); network.set_link('h1', True)"
        assert inside(PRELUDE + code + "; say([a, connect('h2', '10.99.0.11', 443, 3)])") == [
            "TimeoutError",
            "10.99.0.12",
        ]

    @pytest.mark.parametrize("with_nft", [pytest.param(True, marks=pytest.mark.needs("nft")), False])
    def test_a_partition_of_a_pair_is_silent_leaves_others_alone_and_heals(self, inside, with_nft):
        code = f"""
network._nft = network._nft if {with_nft} else None
network.block('collector', 'h1')
cut, other = connect('collector', '10.99.0.11', 443), connect('h2', '10.99.0.11', 443)
network.unblock('collector', 'h1')
say([cut, other, connect('collector', '10.99.0.11', 443, 3), network.blocked()])
"""
        assert inside(PRELUDE + code) == ["TimeoutError", "10.99.0.12", "10.99.0.2", []]

    @pytest.mark.needs("nft")
    def test_a_partition_can_be_one_way(self, inside):
        code = """
udp = '''
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 9)); s.settimeout(0.7)
print("ready", flush=True)
try: print(s.recvfrom(9)[1][0])
except TimeoutError: print("nothing")
'''
def heard(at, sender, address):
    receiver = subprocess.Popen([*network.launcher(at), sys.executable, "-c", udp], stdout=subprocess.PIPE, text=True)
    receiver.stdout.readline()
    send = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{address}', 9))"
    subprocess.run([*network.launcher(sender), sys.executable, "-c", send])
    return receiver.communicate()[0].strip()
heard("h1", "h2", "10.99.0.11")
network.block("h2", "h1")
say([heard("h1", "h2", "10.99.0.11"), heard("h2", "h1", "10.99.0.12")])
"""
        assert inside(PRELUDE + code) == ["nothing", "10.99.0.11"]

    def test_a_tied_program_dies_with_the_lab(self, inside):
        code = """
command = [*network.launcher("h1"), "sleep", "77"]
inner = f"import os, subprocess, time; w = {command!r}; w[4] = str(os.getpid()); " \
        "print(subprocess.Popen(w).pid, flush=True); time.sleep(0.3); os.kill(os.getpid(), 9)"
pid = int(subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True).stdout)
deadline = time.monotonic() + 5
while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
    try: os.waitpid(pid, os.WNOHANG)
    except ChildProcessError: pass
    state = open(f"/proc/{pid}/stat").read().split()[2] if os.path.exists(f"/proc/{pid}") else "gone"
    if state in ("Z", "gone"): break
    time.sleep(0.02)
say(state)
"""
        assert inside(PRELUDE + code) in ("Z", "gone")

    def test_nothing_of_it_is_visible_outside(self, inside):
        assert inside(PRELUDE + "say(sorted(os.listdir('/run/netns')))") == ["b1", "b2", "collector", "h1", "h2", "sw"]
        assert not list(Path("/run/netns").glob("*"))

    def test_a_command_that_fails_says_which_and_why(self, inside):
        code = """
try: network.set_link("h9", False)
except NetworkError as error: say(str(error))
"""
        assert "p-h9" in inside(PRELUDE + code)


class TestLoopback:
    def test_it_says_what_it_cannot_show(self):
        said = " ".join(netns.Loopback(2, "Operation not permitted").limitations())
        assert "Operation not permitted" in said
        assert "no partitions" in said

    def test_a_partition_is_refused_with_the_reason(self):
        with pytest.raises(netns.NetworkError, match="without namespaces"):
            netns.Loopback(2, "refused").block("collector", "h1")

    def test_nodes_have_addresses_of_their_own(self):
        network = netns.Loopback(2, "refused")
        with network.listen("h1", 0) as listener:
            assert listener.getsockname()[0] == network.address("h1") != network.address("h2")
            socket.create_connection(listener.getsockname(), 1).close()

    def test_more_hosts_than_there_are_addresses_are_refused(self):
        with pytest.raises(netns.NetworkError, match="1 to 64"):
            netns.Namespaces(65)


def test_a_machine_without_the_tools_is_told_which(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "'unshare' is not installed" in netns.refusal()
