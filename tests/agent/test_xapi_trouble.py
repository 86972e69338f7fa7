"""Why xapi does not start: each known cause by lines as xapi writes them, and what looks like one and is none.

Lines have the forms of public reports (the trackers of xcp-ng/xcp and xapi-project/xen-api, a report of an emptied
state.db) or of the sentences in the source of xapi itself; hosts, pids and references are invented.
"""

# ruff: noqa: E501 (lines of logs)
from pathlib import Path

import pytest

from poolwarden.xapi_causes import ALL, CAUSES
from poolwarden_agent.core.log_lines import LONGEST_LINE, lines_of
from poolwarden_agent.core.xapi_trouble import MOST_LINES, NO_TROUBLE, Around, judge

AT = "Apr 30 20:26:%02d h1 "
ENDED, WAITS = Around(), Around(running=True)


def log(text, second=40):
    """Lines of xapi's log: the text of each after its time and host."""
    return [AT % second + line for line in text.strip().splitlines()]


def start(pid=16440, *steps):
    lines = "xapi: [debug||0 |server_init D:d8beed11d60d|xapi] (Re)starting xapi, pid: %d\n" % pid
    lines += "xapi: [debug||0 |server_init D:d8beed11d60d|xapi] on_system_boot=false pool_role=master\n"
    for step in steps:
        lines += "xapi: [debug||0 |server_init D:d8beed11d60d|startup] task [%s]\n" % step
    return lines


DATABASE = "starting up database engine"


def fatal(exception):
    """As xapi writes the exception that ends it: three times, with a backtrace between."""
    return (
        "xapi: [debug||0 |Xapi.watchdog|xapi] xapi top-level caught exception: INTERNAL_ERROR: [ %s ]\n"
        "xapi: [error||0 ||backtrace] Xapi.watchdog failed with exception %s\n"
        "xapi: [error||0 ||backtrace] Raised %s\n"
        "xapi: [error||0 ||backtrace] 1/11 xapi Raised at file ocaml/libs/log/debug.ml, line 279\n"
        "xapi: [error||0 ||backtrace]\n" % (exception, exception, exception)
    )


