"""Evidence capsules on the host: when one is kept, what is in it, and that it is never in the way of anything."""

import gzip
import io
import json
import os
import tarfile
import threading
import time

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.config import ConfigError, load
from poolwarden_agent.core import suspicion
from poolwarden_agent.core.capsule import BIGGEST, MOST, Capsule, giving_way
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.suspicion import AFTER_MS, GAP_MS, Reason, Signs, Suspicion
from poolwarden_agent.dom0.evidence import capsule_file, folder, kernel_ring, logs, processes
from poolwarden_agent.dom0.evidence.folder import DISK, RUN, CapsuleFolder
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import runner as runner_module
from poolwarden_agent.process.pipe import FROM_COLLECTOR, UP, numbered
from poolwarden_agent.process.runner import Runner

from .fake_port import FakePort
from .test_runner import FakeLink, collector
from .tree import Tree, until

SECRETS = ("hunter2", "OpaqueRef:11111111-aaaa-bbbb-cccc-222222222222", "c2VjcmV0a2V5bGluZQ")
WELL = Signs(Process(500, 1), "answers", False, False, "10.0.0.1")
WHY = Reason("order", "the collector orders promote")


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def kept(tree, monkeypatch):
    """A folder on a host with room."""
    room(monkeypatch)
    tree.memory(MemTotal=8000000, MemAvailable=4000000)
    return CapsuleFolder(str(tree.root), "boot-1", lambda _: None)


def room(monkeypatch, run=(1 << 40, 1 << 40), disk=(1 << 40, 1 << 40)):
    monkeypatch.setattr(folder, "_room", lambda path: disk if path.endswith(DISK) else run)


def stamped(seconds_ago, text):
    return time.strftime("%b %d %H:%M:%S h1 ", time.localtime(time.time() - seconds_ago)) + text


