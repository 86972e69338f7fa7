"""`poolwarden-agent verify`: what it prints, its exit status, what its report leaves out; as a process, and called."""

import contextlib
import io
import os
import re
import stat
import subprocess
import sys
import time

import pytest

from poolwarden import assumptions as table
from poolwarden_agent.commands import verify
from poolwarden_agent.core import findings
from poolwarden_agent.core.findings import FAILS, HOLDS, NOT_SEEN, Result, familiar, private
from poolwarden_agent.dom0.assumptions import static

from .dom0_forms import UUID, XCP_NG_83, Dom0
from .tree import HERE


@pytest.fixture
def dom0(short):
    made = Dom0(short / "h")
    made.scene()  # writes what systemctl says
    yield made
    made.close()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """A busy machine's xapi has time to answer; a called command does not wait between its looks."""
    monkeypatch.setattr(verify, "ANSWER_S", 20.0)
    monkeypatch.setattr(static, "AGAIN_S", 0.0)


def run(dom0, *words):
    """The command as a call: (exit status, its output, what it says of errors)."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code = verify.main(["--root", str(dom0.tree.root)] + list(words))
        except SystemExit as ended:
            code = ended.code
    return code, out.getvalue(), errors.getvalue()


def process(dom0, *words):
    path = os.pathsep.join(str(HERE / part) for part in ("agent", "protos"))
    command = [sys.executable, "-m", "poolwarden_agent", "verify", "--root", str(dom0.tree.root)] + list(words)
    done = subprocess.run(
        command, env=dict(os.environ, PYTHONPATH=path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def listing(dom0):
    """Every file below the root with its content's size and time."""
    found = {}
    for folder, _, names in os.walk(str(dom0.tree.root)):
        for name in names:
            about = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (about.st_size, about.st_mtime_ns)
    return found


def test_all_well_is_said_in_seconds_and_changes_nothing(dom0):
    before, began = listing(dom0), time.monotonic()
    code, said, errors = process(dom0)
    assert (code, errors) == (0, "")
    assert time.monotonic() - began < 30
    assert listing(dom0) == before
    assert said.splitlines()[0].startswith("XCP-ng 8.3.0, xapi 26.1.3, agent ")
    assert said.splitlines()[1].startswith("0 fail, ")
    assert all(len(line) <= 79 for line in said.splitlines())
    assert all(each.id in said for each in table.TABLE)


def test_what_fails_comes_first_and_is_the_exit_status(dom0):
    dom0.put("etc/xensource/pool.conf", "Master")
    dom0.gone("usr/bin/ipmitool")
    code, said, _ = run(dom0)
    assert code == 1
    order = [said.index(word) for word in ("FAILS (2)", "pool-conf-form", "ipmi-device", "NOT SEEN", "HOLDS (")]
    assert order == sorted(order)
    assert "for: promotion, repoint" in said


def test_a_wrong_word_is_refused(dom0):
    assert process(dom0, "--repair")[0] == 2