BY_ITS_END = [
    ("database", start(1, DATABASE) + fatal('Xmlm.Error(1:1, "expected root element")')),
    # The file was emptied by a power loss; the start itself is no longer in what is read of the log.
    ("database", fatal('Xmlm.Error(1:1, "expected root element")')),
    (
        "database",
        'xapi: [error|h1|0 ||backtrace] server_init D:7b76fe698182 failed with exception Db_exn.DBCache_NotFound("missing column", "Cluster", "network")\n'
        'xapi: [error|h1|0 ||backtrace] Raised Db_exn.DBCache_NotFound("missing column", "Cluster", "network")\n'
        "xapi: [error|h1|0 ||backtrace] 1/1 xapi @ h1 Raised at file (Thread 0 has no backtrace table.",
    ),
    (
        "database",
        'xapi: [error|h1|0||xapi] Caught exception at toplevel: \'Db_exn.DBCache_NotFound("missing row", "VLAN", "OpaqueRef:25704e28-b130-4789-b244-87b08eceade1")\'',
    ),
    ("database", start(1, DATABASE) + fatal('Xapi_database.Db_xml.Unmarshall_error("Unexpected end of file")')),
    ("database", start(1, DATABASE) + fatal('Xapi_database.Db_exn.Uniqueness_constraint_violation("VM", "uuid", "x")')),
    (
        "database-newer",
        start(1, DATABASE) + fatal('Xapi_database.Db_xml.Unmarshall_error("Unexpected column in table VM: fancy")'),
    ),
    (
        "disk-full",
        start(1, DATABASE) + "xapi: [debug||0 |server_init D:ab|xapi] xapi top-level caught Unix_error: No space left on device, write, \n",
    ),
    ("disk-full", start() + fatal('Unix.Unix_error(Unix.ENOSPC, "write", "")')),
    ("disk-full", start() + fatal('Sys_error("/var/lib/xcp/state.db: No space left on device")')),
    ("disk-read-only", start() + fatal('Unix.Unix_error(Unix.EROFS, "open", "/var/lib/xcp/local.db")')),
    (
        "disk-error",
        start() + "xapi: [debug||0 |server_init D:ab|xapi] xapi top-level caught Unix_error: Input/output error, read, \n",
    ),
    ("memory", start() + fatal("Out_of_memory")),
    ("open-files", start() + fatal('Unix.Unix_error(Unix.EMFILE, "socket", "")')),
    ("permission", start() + fatal('Unix.Unix_error(Unix.EACCES, "open", "/etc/xensource/ptoken")')),
    ("inventory", start() + fatal('Inventory.Missing_inventory_key("CONTROL_DOMAIN_UUID")')),
    ("xenstored", start() + fatal("Xs_transport.Could_not_find_xenstore")),
    (
        "message-switch",
        start()
        + fatal('Failure("There was a communication failure with message-switch: Unix.Unix_error(Unix.EPIPE, \\"write\\", \\"\\")")'),
    ),
    ("certificate", start() + fatal('Stunnel.Stunnel_verify_error("certificate has expired")')),
    ("clock", start() + fatal('Stunnel.Stunnel_error("CERT: Pre-verification error: certificate is not yet valid")')),
]  # fmt: skip
BY_ITS_WORDS = [
    (
        "another-master",
        "xapi: [error||0 |checking no other known hosts are masters R:e2|xapi] Detected another master in my database of known hosts. "
        "Aborting xapi startup and restarting as slave of host 'b1d7' (10.0.0.12)",
    ),
    (
        "ha-statefile",
        "xapi: [ info||0 |server_init D:ab|xapi_ha] ha_start_daemon failed with MTC_EXIT_CAN_NOT_ACCESS_STATEFILE: will contact existing "
        "master and check if HA is still enabled",
    ),
    (
        "ha-daemon",
        "xapi: [error||0 |server_init D:ab|xapi_ha] ha_start_daemon failed with unexpected error MTC_EXIT_SYSTEM_ERROR: will retry in 10s",
    ),
    (
        "ha-disarmed",
        "xapi: [ info||0 |resynchronise_ha_state R:1|xapi] We are a slave: we cannot join an HA-enabled Pool after being locally disarmed. "
        "Entering emergency mode.",
    ),
    (
        "version",
        "xapi: [error||0 |server_init D:ab|xapi] Xapi startup in pool member h2 is blocked as its xapi version (26.1.3) is higher than xapi "
        "version in pool coordinator.",
    ),
    (
        "pool-secret",
        "xapi: [debug||0 |server_init D:ab|xapi] Master did not recognise our pool secret: we must be pointing at the wrong master.",
    ),
    ("unknown-to-master", "xapi: [debug||0 |server_init D:ab|xapi] Master claims he has no record of us being a slave"),
    ("talk-back", "xapi: [error||0 |server_init D:ab|xapi] Master claims he cannot talk back to us on IP: 10.0.0.12"),
    ("own-member", "xapi: [debug||0 |server_init D:ab|xapi] Realised that I am my own slave!"),
    ("broken-role", "xapi: [ info||0 |server_init D:ab|xapi] This node is broken; moving straight to emergency mode"),
    ("management-ip", "xapi: [ warn||0 |bringing up management interface D:ab|xapi] Failed to acquire a management IP address"),
    (
        "port-80",
        "xapi: [debug||0 |bringing up management interface D:ab|http] While binding INET 0.0.0.0:80: Address already in use\n"
        "xapi: [debug||0 |bringing up management interface D:ab|xapi] Caught exception bringing up management interface: "
        "INTERNAL_ERROR: [ Failure(\"Repeatedly failed to bind: INET 0.0.0.0:80\") ]",
    ),
    (
        "certificate",
        "xapi: [debug||12 |server_init D:ab|master_connection] stunnel: 2026.01.09 06:01:28 LOG4[0]: CERT: Pre-verification error: certificate "
        "has expired\n"
        "xapi: [error||0 |bringing up management interface D:ab|master_connection] Connection to master died. I will continue to retry "
        "indefinitely (supressing future logging of this message).",
    ),
    (
        "clock",
        "xapi: [debug||12 |server_init D:ab|master_connection] stunnel: 2026.01.09 06:01:28 LOG4[0]: CERT: Pre-verification error: certificate "
        "is not yet valid",
    ),
    (
        "master-unreachable",
        "xapi: [error||0 |bringing up management interface D:ab|master_connection] Connection to master died. I will continue to retry "
        "indefinitely (supressing future logging of this message).",
    ),
    ("stunnel", "xapi: [error||0 |bringing up management interface D:ab|xapi_stunnel_server] Xapi_stunnel_server.restart: failed to restart stunnel"),
]  # fmt: skip