def members(data):
    """Name -> text of each."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            assert member.isreg() and member.mode == 0o600 and member.name.endswith(".gz")
            found[member.name[:-3]] = gzip.decompress(tar.extractfile(member).read()).decode("utf-8")
    return found


def whole(kept, capsule):
    data = b""
    while len(data) < capsule.size:
        data += kept.read(capsule.id, len(data), 1 << 20)
    return data


# ------------------------------------------------------------------------------------------ when


def test_the_first_sign_counts_and_what_follows_is_told_with_the_second_capsule():
    watch = Suspicion()
    assert watch.look(WELL, 0) is None
    silent = WELL._replace(orphaned=True)
    assert watch.look(silent, 2000).word == suspicion.MASTER_SILENT
    assert watch.look(silent, 4000) is None
    hung = silent._replace(word="hung")
    assert watch.look(hung, 6000) is None
    after = watch.look(hung, 2000 + AFTER_MS)
    assert after.word == suspicion.AFTERWARDS and "10.0.0.1" in after.text and "xapi is hung" in after.text
    assert watch.look(hung, 4000 + AFTER_MS) is None


def test_what_follows_is_named_once_and_only_so_much_of_it():
    watch = Suspicion()
    watch.told(WHY, 0)
    for number in range(9):
        assert watch.told(Reason("order", "sign %d" % (number // 2)), 1000) is None
        assert watch.told(Reason("order", "more %d" % number), 1000) is None
    text = watch.look(WELL, AFTER_MS).text
    assert text.count("sign 0") == 1 and len(text.split(";")) == 1 + suspicion.MOST_NAMED
    assert watch.look(WELL, AFTER_MS + GAP_MS) is None


@pytest.mark.parametrize(
    "before, after, word",
    [
        (WELL, WELL._replace(process=NO_PROCESS, word="down"), suspicion.XAPI_ENDED),
        (WELL, WELL._replace(process=Process(501, 9)), suspicion.XAPI_ENDED),
        (WELL, WELL._replace(word="wedged"), suspicion.XAPI_HANGS),
        (WELL, WELL._replace(word="emergency"), suspicion.XAPI_HANGS),
        (WELL, WELL._replace(word="slow"), None),
        (WELL._replace(word="slow"), WELL._replace(word="hung"), suspicion.XAPI_HANGS),
        (WELL._replace(word="starting"), WELL._replace(word="emergency"), None),
        (WELL._replace(word="unknown"), WELL._replace(word="hung"), None),
        (WELL._replace(process=NO_PROCESS), WELL, None),
        (WELL, WELL._replace(process=NO_PROCESS, held=True), None),
        (WELL._replace(orphaned=True), WELL._replace(orphaned=True), None),
    ],
)
def test_a_sign_is_a_change(before, after, word):
    watch = Suspicion()
    assert watch.look(before, 0) is None, "as it was when the agent began"
    found = watch.look(after, 1000)
    assert (found.word if found else None) == word


def test_whatever_flaps_is_kept_ever_more_seldom():
    watch, begun = Suspicion(), []
    for now in range(0, 24 * 3600000, 60000):
        if watch.told(WHY, now) is not None:
            begun.append(now)
    assert begun[1] - begun[0] >= GAP_MS and len(begun) <= 12
    assert begun[-1] - begun[-2] >= suspicion.LONGEST_GAP_MS
    later = begun[-1] + suspicion.DAY_MS
    assert watch.told(WHY, later) is not None and watch.told(WHY, later + GAP_MS) is not None, "as at first"


def test_an_agent_that_is_restarted_again_and_again_keeps_no_capsule_each_time():
    watch = Suspicion()
    watch.begun(50000)
    assert watch.told(WHY, 50000 + GAP_MS - 1) is None
    assert watch.told(WHY, 50000 + GAP_MS) == WHY


def capsule(number, taken=False, size=BIGGEST):
    return Capsule("%032x" % number, "order", "", "b", number, number, size, "0" * 64, taken)


def test_what_a_collector_has_goes_first_then_what_is_neither_first_nor_newest():
    full = [capsule(number) for number in range(MOST)]
    assert [gone.mono_ms for gone in giving_way(full)] == [1]
    assert [gone.mono_ms for gone in giving_way(full[:2] + [capsule(2, True), capsule(3)])] == [2]
    assert giving_way(full[: MOST - 1]) == []
    assert [gone.mono_ms for gone in giving_way([capsule(0)] * 1)] == []


# ------------------------------------------------------------------------------------------ what


def test_a_capsule_holds_the_last_minutes_of_logs_processes_and_facts_without_secrets(tree, kept):
    tree.put("var/log/xensource.log", "\n".join([
        stamped(7200, "xapi: old and far away"),
        *[stamped(7000, "xapi: filler %d" % n) for n in range(logs.BEFORE)],
        stamped(60, "xapi: [error||0 |x|y] session=%s password=hunter2" % SECRETS[1]),
        "  a second line of it",
        "-----BEGIN PRIVATE KEY-----",
        SECRETS[2],
        "-----END PRIVATE KEY-----",
        stamped(1, "xapi: the end " + "xxx " * 75000),
    ]) + "\n")  # fmt: skip
    tree.put("var/log/SMlog", stamped(5, "SM: [77] lvchange fails") + "\n")
    tree.put("proc/77/stat", "77 (python2 SM) D 1" + " 1" * 48)
    tree.put("proc/77/cmdline", "never\0read\0")
    tree.put("proc/78/stat", "78 (fence) S 1" + " 2" * 48)
    tree.put("proc/78/cmdline", "fence_ipmilan\0--password=hunter2\0-a\0host\0")
    assert kept.keep(WHY, "pool_conf: MASTER", 1000, int(time.time() * 1000)) == ""
    [made] = kept.held
    data = whole(kept, made)
    assert len(data) == made.size <= BIGGEST
    found = members(data)
    log = found["xensource.log"]
    assert "the end xxx" in log and "a second line of it" in log and "old and far away" not in log
    assert max(map(len, log.split("\n"))) <= 2000
    assert "lvchange fails" in found["SMlog"] and "pool_conf: MASTER" in found["facts.txt"]
    assert "[python2 SM]" in found["processes.txt"] and "never" not in found["processes.txt"]
    assert "fence_ipmilan --password=..." in found["processes.txt"]
    assert "MemTotal" in found["meminfo.txt"] and "the collector orders promote" in found["about.txt"]
    everything = "\n".join(found.values())
    assert not [secret for secret in SECRETS if secret in everything]


def test_a_log_that_was_rotated_goes_on_in_the_one_before(tree):
    log = tree.root / "var/log/xensource.log"
    (tree.root / "var/log/xensource.log.1").write_text("older\n" * 3)
    log.write_text("newer\n")
    assert list(logs.lines(str(log), 1000, None)) == ["older"] * 3 + ["newer"]
    assert list(logs.lines(str(log), 16, None)) == ["older", "newer"], "of the older one the end, from a line's begin"


def test_a_log_that_is_rotated_while_it_is_read_is_read_once(tree, monkeypatch):
    log = tree.root / "var/log/xensource.log"
    log.write_text("one\ntwo\n")
    really = logs.plain_files.to_read

    def rotate(path):
        descriptor = really(path)
        if path == str(log):
            os.rename(path, path + ".1")
            log.write_text("three\n")
        return descriptor

    monkeypatch.setattr(logs.plain_files, "to_read", rotate)
    assert list(logs.lines(str(log), 1000, None)) == ["one", "two"]


def test_a_log_that_is_cut_short_while_it_is_read_ends_there(tree):
    log = tree.root / "var/log/xensource.log"
    log.write_text("a line\n" * 30000)
    found = logs.lines(str(log), 1 << 20, None)
    assert next(found) == "a line"
    os.truncate(str(log), 70000)
    assert 9000 < len(list(found)) < 20000


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00\n", b"x" * 5000000, b"\n" * 100000, b" \n" * 3000])
def test_whatever_is_in_a_log_is_survived(tree, content):
    log = tree.root / "var/log/xensource.log"
    log.write_bytes(content)
    assert all(len(line) <= 2000 for line in logs.lines(str(log), 4 << 20, 100))


def test_a_log_without_times_is_kept_as_it_is(tree):
    log = tree.root / "var/log/xha.log"
    log.write_text("".join("[debug] %d\n" % n for n in range(1000)))
    assert len(list(logs.lines(str(log), 1 << 20, 100))) == 1000


def test_a_clock_that_was_ahead_hides_no_line_and_new_year_does_not_either(tree):
    log = tree.root / "var/log/xensource.log"
    lines = ["%s h1 xapi: %s" % (stamp, n) for n, stamp in enumerate(["Dec 31 23:59:50"] * 3 + ["Jan  1 00:00:05"])]
    log.write_text("\n".join(lines))
    assert len(list(logs.lines(str(log), 1 << 20, 86400 + 10))) == 4
    log.write_text("Jan  5 00:00:00 h1 xapi: ahead\n" + "Jan  1 00:00:00 h1 xapi: now\n")
    assert len(list(logs.lines(str(log), 1 << 20, 86400 + 10))) == 2


def test_a_member_that_does_not_fit_keeps_its_end():
    file = io.BytesIO()
    writer = capsule_file.Writer(file, 1 << 20, 0, lambda: True)
    noise = [os.urandom(50).hex() for _ in range(4000)]
    writer.add("log", lambda most: iter(noise[-(most // 100) :]), 400000, 60000)
    writer.add("more", lambda _: iter(["after it"]), 100, 1000)
    writer.end()
    found = members(file.getvalue())
    assert noise[-1] in found["log"] and noise[0] not in found["log"] and found["more"] == "after it\n"
    assert "only the last" in writer.remarks[0]
    writer.add("none", lambda _: iter(noise), 100, 1000)
    assert "nothing of it fits" in writer.remarks[1]


def test_the_kernels_ring(tree):
    assert "cannot be read" in next(kernel_ring.records(str(tree.root)))
    tree.put("dev/kmsg", "a plain file is none")
    assert list(kernel_ring.records(str(tree.root))) == []
    assert kernel_ring.record("6,1,2500000,-;nfs: server not responding\n SUBSYSTEM=x\n") == (
        "[2.500000] nfs: server not responding"
    )


def test_processes_that_end_or_are_none_are_survived(tree):
    tree.put("proc/5/stat", "no stat at all")
    tree.put("proc/6/comm", "gone")
    assert len(list(processes.listed(str(tree.root)))) >= 2
    assert "cannot be read" in list(processes.listed(str(tree.root / "nowhere")))[1]


# ------------------------------------------------------------------------------------------ never in the way


def test_where_run_or_memory_is_short_none_is_kept(tree, kept, monkeypatch):
    room(monkeypatch, run=(folder.LEAST_RUN + BIGGEST - 1, 1 << 20))
    assert "/run has" in kept.keep(WHY, "", 1, 1)
    room(monkeypatch)
    tree.memory(MemTotal=4000, MemAvailable=1)
    assert "of memory left" in kept.keep(WHY, "", 1, 1)
    assert kept.held == () and not list((tree.root / RUN).iterdir())


def test_only_where_the_disk_has_plenty_of_room_a_copy_lies_there(tree, kept, monkeypatch):
    room(monkeypatch, disk=(1 << 30, 1 << 40))
    assert kept.keep(WHY, "", 1, 1) == ""
    assert not list((tree.root / DISK).iterdir())
    room(monkeypatch)
    assert kept.keep(WHY, "", 2, 2) == ""
    [first, second] = kept.held
    assert {path.name for path in (tree.root / DISK).iterdir()} == {second.id + ".tar", second.id + ".json"}
    assert (tree.root / DISK).stat().st_mode & 0o777 == 0o700 == (tree.root / RUN).stat().st_mode & 0o777
    assert {path.stat().st_mode & 0o777 for path in (tree.root / RUN).iterdir()} == {0o600}
    for path in (tree.root / RUN).iterdir():  # a reboot
        path.unlink()
    again = CapsuleFolder(str(tree.root), "boot-2", lambda _: None)
    again.load()
    assert [(each.id, each.boot) for each in again.held] == [(second.id, "boot-1")]
    assert len(whole(again, second)) == second.size
    assert first.id not in [each.id for each in again.held]


def test_no_more_than_so_many_are_held_and_what_was_taken_goes_first(tree, kept):
    for number in range(1, MOST + 1):
        assert kept.keep(WHY, "", number, number) == ""
    second = kept.held[1]
    kept.taken(second.id, "0" * 64)
    assert not kept.held[1].taken, "another digest is another capsule"
    kept.taken(second.id, second.sha256)
    assert kept.held[1].taken
    assert kept.keep(WHY, "", 9, 9) == ""
    assert [each.mono_ms for each in kept.held] == [1, 3, 4, 9]
    assert len(list((tree.root / RUN).iterdir())) == len(list((tree.root / DISK).iterdir())) == 2 * MOST


def test_what_was_not_finished_is_removed_and_what_is_none_is_not_offered(tree, kept):
    kept.keep(WHY, "", 1, 1)
    [good] = kept.held
    stem = "a" * 32
    for name in (stem + ".part", stem + ".json.part", "b" * 32 + ".tar", "c" * 32 + ".json"):
        tree.put("%s/%s" % (RUN, name), "x")
    tree.put("%s/%s.tar" % (RUN, "d" * 32), "x")
    tree.put("%s/%s.json" % (RUN, "d" * 32), json.dumps({"size": 10**12}))
    tree.put("%s/of-somebody-else" % RUN, "x")
    kept.load()
    left = {path.name for path in (tree.root / RUN).iterdir()}
    assert kept.held == (good,) and "of-somebody-else" in left
    assert {name.partition(".")[0] for name in left} == {good.id, "d" * 32, "of-somebody-else"}
    for wrong in ("../../../etc/passwd", "", "A" * 32, "d" * 31):
        with pytest.raises(OSError):
            kept.read(wrong, 0, 10)


def test_a_disk_that_refuses_costs_the_capsule_and_leaves_nothing(tree, kept, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(capsule_file.Writer, "end", full)
    assert "No space left" in kept.keep(WHY, "", 1, 1)
    assert kept.held == () and not list((tree.root / RUN).iterdir())


@pytest.mark.parametrize("place", [RUN, DISK])
def test_nothing_is_written_where_the_directory_is_not_its_own(tree, kept, place):
    elsewhere = tree.root / "elsewhere"
    elsewhere.mkdir()
    (tree.root / place).parent.mkdir(parents=True, exist_ok=True)
    (tree.root / place).symlink_to(elsewhere)
    assert "is no directory" in kept.keep(WHY, "", 1, 1)
    assert not list(elsewhere.iterdir())
    assert len(kept.held) == (place == DISK), "what lies in memory stands"


@pytest.mark.slow
def test_it_waits_longer_than_it_works_and_ends_in_time(tree, kept, monkeypatch):
    slept = []
    kept._sleep = slept.append
    tree.put("var/log/xensource.log", (stamped(1, "xapi: " + "word " * 30) + "\n") * 2000)
    kept.keep(WHY, "", 1, 1)
    assert len(slept) > 10 and sum(slept) > 0
    writer = capsule_file.Writer(io.BytesIO(), 1 << 20, 0, lambda: False)
    writer.add("log", lambda _: iter(["x" * 1000] * 100), 100000, 100000)
    assert writer.remarks == ["log: not to its end, this took too long"]
    monkeypatch.setattr(folder, "MAKE_LIMIT_S", -1.0)
    kept.keep(WHY, "", 2, 2)
    assert "took too long" in members(whole(kept, kept.held[1]))["about.txt"]


# ------------------------------------------------------------------------------------------ the runner


class Port(FakePort):
    """A host that keeps capsules in a tree."""

    def __init__(self, kept):
        super().__init__()
        self.kept, self.over = kept, True

    def capsules(self):
        return self.kept

    def hands_over(self):
        return self.over

    def wall_ms(self):
        return 1900000000000 + self.now


@pytest.fixture
def made(kept, monkeypatch):
    """A runner whose host has seen its xapi once."""
    monkeypatch.setattr(runner_module, "LONGEST_SLEEP_S", 0.01)
    port, link = Port(kept), FakeLink()
    runner = Runner(HostSide(port, "3.6.8", background=True), link)
    runner._evidence.start()
    until(lambda: runner._side.evidence._loaded)
    runner._look_at_xapi()
    runner._look_and_tidy()
    return runner, link, port


def sent(link, kind):
    split = [pb.AgentMessage.FromString(payload[4:]) for verb, payload in link.sent if verb == b"M"]
    return [getattr(message, kind) for message in split if message.WhichOneof("body") == kind]


def stream(runner):
    """A stream is up, and its collector welcomes this host."""
    runner._frame(UP, numbered(1))
    runner._frame(FROM_COLLECTOR, collector(welcome=pb.Welcome(epoch=1)))


def answer(runner, link, asked):
    """The piece that a request is answered with."""
    count = len(sent(link, "capsule_piece"))
    runner._frame(FROM_COLLECTOR, collector(capsule_request=asked))
    until(lambda: runner._turn() or len(sent(link, "capsule_piece")) > count)
    return sent(link, "capsule_piece")[-1]


def test_what_is_suspected_is_kept_offered_and_handed_over_in_pieces(made, kept):
    runner, link, port = made
    port.xapi = Process(600, 99)
    runner._look_at_xapi()
    runner._look_and_tidy()
    until(lambda: kept.held)
    [capsule] = kept.held
    assert capsule.trigger == suspicion.XAPI_ENDED
    stream(runner)
    port.now += 2000
    runner._turn()
    [offer] = sent(link, "capsule_offer")
    [told] = offer.capsules
    assert (told.id, told.total_bytes, told.sha256) == (capsule.id, capsule.size, capsule.sha256)
    assert told.age_ms == port.now - capsule.mono_ms
    port.now += 2000
    runner._turn()
    assert len(sent(link, "capsule_offer")) == 1, "offered once, until there is another or half an hour is over"
    data = b""
    while len(data) < capsule.size:
        piece = answer(runner, link, pb.CapsuleRequest(id=told.id, offset=len(data), limit=1000))
        assert (piece.id, piece.offset) == (told.id, len(data))
        data += piece.chunk
    assert "facts.txt" in members(data) and "running" in members(data)["facts.txt"]
    runner._frame(FROM_COLLECTOR, collector(capsule_taken=pb.CapsuleTaken(id=told.id, sha256=told.sha256)))
    until(lambda: kept.held[0].taken)
    port.now += 3600000
    runner._turn()
    assert len(sent(link, "capsule_offer")) == 1


def test_who_has_not_welcomed_this_host_gets_no_log_of_it_and_takes_none_for_taken(made, kept):
    runner, link, port = made
    runner._evidence.ordered("promote")
    until(lambda: kept.held)
    [capsule] = kept.held
    stream(runner)  # of another collector than the one that follows
    runner._frame(UP, numbered(2))
    port.now += 2000
    runner._turn()
    asked = pb.CapsuleRequest(id=capsule.id, limit=1000)
    for body in ({"capsule_request": asked}, {"capsule_taken": pb.CapsuleTaken(id=capsule.id, sha256=capsule.sha256)}):
        runner._frame(FROM_COLLECTOR, collector(**body))
    runner._turn()
    assert not sent(link, "capsule_offer") and not sent(link, "capsule_piece") and not kept.held[0].taken
    runner._frame(FROM_COLLECTOR, collector(welcome=pb.Welcome(epoch=1)))
    port.now += 2000
    runner._turn()
    assert len(sent(link, "capsule_offer")) == 1
    assert answer(runner, link, asked).chunk


def test_an_order_or_a_collectors_word_has_one_kept_and_no_second(made, kept):
    runner, _, port = made
    stream(runner)
    for _ in range(50):
        runner._frame(FROM_COLLECTOR, collector(keep_evidence=pb.KeepEvidence(text="MasterSilent")))
    runner._evidence.ordered("promote")
    until(lambda: kept.held)
    [capsule] = kept.held
    assert capsule.text == "the collector says: MasterSilent"
    runner._evidence.ordered("probe_now")
    port.now += GAP_MS * 3
    runner._evidence.ordered("repoint")
    runner._evidence.ordered("toolstack_fence")
    until(lambda: len(kept.held) == 2)
    assert kept.held[1].text == "the collector orders toolstack fence"


def test_an_order_that_comes_has_one_kept(made, kept):
    runner, _, _ = made
    stream(runner)
    message = pb.CollectorMessage()
    message.order.order_id = "o-1"
    message.order.promote.SetInParent()
    runner._frame(FROM_COLLECTOR, message.SerializeToString())
    until(lambda: kept.held)
    assert kept.held[0].text == "the collector orders promote"


def test_a_host_that_hands_nothing_over_offers_nothing_and_answers_no_request(made, kept):
    runner, link, port = made
    port.over = False
    runner._evidence.ordered("promote")
    until(lambda: kept.held)
    stream(runner)
    port.now += 2000
    runner._turn()
    piece = answer(runner, link, pb.CapsuleRequest(id=kept.held[0].id, offset=0, limit=100))
    assert piece.chunk == b"" and "hands no capsules over" in piece.text and not sent(link, "capsule_offer")


def test_a_request_for_what_is_not_there_is_answered_with_why(made):
    runner, link, _ = made
    stream(runner)
    for asked in ({"id": "x" * 500}, {"id": "0" * 32}, {"id": "0" * 32, "offset": 2**63}):
        piece = answer(runner, link, pb.CapsuleRequest(limit=10, **asked))
        assert piece.text and not piece.chunk


def test_the_loop_goes_on_while_a_capsule_is_made(made, kept, tree):
    tree.put("var/log/xensource.log", (stamped(1, "xapi: " + "word " * 30) + "\n") * 400)
    runner, link, port = made
    goes_on = threading.Event()
    kept._sleep = lambda _: goes_on.wait(20)
    runner._evidence.ordered("promote")
    stream(runner)
    for _ in range(3):
        port.now += 2000
        runner._turn()
    assert len(sent(link, "report")) == 4 and not kept.held
    goes_on.set()
    until(lambda: kept.held)


def test_a_host_that_keeps_none_does_nothing_of_it(monkeypatch):
    monkeypatch.setattr(runner_module, "LONGEST_SLEEP_S", 0.01)
    port, link = FakePort(), FakeLink()
    runner = Runner(HostSide(port, "3.6.8", background=True), link)
    runner._evidence.start()
    runner._look_at_xapi()
    runner._look_and_tidy()
    port.xapi = Process(600, 99)
    runner._look_at_xapi()
    runner._look_and_tidy()
    stream(runner)
    runner._frame(FROM_COLLECTOR, collector(keep_evidence=pb.KeepEvidence(text="x")))
    port.now += 2000
    runner._turn()
    assert not sent(link, "capsule_offer")


@pytest.mark.parametrize("word, good", [("", True), ("hand-over", True), ("keep", True), ("off", True), ("no", False)])
def test_the_configuration_says_what_is_done_with_them(tree, word, good):
    text = "[agent]\ncollector = c:1\n" + ("evidence = %s\n" % word if word else "")
    tree.put("etc/poolwarden/agent.conf", text)
    path = str(tree.root / "etc/poolwarden/agent.conf")
    if good:
        assert load(path, str(tree.root)).evidence == (word or "hand-over")
    else:
        with pytest.raises(ConfigError, match="expected hand-over, keep or off"):
            load(path, str(tree.root))
