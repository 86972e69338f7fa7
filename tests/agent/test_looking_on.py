"""What happens on a host, told by looks two seconds apart: what is learned of it, and what is not."""

import pytest

from poolwarden_agent.core import findings, gate_state, host_now, orders, probe_rules
from poolwarden_agent.core.findings import FAILS, HOLDS, holds
from poolwarden_agent.core.host_now import Process
from poolwarden_agent.dom0.system import learned
from poolwarden_agent.host import assumptions
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host.looking_on.happenings import Happenings
from poolwarden_agent.host.looking_on.instant import Now
from poolwarden_agent.host_port import PoolHost, PoolView, Toolstack

from .fake_port import FakePort

OLD = Process(500, 1000)
STEP = 2000


def calm(**values):
    """A healthy member, ten minutes after its boot."""
    known = Now(
        ms=600000, conf=host_now.MEMBER, master="10.0.0.1", process=OLD, tcp=probe_rules.ANSWERS,
        socket=probe_rules.ANSWERS, flag=False, code="", cookie=True, running="", running_master="", serves=False,
        orphaned=False, orphaned_since_ms=0, source="var/lib/xcp/state.db", generation=42, domains=("a", "b"),
        held=False, toolstack=None, placed=False, started={}, results={}, view=None, own=("h1", "10.0.0.5"),
        connected=False, gate="", log=(1, 0), allowed=lambda: False, settled=lambda: True, complete=lambda: True,
        restore=lambda: None, exit=lambda log: ("", ""), linked=lambda address: None,
    )  # fmt: skip
    return known._replace(**values)