@pytest.mark.parametrize("cause, text", BY_ITS_END)
def test_what_ended_it(cause, text):
    found = judge(log(text), [], ENDED)
    assert found.cause == cause, found
    assert found.help == CAUSES[cause].help and found.sentence.startswith(CAUSES[cause].sentence)
    assert found.lines and "h1 xapi: " in found.lines[0]


@pytest.mark.parametrize("cause, text", BY_ITS_WORDS)
def test_what_it_says_it_waits_for(cause, text):
    assert judge(log(start(1, "bringing up management interface") + text), [], WAITS).cause == cause
    # It may have ended meanwhile, as it does after a minute or three in emergency mode.
    assert judge(log(start(7) + text), [], Around(ended_pid=7)).cause == cause


@pytest.mark.parametrize("cause, text", BY_ITS_WORDS)
def test_words_from_before_a_start_that_came_through_say_nothing(cause, text):
    done = "xapi: [debug||0 |server_init D:ab|xapi] startup: startup sequence finished\n"
    assert judge(log(start(7) + text + "\n" + done), [], WAITS) == NO_TROUBLE
    assert judge(log(start(7) + text + "\n" + done), [], Around(ended_pid=7)).cause == "unknown"
    # Nor does what is left of a process whose start is not in what was read.
    assert judge(log(text), [], ENDED).cause == "unknown"


HARMLESS = """
xapi: [error||563 ||xenops] xenopsd event: Caught Db_exn.DBCache_NotFound("missing row", "VM_guest_metrics", "OpaqueRef:NULL") while updating VM
xapi: [error||0 |check if component smapi is enabled  D:18|xapi_observer_components] is_component_enabled(smapi) inner got exception: Db_exn.DBCache_NotFound("missing table", "Observer", "")
xapi: [error||0 |dbsync (update_env) R:4c0a3231226e|xapi] Ignoring error parsing /usr/share/nvidia/vgpu/vgpuConfig.xml: (Sys_error "/usr/share/nvidia/vgpu/vgpuConfig.xml: No such file or directory")
xapi: [debug||0 |import of disk R:2|xapi] a VM is called No space left on device, and its name is logged: ENOSPC
xapi: [error||77 |VM.start R:9|backtrace] VM.start R:9 failed with exception Unix.Unix_error(Unix.ENOSPC, "write", "")
xenopsd-xc: [error||5 ||xenops] Caught Unix.Unix_error(Unix.ENOSPC, "write", "/var/run/nonpersistent"): xapi top-level caught exception: Xmlm.Error(1:1)
squeezed: [error||2 ||xenops] xenstore-write 10 /memory/uncooperative =  failed: Xs_protocol.Enoent("read")
""".lstrip()  # fmt: skip


def test_no_word_of_another_program_or_of_a_call_is_taken_for_the_end_of_xapi():
    found = judge(log(start(7, DATABASE) + HARMLESS), [], Around(ended_pid=7))
    assert found.cause == "unknown" and DATABASE in found.sentence
    assert judge(log(start(7, DATABASE) + HARMLESS), [], WAITS).cause == "unknown"


def test_the_exception_that_ended_it_counts_whatever_was_said_before():
    text = start(7) + BY_ITS_WORDS[0][1] + "\n" + HARMLESS + fatal('Unix.Unix_error(Unix.ENOSPC, "write", "")')
    assert judge(log(text), [], ENDED).cause == "disk-full"


def test_a_root_cause_comes_before_what_it_brings_about_and_the_latest_of_its_kind_first():
    words = dict(BY_ITS_WORDS)
    both = words["management-ip"] + "\n" + words["master-unreachable"]
    assert judge(log(start() + both), [], WAITS).cause == "management-ip"
    got = "xapi: [debug||0 |server_init D:ab|xapi] Acquired management IP address: 10.0.0.12\n"
    assert judge(log(start() + words["management-ip"] + "\n" + got), [], WAITS).cause == "unknown"
    assert judge(log(start() + both + "\n" + got), [], WAITS).cause == "master-unreachable"
    later = words["unknown-to-master"] + "\n" + words["talk-back"]
    assert judge(log(start() + later), [], WAITS).cause == "talk-back"