def test_the_report_is_new_and_its_owners_alone(dom0, short):
    path = short / "report.txt"
    assert run(dom0, "--report", str(path))[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_text()
    code, _, errors = run(dom0, "--report", str(path))
    assert code == 2 and "is there already" in errors and path.read_text() == first


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_the_report_is_not_written_through_a_link(dom0, short, there):
    (short / "target").write_text("mine") if there else None
    os.symlink(str(short / "target"), str(short / "report.txt"))
    assert run(dom0, "--report", str(short / "report.txt"))[0] == 2
    assert not there or (short / "target").read_text() == "mine"
    assert there or not (short / "target").exists()


def test_a_report_that_cannot_be_written_is_said(dom0, short):
    code, _, errors = run(dom0, "--report", str(short / "no" / "report.txt"))
    assert code == 2 and "no such file" in errors


NAMES = ("holds", "xapi", "master", "customer-pool-7", "release")
SECRETS = (
    "10.11.12.13",
    "fd00:1234::77",
    "fe80::1%eth0",
    "00:16:3e:aa:bb:cc",
    "SERIAL-4711-X",
    "xen-customer.example.org",
    "/mnt/customer/state.db",
    "brcustomer",
    "Customer OS",
    "4.19.0-customer",
    UUID,
    "4c4c4544-0046-3510-8052-b4c04f4e4d32",
)


@pytest.mark.parametrize(
    "conf",
    [
        "slave:10.11.12.13",
        "slave:fd00:1234::77",
        "slave:fe80::1%eth0",
        "slave:xen-customer.example.org",
        "00:16:3e:aa:bb:cc",
    ],
)
def test_the_report_names_nobody(dom0, short, conf):
    dom0.put("etc/xensource/pool.conf", conf + (":bb:cc" if conf.startswith("00:") else ""))
    dom0.put("etc/xensource/db.conf", "[/mnt/customer/state.db]\n")
    dom0.put("sys/class/dmi/id/product_serial", "SERIAL-4711-X")
    dom0.put("proc/sys/kernel/osrelease", "4.19.0-customer")
    dom0.put("etc/hostname", "xen-customer.example.org")
    inventory = XCP_NG_83.replace("'XCP-ng'", "'Customer OS'").replace("'xenbr0'", "'brcustomer'")
    dom0.put("etc/xensource-inventory", inventory)
    dom0.unit.update(Restart="10.11.12.13", Type="Customer OS", KillMode="brcustomer")
    kept = [
        Result("repoint-pool-conf", HOLDS, "it says slave:%s" % private(SECRETS[0]), private("Customer OS"), 1, "b", 1),
        Result("management-address", FAILS, "xapi has %s" % private(SECRETS[1]), "", 1, "b", 1),
    ]
    dom0.scene()
    dom0.tree.put("var/lib/poolwarden/assumptions", findings.encode({each.id: each for each in kept}))
    path = short / "report.txt"
    code, said, _ = run(dom0, "--report", str(path))
    report = path.read_text()
    assert code == 1 and "databases-named" in report and "brcustomer" in said
    assert [secret for secret in SECRETS if secret.lower() in report.lower()] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_host_named_like_a_word_leaves_no_trace(dom0, short, name):
    """What is left out is what was read there, and not every word that looks like it."""
    reports = []
    for number, called in enumerate((name, "another")):
        dom0.put("etc/hostname", called)
        dom0.put("etc/xensource/pool.conf", "slave:" + called)
        run(dom0, "--report", str(short / ("report%d" % number)))
        reports.append(re.sub("[0-9]+ of them free", "", (short / ("report%d" % number)).read_text()))
    assert reports[0] == reports[1]


def test_what_was_learned_here_is_told_with_its_day_and_release(dom0):
    kept = Result("restart-helps", HOLDS, "it answers 31 s after its start", "XCP-ng 8.3.0", 1700000000000, "b", 1)
    dom0.tree.put("var/lib/poolwarden/assumptions", findings.encode({kept.id: kept}))
    said = " ".join(run(dom0)[1].split())
    assert "restart-helps: it answers 31 s after its start (2023-11-14, XCP-ng 8.3.0)" in said


@pytest.mark.parametrize("data", [b"", b"poolwarden assumptions 1 x\n[]", b"\xff" * 100, b"[" * 70000])
def test_a_spoiled_file_is_as_if_nothing_was_learned(dom0, data):
    dom0.tree.put("var/lib/poolwarden/assumptions", data)
    assert run(dom0)[0] == 0


@pytest.mark.parametrize("trouble", ["[agent]\nuser = poolwarden\n", "[agent]\ncollector = x\n", "\0", None])
def test_it_needs_no_configuration(dom0, trouble):
    if trouble is not None:
        dom0.put("etc/poolwarden/agent.conf", trouble)
    assert verify._doors(str(dom0.tree.root)) == verify.USUAL


def test_a_xapi_that_hangs_is_asked_once(monkeypatch):
    asked = []
    silent = type("Result", (), {"outcome": "no answer"})
    monkeypatch.setattr(verify.probes, "is_alive", lambda *words: asked.append(words) or silent)
    monkeypatch.setattr(verify.static, "look", lambda fresh, pause: [fresh().answers(), fresh().answers()])
    assert verify._look("/nowhere", verify.USUAL) == [None, None]
    assert len(asked) == 1


def test_evidence_is_one_bounded_line():
    said = findings.shown("a\n\tb \x02c\x03 \x1b[31m" + "x" * 500)
    assert said.startswith("a b c [31m") and len(said) <= 200
    assert findings.nameless("it says %s now" % private("\x02h1\x03")) == "it says <left out> now"
    assert familiar("xenbr0", "xenbr[0-9]+") == "xenbr0"
    assert findings.nameless(familiar("xenbr0\n", "xenbr[0-9]+")) == "<left out>"


def test_what_saw_nothing_takes_nothing_away():
    seen = Result("kernel", HOLDS, "4.19.0", "", 1, "b", 1)
    nothing = seen._replace(finding=NOT_SEEN, evidence="")
    assert findings.add({"kernel": seen}, nothing) == {"kernel": seen}
    assert findings.add({"kernel": nothing}, seen) == {"kernel": seen}
    assert findings.decode(findings.encode({"kernel": seen})) == {"kernel": seen}
    assert len(findings.encode({str(n): Result(str(n), HOLDS, "x" * 600, "", 1, "b", 1) for n in range(300)})) <= 65536


def test_what_was_half_written_is_nothing():
    whole = findings.encode({"kernel": Result("kernel", HOLDS, "4.19.0", "", 1, "b", 1)})
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            findings.decode(whole[:length])