class Story(object):
    """Looks one after the other; ``seen``: the last finding of each id."""

    def __init__(self, **values):
        self.now = calm(**values)
        self.happenings = Happenings()
        self.happenings.look(self.now)
        self.seen = {}

    def look(self, after_ms=STEP, **values):
        self.now = self.now._replace(ms=self.now.ms + after_ms, **values)
        self.seen.update(self.happenings.look(self.now))
        return self

    def wait(self, span_ms, **values):
        for _ in range(span_ms // STEP):
            self.look(**values)
        return self

    def new_process(self, **values):
        return self.look(process=Process(self.now.process.pid + 1, (self.now.ms + STEP) * 100 // 1000), **values)

    def finding(self, name):
        return self.seen[name].finding if name in self.seen else None


def marks(kind, number="o1", outcome=orders.DONE):
    """Its mark and its result."""
    return (
        {kind: gate_state.Started(number, OLD)},
        {kind: gate_state.Result(number, kind, outcome, "", "")},
    )


def obeyed(story, kind, outcome=orders.DONE, **values):
    started, results = marks(kind, outcome=outcome)
    return story.look(started=started).look(results=results, **values)


def test_a_promotion_as_it_is_believed_to_go():
    story = obeyed(Story(), "promote", conf=host_now.MASTER, master="")
    assert story.finding("promote-pool-conf") == HOLDS
    story.wait(8000).look(process=host_now.NO_PROCESS, tcp=probe_rules.DOWN)
    story.new_process(tcp=probe_rules.STARTING, exit=lambda log: ("exited", "123"), complete=lambda: False)
    assert story.finding("promote-exit-123") == HOLDS and story.finding("exit-status-123") == HOLDS
    assert "after 12 s" in story.seen["promote-exit-123"].evidence
    hosts = tuple(PoolHost("h%d" % n, "h%d" % n, "10.0.0.%d" % (n + 4), False, True) for n in range(3))
    view = PoolView("p", "pool", "h1", hosts, False, False)
    story.look(tcp=probe_rules.ANSWERS, generation=43).look(view=view, serves=True)
    assert story.finding("promote-no-old-flush") == HOLDS and story.finding("new-master-disables-hosts") == HOLDS
    assert story.finding("role-settles") == HOLDS and story.finding("new-master-serves") is None
    story.wait(20000).look(complete=lambda: True).wait(60000)
    assert story.finding("new-master-serves") == HOLDS and story.finding("restart-keeps-domains") == HOLDS
    assert FAILS not in {seen.finding for seen in story.seen.values()}


def test_a_promotion_after_which_xapi_goes_on_as_before():
    story = obeyed(Story(), "promote", conf=host_now.MASTER, master="").wait(170000)
    assert story.finding("promote-exit-123") is None
    story.wait(20000)
    assert story.finding("promote-exit-123") == FAILS


@pytest.mark.parametrize("gate, finding", [("", FAILS), ("open", FAILS), ("asking", None), ("shut", None)])
def test_a_promotion_after_which_no_xapi_comes(gate, finding):
    story = obeyed(Story(gate=gate), "promote", conf=host_now.MASTER, master="")
    story.wait(190000, process=host_now.NO_PROCESS, tcp=probe_rules.DOWN)
    assert story.finding("promote-exit-123") == finding


def test_another_order_or_role_in_between_proves_nothing():
    for act in (
        lambda story: story.look(started=dict(story.now.started, **marks("repoint", "o2")[0])),
        lambda story: story.look(held=True),
        lambda story: story.look(conf=host_now.MEMBER, master="10.0.0.7"),
    ):
        story = obeyed(Story(), "promote", conf=host_now.MASTER, master="")
        act(story)
        story.wait(200000)
        assert story.finding("promote-exit-123") is None


@pytest.mark.parametrize("outcome", [orders.FAILED, orders.UNKNOWN, orders.REFUSED])
def test_what_was_not_done_is_not_judged(outcome):
    story = obeyed(Story(), "promote", outcome, conf=host_now.MASTER, master="").wait(200000)
    assert "promote-exit-123" not in story.seen and "promote-pool-conf" not in story.seen


def test_one_that_had_the_role_starts_nothing_anew():
    story = obeyed(Story(conf=host_now.MASTER, master=""), "promote").wait(200000)
    assert "promote-exit-123" not in story.seen
    story = obeyed(Story(), "repoint").wait(200000)
    assert "repoint-restarts" not in story.seen


def test_an_older_database_on_the_way_to_master():
    story = obeyed(Story(), "promote", conf=host_now.MASTER, master="").look(generation=41)
    assert story.finding("promote-no-old-flush") == FAILS
    story = obeyed(Story(), "promote", conf=host_now.MASTER, master="").look(generation=41, source="gen_metadata.db")
    assert "promote-no-old-flush" not in story.seen


def test_an_exit_with_another_status():
    story = obeyed(Story(), "repoint", master="10.0.0.2")
    story.new_process(exit=lambda log: ("exited", "2"))
    assert story.finding("exit-status-123") == FAILS and story.finding("repoint-restarts") == HOLDS
    assert story.finding("repoint-pool-conf") == HOLDS


def test_a_role_that_does_not_settle():
    story = obeyed(Story(), "promote", conf=host_now.MASTER, master="").new_process(settled=lambda: False)
    story.wait(50000)
    assert "role-settles" not in story.seen
    story.wait(20000)
    assert story.finding("role-settles") == FAILS


def test_a_restart_and_what_runs_on():
    story = obeyed(Story(), "restart_xapi", process=Process(501, 60100), tcp=probe_rules.STARTING)
    story.look(tcp=probe_rules.ANSWERS).wait(62000)
    assert story.finding("restart-helps") == HOLDS and story.finding("restart-keeps-domains") == HOLDS
    story = obeyed(Story(), "restart_xapi", process=Process(501, 60100)).wait(62000, domains=())
    assert "restart-keeps-domains" not in story.seen  # they may have been shut down from inside


def test_a_hold_and_its_release():
    story = Story(conf=host_now.MASTER).look(held=True).wait(10000, generation=44)
    stopped = Toolstack(True, True, "")
    story.look(toolstack=stopped, process=host_now.NO_PROCESS, tcp=probe_rules.DOWN).wait(70000)
    for name in ("hold-stops", "stop-time", "stop-flushes", "hold-keeps-domains"):
        assert story.finding(name) == HOLDS, name
    assert "hold-stays" not in story.seen
    story.look(held=False, toolstack=None)
    assert story.finding("hold-stays") == HOLDS
    story.wait(10000).new_process(tcp=probe_rules.ANSWERS)
    assert story.finding("release-serves") == HOLDS
    assert FAILS not in {seen.finding for seen in story.seen.values()}


def test_a_hold_that_does_not_hold():
    story = Story().look(held=True)
    story.look(toolstack=Toolstack(True, False, "port 443"), process=host_now.NO_PROCESS).wait(70000, domains=())
    assert story.finding("hold-stops") == FAILS and story.finding("hold-keeps-domains") == FAILS
    story.look(toolstack=Toolstack(False, False, "xapi runs")).new_process().wait(12000)
    assert story.finding("hold-stays") == FAILS


def test_one_vm_that_ends_under_a_hold_proves_nothing():
    story = Story(domains=("a",)).look(held=True)
    story.look(toolstack=Toolstack(True, True, ""), process=host_now.NO_PROCESS).wait(70000, domains=())
    assert "hold-keeps-domains" not in story.seen


def test_a_stop_that_takes_too_long():
    story = Story().look(held=True).wait(190000)
    story.look(toolstack=Toolstack(True, True, ""), process=host_now.NO_PROCESS)
    assert story.finding("stop-time") == FAILS


@pytest.mark.parametrize("left, finding", [(None, HOLDS), (44, FAILS)])
def test_a_placed_database_is_used_once(left, finding):
    story = Story().look(placed=True, restore=lambda: 44)
    story = obeyed(story, "promote", conf=host_now.MASTER, master="")
    story.look(process=host_now.NO_PROCESS).new_process(restore=lambda: left, placed=left is not None)
    story.look(serves=True).wait(70000)
    assert story.finding("restore-db-once") == finding


def test_a_placed_database_that_was_removed_by_an_order_proves_nothing():
    story = Story().look(placed=True, restore=lambda: 44).look(placed=False, restore=lambda: None)
    story.look(conf=host_now.MASTER, master="").new_process(serves=True).wait(70000)
    assert "restore-db-once" not in story.seen


def test_an_orphan():
    story = Story().look(orphaned=True, orphaned_since_ms=600000, linked=lambda address: True).wait(100000)
    assert story.finding("orphan-flag-false") == HOLDS and story.finding("orphan-answers") == HOLDS
    story.wait(20000).look(linked=lambda address: False)
    assert story.finding("orphan-notices-late") == HOLDS
    assert "connection ended after 12" in story.seen["orphan-notices-late"].evidence


def test_an_orphan_in_emergency_or_one_whose_connections_stay():
    story = Story().look(orphaned=True, orphaned_since_ms=600000, flag=True, code="HOST_STILL_BOOTING")
    story.wait(70000)
    assert story.finding("orphan-flag-false") == FAILS
    story = Story().look(orphaned=True, orphaned_since_ms=600000, linked=lambda address: True).wait(190000)
    story.look(linked=lambda address: False)
    assert "orphan-notices-late" not in story.seen


def test_a_silent_orphan_is_no_contrary():
    story = Story().look(orphaned=True, orphaned_since_ms=600000, tcp=probe_rules.SILENT, socket=probe_rules.SILENT)
    story.wait(300000, flag=None)
    assert {name for name in story.seen if name.startswith("orphan")} == set()


@pytest.mark.parametrize("values, words", [({}, "blocked"), ({"flag": True, "code": "HOST_BROKEN"}, "HOST_BROKEN")])
def test_an_orphan_that_is_started(values, words):
    story = Story().look(orphaned=True, orphaned_since_ms=600000)
    story.new_process(cookie=False, **values).wait(130000)
    assert words in story.seen["orphan-started"].evidence


def test_a_crash_is_told_from_a_restart_by_hand():
    story = Story().look(process=host_now.NO_PROCESS).new_process(exit=lambda log: ("killed", "9/KILL"))
    assert story.finding("crash-leaves") == HOLDS
    story = Story().look(process=host_now.NO_PROCESS).new_process(exit=lambda log: ("exited", "0"))
    assert "crash-leaves" not in story.seen


def test_a_switchover():
    started, _ = marks("designate_master")
    story = Story(conf=host_now.MASTER, master="").look(started=started).wait(20000)
    story.look(conf=host_now.MEMBER, master="10.0.0.2").wait(8000).new_process()
    assert story.finding("designate-conf-first") == HOLDS and story.finding("designate-serves") == HOLDS
    story = Story(conf=host_now.MASTER, master="").look(started=started).look(conf=host_now.BROKEN)
    assert story.finding("designate-serves") == FAILS


def test_the_gate_at_boot():
    story = Story(process=host_now.NO_PROCESS, gate="asking", tcp=probe_rules.DOWN).wait(30000)
    story.new_process(gate="open")
    assert story.finding("gate-waits") == HOLDS
    story = Story(process=host_now.NO_PROCESS, gate="shut", tcp=probe_rules.DOWN).wait(30000).new_process()
    story.wait(12000)
    assert story.finding("gate-waits") == FAILS


def test_what_stands_there():
    own = PoolHost("h1", "h1", "10.0.0.5", True, True, guidances=("reboot_host",))
    view = PoolView("p", "pool", "h1", (own,), False, True, ("Backup",))
    story = Story().look(view=view, serves=True, connected=True)
    assert {seen.finding for seen in story.seen.values()} == {HOLDS} and len(story.seen) == 6
    story.look(view=view._replace(hosts=(own._replace(address="10.0.0.6"),)))
    assert story.finding("management-address") == FAILS
    story = Story().look(running=host_now.MEMBER, running_master="10.0.0.1").look(generation=43)
    story.wait(600000).look(generation=44)
    assert story.finding("member-names-master") == HOLDS and story.finding("copies-renewed") == HOLDS


@pytest.mark.parametrize("kind, name", [("sync_database", "sync-database"), ("start_vm", "start-vm")])
def test_calls_on_a_master(kind, name):
    assert obeyed(Story(conf=host_now.MASTER), kind).finding(name) == HOLDS
    assert obeyed(Story(conf=host_now.MASTER), kind, orders.UNKNOWN).finding(name) is None


# ---------------------------------------------------------------------------------------------- kept and told


class Port(FakePort):
    """A port that looks at assumptions and keeps what was learned."""

    def __init__(self):
        super(Port, self).__init__()
        self.kept, self.found, self.full, self.looks = b"", {"kernel": holds("4.19.0")}, False, 0

    def look_at_assumptions(self, answers, placed, pids):
        self.looks += 1
        return self.found, "XCP-ng 8.3.0, xapi 26.1.3"

    def load_learned(self):
        return self.kept

    def save_learned(self, data):
        if self.full:
            raise OSError(28, "No space left on device")
        self.kept = data


def turns(side, count=1, step=STEP):
    for _ in range(count):
        side.port.now += step
        side.observer.look_at_host()
        side.observer.look_at_xapi(False, 5000)
        side.assumptions.turn(True)


def told(side):
    """The section of a full report: id -> result."""
    report = side.conversation.report(full=True).report
    return {each.id: each for each in report.assumptions.results}


def test_results_are_a_section_of_the_report_sent_when_they_change():
    side = HostSide(Port(), "3.6.8", background=True)
    side.conversation.link_up()
    assert told(side) == {}
    turns(side, 5)
    kernel = told(side)["kernel"]
    assert (kernel.finding, kernel.evidence, kernel.release) == (1, "4.19.0", "XCP-ng 8.3.0, xapi 26.1.3")
    assert kernel.boot_id == "boot-1" and kernel.seen_mono_ms
    assert told(side)["agent-link"].finding == 1
    turns(side, 5)
    assert not side.conversation.report().report.HasField("assumptions")


def test_looks_are_daily_and_sooner_while_one_fails():
    port = Port()
    side = HostSide(port, "3.6.8", background=True)
    turns(side, 10)
    assert port.looks == 1
    turns(side, 1, assumptions.SECOND_MS)
    turns(side, 10)
    assert port.looks == 2
    port.found = {"kernel": findings.fails("2.6")}
    turns(side, 1, assumptions.DAILY_MS)
    turns(side, 1, assumptions.AGAIN_MS)
    assert port.looks == 4 and told(side)["kernel"].finding == 2
    port.found = {"kernel": holds("4.19.0")}
    turns(side, 1, assumptions.AGAIN_MS)
    assert told(side)["kernel"].finding == 1


def test_what_was_learned_outlives_the_agent_and_a_full_disk():
    port = Port()
    port.full = True
    side = HostSide(port, "3.6.8", background=True)
    turns(side, 5)
    assert told(side)["agent-link"].finding == 1 and port.kept == b""
    port.full = False
    turns(side, 1, assumptions.STORE_MS)
    again = Port()
    again.kept = port.kept
    after = HostSide(again, "3.6.8", background=True)
    after.assumptions.turn(False)
    assert told(after)["agent-link"].finding == 1
    torn = Port()
    torn.kept = port.kept[:-5]
    after = HostSide(torn, "3.6.8", background=True)
    after.assumptions.turn(False)
    assert told(after) == {}


def test_a_failure_of_another_release_restricts_nothing_any_more():
    port = Port()
    side = HostSide(port, "3.6.8", background=True)
    turns(side, 5)
    side.assumptions.put("hold-stays", findings.fails("xapi runs again"))
    assert told(side)["hold-stays"].finding == 2
    turns(side, 1, assumptions.STORE_MS)
    again = Port()
    again.kept = port.kept
    again.look_at_assumptions = lambda *words: ({"kernel": holds("4.19.0")}, "XCP-ng 8.4.0, xapi 27.1.0")
    after = HostSide(again, "3.6.8", background=True)
    turns(after, 5)
    hold = told(after)["hold-stays"]
    assert hold.finding == 0 and hold.evidence == "failed on XCP-ng 8.3.0, xapi 26.1.3: xapi runs again"


def test_a_file_that_cannot_be_written_leaves_the_old_one(short, monkeypatch):
    directory = str(short)
    learned.save(directory, b"one")
    monkeypatch.setattr(learned.os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError):
        learned.save(directory, b"two")
    assert learned.load(directory) == b"one" and [each.name for each in short.iterdir()] == ["assumptions"]


LINES = (
    b"Nov 29 10:00:00 h1 systemd[1]: xapi.service: main process exited, code=exited, status=123/n/a\n",
    b"Nov 29 10:00:00 h1 systemd[1]: xapi.service: Main process exited, code=killed, status=9/KILL\n",
)


def test_the_end_of_stunnel_for_xapi_is_none_of_xapis(tree):
    """Of the unit stunnel@xapi.service: what failed by that would be an assumption about xapi."""
    root, other = str(tree.root), LINES[0].replace(b"xapi.service", b"stunnel@xapi.service").replace(b"123", b"1")
    with open(str(tree.root / "var/log/daemon.log"), "ab") as log:
        log.write(b"x\n")
        log.flush()
        before = learned.log_end(root)
        log.write(other)
        log.flush()
        assert learned.exit_since(root, before) == ("", "")
        log.write(LINES[0] + other)
        log.flush()
    assert learned.exit_since(root, before) == ("exited", "123")


@pytest.mark.parametrize("line, ended", [(LINES[0], ("exited", "123")), (LINES[1], ("killed", "9/KILL"))])
def test_how_xapi_ended_is_what_was_logged_since(tree, line, ended):
    root = str(tree.root)
    assert learned.exit_since(root, learned.log_end(root)) == ("", "")
    with open(str(tree.root / "var/log/daemon.log"), "ab") as log:
        log.write(LINES[0] + b"x" * 300000 + b"\n")
        log.flush()
        before = learned.log_end(root)
        assert learned.exit_since(root, before) == ("", "")
        log.write(line)
        log.flush()
    assert learned.exit_since(root, before) == ended
    assert learned.exit_since(root, (before[0] + 1, 0)) == ("", "")


@pytest.mark.parametrize(
    "address, row", [("10.0.0.1", "0100000A:01BB"), ("fd00::1", "000000FD000000000000000001000000:01BB")]
)
def test_a_connection_is_established_or_not(tree, address, row):
    root, name = str(tree.root), "proc/net/tcp6" if ":" in address else "proc/net/tcp"
    assert learned.linked_to(root, address, 443) is None
    tree.put(name, "  sl  local_address rem_address st\n   0: 0500000A:9C40 %s 01 0\n" % row)
    assert learned.linked_to(root, address, 443) is True
    tree.put(name, "  sl  local_address rem_address st\n   0: 0500000A:9C40 %s 02 0\n" % row)
    assert learned.linked_to(root, address, 443) is False
    assert learned.linked_to(root, "xen1.example.org", 443) is None