STARTS_AS_MEMBER = "xapi: [debug||0 |server_init D:ab|xapi] Startup successful\n"
STORAGE = "xapi: [debug||0 |server_init D:ab|startup] task [initialising storage]\n"
# What is tried again until it succeeds (xapi.ml, attempt_host_status_check_with_coordinator; xapi_ha.ml, on_server_restart).
RETRIED = ["version", "pool-secret", "unknown-to-master", "talk-back", "own-member", "certificate", "clock"]


@pytest.mark.parametrize("cause", [*RETRIED, "master-unreachable"])
def test_a_member_that_was_let_in_waits_for_its_master_no_more(cause):
    text = start(7) + dict(BY_ITS_WORDS)[cause] + "\n"
    again = "xapi: [debug||0 |server_init D:ab|xapi] I think the error is a temporary one, retrying in 5s\n"
    assert judge(log(text + again), [], WAITS).cause == cause
    found = judge(log(text + again + STARTS_AS_MEMBER + STORAGE), [], WAITS)
    assert found.cause == "unknown" and "initialising storage" in found.sentence
    assert judge(log(text + STARTS_AS_MEMBER + STORAGE), [], Around(ended_pid=7)).cause == "unknown"
    # Said after it, it is the cause.
    assert judge(log(start(7) + STARTS_AS_MEMBER + dict(BY_ITS_WORDS)[cause]), [], WAITS).cause == cause


@pytest.mark.parametrize("cause", ["ha-statefile", "ha-daemon", "certificate", "clock"])
def test_a_start_that_went_on_does_not_wait_for_what_it_had_to_try_again(cause):
    text = start(7) + dict(BY_ITS_WORDS)[cause].splitlines()[0] + "\n"
    assert judge(log(text), [], WAITS).cause == cause
    assert judge(log(text + STORAGE), [], WAITS).cause == "unknown"


CERT = "xapi: [debug||12 |server_init D:ab|master_connection] stunnel: 2026.01.09 06:01:28 LOG4[0]: %s\n"
DIED = dict(BY_ITS_WORDS)["master-unreachable"] + "\n"


@pytest.mark.parametrize(
    "said",
    [
        "CERT: Pre-verification error: self-signed certificate",
        "CERT: Pre-verification error: unable to get local issuer certificate",
        "CERT: Subject checks failed",
        "[!] Service [client-proxy]: Failed to initialize TLS context",
    ],
)
def test_a_certificate_that_is_refused_is_no_master_that_does_not_answer(said):
    assert judge(log(start(7) + CERT % said + DIED), [], WAITS).cause == "certificate"
    assert judge(log(start(7) + CERT % said + DIED), [], WAITS._replace(no_bundle=True)).cause == "pool-bundle"
    up = "xapi: [debug||0 |server_init D:ab|xapi] startup: startup sequence finished\n"
    assert judge(log(start(7) + CERT % said + up), [], WAITS) == NO_TROUBLE


def test_without_the_pools_certificates_no_master_is_reached():
    assert judge(log(start(7) + DIED), [], WAITS._replace(no_bundle=True)).cause == "pool-bundle"
    assert judge(log(start(7) + STORAGE), [], WAITS._replace(no_bundle=True)).cause == "unknown"


def test_a_start_that_waits_for_its_management_interface():
    said = "xapi: [debug||0 |server_init D:ab|xapi] %s\n"
    asks, has = (
        said % "Attempting to acquire a management IP address",
        said % "Acquired management IP address: 10.0.0.2",
    )
    waits = "xapi: [debug||0 |server_init D:ab|xapi_mgmt_iface] wait_for_ip (IP=%s, connected:%s), waiting\n"
    no_link, no_address = waits % ("10.0.0.2", "false"), waits % ("", "true")
    cluster = (
        "xapi: [debug||9 |wait for clustering IP R:1|xapi] Waiting for clustering IP on bridge xenbr1 (OpaqueRef:x)\n"
    )
    begun = start(7, "bringing up management interface")
    assert judge(log(begun + asks + no_link), [], WAITS).cause == "management-link"
    assert judge(log(begun + asks + no_link + no_address), [], WAITS).cause == "management-ip"
    assert judge(log(begun + asks + waits % ("", "false")), [], WAITS).cause == "management-ip"
    assert judge(log(begun + asks + waits % ("fd00::2", "false")), [], Around(ended_pid=7)).cause == "management-link"
    # What an earlier attempt met is not what is waited for.
    earlier = asks + has + dict(BY_ITS_WORDS)["talk-back"] + "\n"
    assert judge(log(begun + earlier + asks + no_link), [], WAITS).cause == "management-link"
    assert judge(log(begun + asks + no_link + has + STORAGE), [], WAITS).cause == "unknown"
    assert judge(log(begun + asks + has + cluster + no_link), [], WAITS).cause == "unknown"
    assert judge(log(begun + asks), [], WAITS).cause == "unknown"


