"""What a quiet host costs its agent, counted: questions to the kernel, answers taken apart, sections made.

Time is no measure on a shared machine; these numbers are the same everywhere. Whoever raises one pays for it each two
seconds on every host of every pool.
"""

import builtins
import collections
import os

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.config import Config
from poolwarden_agent.dom0.dom0 import Dom0
from poolwarden_agent.dom0.system import files, storage_mounts, xenstore
from poolwarden_agent.dom0.xapi import exchange
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.messages import reports

CALLS = ("open", "stat", "lstat", "fstat", "readlink", "statvfs", "read", "listdir", "scandir")


@pytest.fixture
def asked(monkeypatch):
    """How often the kernel was asked for files, by the name of the call."""
    counts = collections.Counter()

    def counting(name, real):
        def call(*arguments, **named):
            counts[name] += 1
            return real(*arguments, **named)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))
    monkeypatch.setattr(builtins, "open", counting("open", builtins.open))
    return counts


@pytest.fixture
def side(tree, monkeypatch):
    monkeypatch.setattr(xenstore, "running", lambda path: ["vm-1"])
    here = ("127.0.0.1", 1)
    config = Config((here,), "c", "", here, 1, "", "", "ca.pem", "cert.pem", "key.pem", (), "hand-over")
    made = HostSide(Dom0(str(tree.root), config), "3.6.8", background=True)
    made.observer.look_at_host()
    made.observer.look_at_host()
    return made


def test_a_look_at_a_quiet_host_asks_for_few_files(side, asked):
    for _ in range(10):
        side.observer.look_at_host()
    each = {name: asked[name] / 10.0 for name in asked}
    most = {"open": 5, "read": 4, "stat": 10, "lstat": 20, "fstat": 4, "readlink": 7, "statvfs": 2}
    # Half a call more: now and then something is due that is not done each time.
    over = {name: count for name, count in each.items() if count > most.get(name, 0) + 0.5}
    assert not over, "more than %s" % {name: most.get(name, 0) for name in over}


def test_the_flag_of_ha_is_read_each_time_and_parsed_when_it_is_another_text(tree, monkeypatch):
    parsed = []
    real = files._armed
    monkeypatch.setattr(files, "_armed", lambda text: parsed.append(1) or real(text))
    files._remembered.cache_clear()
    assert [files.ha_armed(str(tree.root)) for _ in range(20)] == [False] * 20 and len(parsed) == 1
    tree.put("var/lib/xcp/local.db", '<config><row key="ha.armed" value="true"/></config>')
    assert files.ha_armed(str(tree.root)) is True and len(parsed) == 2
    tree.put("var/lib/xcp/local.db", "<config")
    assert files.ha_armed(str(tree.root)) is None
    os.remove(str(tree.root / "var/lib/xcp/local.db"))
    assert files.ha_armed(str(tree.root)) is None
    tree.put("var/lib/xcp/local.db", '<config><row key="ha.armed" value="false"/></config>')
    assert files.ha_armed(str(tree.root)) is False


def test_a_file_whose_size_is_known_is_read_once_and_one_of_proc_to_its_end(tree, asked):
    tree.put("etc/small", "x" * 300)
    assert files.read(str(tree.root), "etc/small") == "x" * 300 and asked["read"] == 1
    assert files.read(str(tree.root), "etc/small", 299) is None
    table = files.read("/", "proc/self/maps", 1024 * 1024)
    with open("/proc/self/maps") as file:
        assert table and table.splitlines()[-1] == file.read().strip().splitlines()[-1]


def test_processes_that_wait_for_a_disk_cost_three_calls_each(tree, asked):
    for pid in range(100, 200):
        tree.put("proc/%d/stat" % pid, "%d (p) S 0" % pid + " 1" * 48)
    tree.put("proc/300/stat", "300 (tapdisk) D 0" + " 1" * 48)
    before = sum(asked.values())
    assert [each.pid for each in storage_mounts.waiting(str(tree.root))] == [300]
    assert sum(asked.values()) - before <= 2 * 102 + 6, "open and read, and close, which is not counted here"


def test_a_quiet_minute_makes_no_section(side, monkeypatch):
    conversation = side.conversation
    conversation.link_up()
    conversation.report()
    made = collections.Counter()
    for name in ("role", "xapi", "database", "memory", "domains", "software", "machine", "tombstone"):
        real = getattr(reports, name)
        monkeypatch.setattr(reports, name, lambda *a, name=name, real=real: made.update([name]) or real(*a))
    for _ in range(30):
        message = conversation.report()
        names = {field.name for field, _ in message.report.ListFields()}
        assert names <= {"wall_ms", "freshness", "marks"}, names
    assert not made
    assert pb.AgentMessage.FromString(message.SerializeToString()) == message


def answer(body, status=b"200 OK", more=b""):
    head = b"HTTP/1.1 " + status + b"\r\n" + more + b"content-length: %d\r\n\r\n" % len(body)
    return head + body


def rows(count, word="x"):
    value = "".join("<value>%s %d</value>" % (word, number) for number in range(count))
    array = "<array><data>%s</data></array>" % value
    return ("<methodResponse><params><param><value>%s</value></param></params></methodResponse>" % array).encode()


def test_a_long_answer_is_taken_apart_when_it_is_another_one(monkeypatch):
    parsed = []
    real = exchange._values
    monkeypatch.setattr(exchange, "_values", lambda data: parsed.append(1) or real(data))
    known, body = exchange.Remembered(), rows(200)
    first = known.values(answer(body, more=b"date: now\r\n"))
    assert known.values(answer(body, more=b"date: later\r\n")) is first and len(parsed) == 1
    assert known.values(answer(rows(200, "y")))[0][0] == "y 0" and len(parsed) == 2
    with pytest.raises(exchange.XapiError):
        known.values(answer(body, b"500 Internal Error"))
    with pytest.raises(exchange.XapiError):
        known.values(answer(body)[:-1])
    longest = rows(exchange.LONGEST_REMEMBERED // 16)
    parsed.clear()
    assert known.values(answer(longest)) == known.values(answer(longest)) and len(parsed) == 2
    for number in range(50):
        known.values(answer(rows(200, str(number))))
    assert len(known._known) == exchange.MOST_REMEMBERED