def test_a_start_goes_on_without_its_port_without_stunnel_and_without_an_address():
    for cause in ("port-80", "stunnel", "management-ip"):
        assert judge(log(start(7) + dict(BY_ITS_WORDS)[cause] + "\n" + STORAGE), [], WAITS).cause == cause


def test_a_member_that_gave_up_is_not_said_to_have_no_master():
    """xapi writes "Cannot contact master" whatever made it give up (xapi.ml, server_run_in_emergency_mode)."""
    gave_up = (
        "xapi: [error||0 |dbsync (update_env) R:4c|xapi] Caught Not_found\n"
        "xapi: [debug||0 |server_init D:ab|xapi] Failure in slave dbsync; slave will pause and then restart to try again. "
        "Entering emergency mode.\n"
        "xapi: [ info||0 |server_init D:ab|xapi] Cannot contact master: running in slave emergency mode\n"
    )
    for around in (WAITS, Around(ended_pid=7)):
        found = judge(log(start(7) + STARTS_AS_MEMBER + gave_up), [], around)
        assert found.cause == "unknown" and "gave up" in found.sentence and "Not_found" in found.lines[-1]
    silent = (
        "xapi: [debug||0 |dbsync (update_env) R:4c|master_connection] Exceeded timeout for retrying master connection: "
        "raising Cannot_connect_to_master\n"
    )
    assert judge(log(start(7) + STARTS_AS_MEMBER + silent + gave_up), [], WAITS).cause == "master-unreachable"


def test_a_line_with_the_number_of_its_process_is_read_as_any_other():
    text = start(7, DATABASE) + fatal('Unix.Unix_error(Unix.ENOSPC, "write", "")')
    assert judge(log(text.replace("xapi: [", "xapi[7]: [")), [], Around(ended_pid=7)).cause == "disk-full"
    killed = kernel("Out of memory: Kill process 7 (xapi) score 312 or sacrifice child")
    assert judge([AT % 40 + "xapi[7]: [debug||7 ||xapi] a call"], [killed], ENDED).cause == "oom-killed"


def test_zeros_that_a_loss_of_power_has_left_hide_no_line():
    first, *others = log(start(8))
    data = "\n".join([*log(start(7) + BY_ITS_WORDS[0][1]), "\0" * 4000 + first, *others, ""]).encode()
    assert judge(lines_of(data, True), [], WAITS._replace(pid=8)).cause == "unknown"


def test_what_another_step_parses_is_no_database():
    """Storage drivers print XML, too; the failing step tells which it was."""
    found = judge(
        log(start(1, "Registering SMAPIv1 plugins") + fatal('Xmlm.Error(1:1, "expected root element")')), [], ENDED
    )
    assert (
        found.cause == "unknown" and "Registering SMAPIv1 plugins" in found.sentence and "Xmlm.Error" in found.sentence
    )
    # A death cycle by a network card's virtual functions: in the database's step, and no fault of its file.
    found = judge(log(start(1, DATABASE) + fatal("Not_found")), [], ENDED)
    assert found.cause == "unknown" and "'%s': Not_found" % DATABASE in found.sentence


def test_a_start_after_the_one_that_failed_does_not_hide_it():
    failed = start(7, DATABASE) + fatal('Xmlm.Error(1:1, "expected root element")')
    again = start(8, "Reading pool secret")
    assert judge(log(failed + again), [], Around(ended_pid=7)).cause == "database"
    assert judge(log(failed + again), [], ENDED).cause == "database"
    # That one is asked about: it stands in its own step.
    found = judge(log(failed + again), [], WAITS)
    assert found.cause == "unknown" and "Reading pool secret" in found.sentence
    # By its number it is told from one that was there before, and that may have been of an earlier boot.
    assert judge(log(failed + again), [], WAITS._replace(pid=8)).sentence == found.sentence
    words = start(7) + BY_ITS_WORDS[0][1]
    assert judge(log(words), [], WAITS._replace(pid=7)).cause == "another-master"
    assert judge(log(words), [], WAITS._replace(pid=9)).cause == "unknown"
    # One that was told to end hides what an earlier one failed for.
    told = again + "xapi: [debug||0 ||xapi] Executing cleanup handler\n"
    assert judge(log(failed + told), [], ENDED) == NO_TROUBLE
    # And an end long ago is not that of a xapi that came up after it.
    up = "xapi: [debug||0 |server_init D:ab|xapi] startup: startup sequence finished\n"
    assert judge(log(failed + again + up), [], ENDED).cause == "unknown"


@pytest.mark.parametrize(
    "word",
    [
        "xapi: [debug||0 ||xapi] Executing cleanup handler",
        "xapi: [debug||99 ||xapi_fuse] light_fuse_and_run: calling flush and exit",
    ],
)
def test_a_xapi_that_was_told_to_end_has_no_trouble(word):
    assert judge(log(start(7) + HARMLESS + word), [], Around(ended_pid=7)) == NO_TROUBLE
    # It was, and cannot start again: that is trouble.
    assert (
        judge(log(start(7) + word), [], Around(ended_pid=7, stopped=("message-switch.service",))).cause
        == "message-switch"
    )


def kernel(text, second=41):
    return AT % second + "kernel: [1234567.123456] " + text


def test_the_kernels_word_is_about_a_process_of_this_log():
    killed = kernel("Out of memory: Kill process 7 (xapi) score 312 or sacrifice child")
    newer = kernel("Out of memory: Killed process 7 (xapi) total-vm:1234kB, anon-rss:99kB")
    cgroup = kernel("Memory cgroup out of memory: Killed process 7 (xapi) total-vm:1234kB")
    up = start(7) + "xapi: [debug||0 |server_init D:ab|xapi] startup: startup sequence finished\n"
    for said in (killed, newer, cgroup):
        assert judge(log(up), [said], Around(ended_pid=7)).cause == "oom-killed"
        assert judge(log(up), [said], ENDED).cause == "oom-killed"
    assert judge(log(up.replace("7", "9")), [killed], Around(ended_pid=9)).cause == "unknown"
    assert judge(log(up), [kernel("Out of memory: Kill process 7 (qemu-dm) score 3")], ENDED).cause == "unknown"
    assert judge(log(up), [killed], WAITS) == NO_TROUBLE
    # The start of a xapi that ran for weeks is not in what is read: then the two have ended at the same time.
    late = ["xapi: [debug||7 ||xapi] a call"]
    assert judge([AT % 40 + line for line in late], [killed], ENDED).cause == "oom-killed"
    assert judge(["Apr 29 20:26:40 h1 " + line for line in late], [killed], ENDED).cause == "unknown"


def test_a_later_process_that_says_what_ended_it_was_not_killed():
    up = start(7) + "xapi: [debug||0 |server_init D:ab|xapi] startup: startup sequence finished\n"
    killed = kernel("Out of memory: Kill process 7 (xapi) score 312 or sacrifice child")
    emptied = log(up) + log(start(9, DATABASE) + fatal('Xmlm.Error(1:1, "expected root element")'), 50)
    for around in (ENDED, Around(ended_pid=9)):
        assert judge(emptied, [killed], around).cause == "database"
    assert judge(emptied, [killed], Around(ended_pid=7)).cause == "oom-killed"
    # One that has only begun has said nothing yet; an end that the agent has not seen is one of these.
    for around in (ENDED, Around(ended_pid=7), Around(ended_pid=5)):
        assert judge(log(up) + log(start(9), 50), [killed], around).cause == "oom-killed"
    assert judge(log(up) + log(start(9), 50), [killed], Around(ended_pid=9)).cause == "unknown"


def test_what_the_host_shows():
    assert judge([], [], Around(blocked=True)).cause == "start-blocked"
    assert judge([], [], Around(foreign_pid=77)).cause == "stale-pid"
    assert "77" in judge([], [], Around(foreign_pid=77)).sentence
    assert judge([], [], Around(stopped=("squeezed.service", "forkexecd.service"))).cause == "forkexecd"
    assert judge([], [], Around(root_full=True)).cause == "disk-full"
    assert judge([], [], Around(root_read_only=True)).cause == "disk-read-only"
    assert judge([], [], Around(year=1970)).cause == "clock"
    assert judge([], [], Around(no_interface=True)).cause == "no-management-interface"
    assert judge([], [], Around(certificates=("/etc/xensource/xapi-ssl.pem",))).cause == "certificate"
    assert judge([], [], Around(year=2026)).cause == "unknown"


def test_what_the_host_shows_beside_what_the_log_says():
    stuck = log(start(1, "Starting SM xapi event service"))
    # A xapi that is there waits for message-switch without a word (xapi: message-switch/unix/protocol_unix.ml, connect).
    assert judge(stuck, [], Around(running=True, stopped=("message-switch.service",))).cause == "message-switch"
    empty = Around(running=True, certificates=("/etc/xensource/xapi-ssl.pem",))
    found = judge(log(start() + BY_ITS_WORDS[-1][1]), [], empty)
    assert (found.cause, "xapi-ssl.pem is empty" in found.sentence) == ("certificate", True)
    damaged = start(1, DATABASE) + fatal('Xmlm.Error(1:1, "expected root element")')
    found = judge(log(damaged), [], Around(root_full=True))
    assert found.cause == "database" and "its disk is full, too" in found.sentence
    assert judge(log(start() + fatal("Not_found")), [], Around(root_full=True)).cause == "disk-full"


def test_what_systemd_and_the_start_script_say():
    begun, ended = (
        AT % 1 + "xapi-init[7]: Starting xapi:",
        AT % 2 + "systemd[1]: xapi.service: main process exited, code=exited, status=2/INVALIDARGUMENT",
    )
    gave_up = AT % 3 + "systemd[1]: start request repeated too quickly for xapi.service"
    assert judge([], [begun, ended, gave_up], ENDED).cause == "start-limit"
    # systemd has started it again since; another service's limit is not xapi's.
    assert judge([], [gave_up, AT % 5 + "systemd[1]: Started XenAPI server (XAPI)."], ENDED).cause == "unknown"
    assert (
        judge([], [AT % 3 + "systemd[1]: start request repeated too quickly for ntpd.service"], ENDED).cause
        == "unknown"
    )
    # stunnel@xapi.service ends, too, where it has no certificate, and that is no end of xapi's.
    other = [line.replace("xapi.service", "stunnel@xapi.service") for line in (ended, gave_up)]
    assert judge([], [begun, *other], ENDED).cause == "unknown"
    assert "status" not in judge([], [begun, *other], ENDED).sentence
    assert "status 2/INVALIDARGUMENT" in judge([], [begun, ended], ENDED).sentence
    killed = AT % 2 + "systemd[1]: xapi.service: Main process exited, code=killed, status=11/SEGV"
    assert "by signal 11/SEGV" in judge([], [begun, killed], ENDED).sentence
    assert judge([], [begun, AT % 2 + "xapi-init[7]: bool_of_string"], ENDED).cause == "config"
    refused = AT % 2 + 'xapi-init[7]: Fatal error: exception Unix.Unix_error(Unix.ENOSPC, "write", "")'
    assert judge([], [begun, refused], ENDED).cause == "disk-full"
    assert judge([], [refused, begun], ENDED).cause == "unknown"  # of a start before


NO_LIBRARY = (
    "/opt/xensource/bin/xapi: error while loading shared libraries: libxenctrl.so.4.17: cannot open shared object file: "
    "No such file or directory"
)


def unheard(said, second=50):
    """What daemon.log has of a start that ended before it wrote to xapi's own log."""
    return [
        AT % second + "xapi-init[9]: Starting xapi:",
        AT % second + "xapi-init[9]: " + said,
        AT % second + "systemd[1]: xapi.service: main process exited, code=exited, status=127/n/a",
    ]


@pytest.mark.parametrize(
    "said",
    [
        NO_LIBRARY,
        "/opt/xensource/bin/xapi: symbol lookup error: /opt/xensource/bin/xapi: undefined symbol: xc_x",
        "/opt/xensource/libexec/xapi-init: line 53: /opt/xensource/bin/xapi: No such file or directory",
    ],
)
def test_a_start_that_ends_before_it_writes_to_its_log(said):
    up = start(7) + "xapi: [debug||0 |server_init D:ab|xapi] startup: startup sequence finished\n"
    stopped = log(up + "xapi: [debug||0 ||xapi] Executing cleanup handler\n")
    failed = log(start(7) + fatal('Unix.Unix_error(Unix.ENOSPC, "write", "")'))
    for lines in (stopped, failed, []):
        for around in (ENDED, Around(ended_pid=7)):
            found = judge(lines, unheard(said), around)
            assert found.cause == "program" and said in found.lines[0], found
    # It was so before, and one that came to its log failed for something else; one that runs has its program.
    before = [*unheard(said, 30), AT % 40 + "xapi-init[7]: Starting xapi:"]
    assert judge(failed, before, ENDED).cause == "disk-full"
    assert judge(stopped, before, ENDED) == NO_TROUBLE
    assert judge(log(up), unheard(said), WAITS) == NO_TROUBLE
    # One that has only begun has not ended.
    assert judge(stopped, unheard(said)[:1], ENDED) == NO_TROUBLE


def test_what_the_start_script_said_is_shown_where_no_rule_knows_it():
    stopped = log(start(7) + "xapi: [debug||0 ||xapi] Executing cleanup handler\n")
    found = judge(stopped, unheard("ulimit: core file size: cannot modify limit"), Around(ended_pid=7))
    assert found.cause == "unknown" and "status 127/n/a" in found.sentence and "cannot modify limit" in found.lines[0]


def test_a_configuration_that_names_a_program_that_is_not_there():
    text = "xapi: [error||0 ||xcp_service] Cannot access /opt/xensource/libexec/gencert\nxapi: [error||0 ||xcp_service] Please either add to /etc/xapi.conf\n"
    assert (
        judge(log(start(7) + "xapi: [debug||0 ||xapi] Executing cleanup handler\n" + text), [], ENDED).cause == "config"
    )


def test_what_no_rule_knows_shows_its_last_errors():
    text = start(7, "Listening unix socket") + "".join("xapi: [error||%d ||x] error %d\n" % (n, n) for n in range(9))
    found = judge(log(text), [], Around(ended_pid=7))
    assert found.cause == "unknown" and found.help == CAUSES["unknown"].help
    assert [line.rsplit(" ", 1)[1] for line in found.lines] == ["4", "5", "6", "7", "8"]


@pytest.mark.parametrize(
    "text", ["", "\x00\x01", "xapi: [", "xapi: [error||", "x" * 100000, "\n" * 9, "xapi: [error||0 |" + "a" * 5000]
)
def test_what_is_no_log_is_no_trouble_for_the_agent(text):
    found = judge([text, AT % 1 + text], [text, AT % 1 + text], ENDED)
    assert found.cause == "unknown" and len(found.lines) <= MOST_LINES
    assert all(len(line) <= LONGEST_LINE for line in found.lines)


def test_every_cause_can_be_told_in_a_line_and_has_a_command():
    for cause in ALL:
        assert 0 < len(cause.sentence) <= 70 and 0 < len(cause.help) <= 120, cause
        assert cause.sentence.isprintable() and cause.help.isprintable()
    reached = {cause for cause, _ in BY_ITS_END + BY_ITS_WORDS}
    by_state = {
        "start-blocked",
        "stale-pid",
        "no-management-interface",
        "start-limit",
        "config",
        "oom-killed",
        "pool-bundle",
        "program",
        "management-link",
        "unknown",
    }
    services = {"forkexecd", "xenopsd", "networkd", "squeezed"}
    assert reached | by_state | services == {cause.word for cause in ALL}


def test_the_document_lists_every_cause():
    path = Path(__file__).parents[2] / "docs" / "operating.md"
    rows = [line for line in path.read_text("utf-8").splitlines() if line.startswith("| `")]
    told = ["| `%s` | %s | `%s` |" % (cause.word, cause.sentence, cause.help.replace("|", "\\|")) for cause in ALL]
    assert [row for row in told if row not in rows] == []
