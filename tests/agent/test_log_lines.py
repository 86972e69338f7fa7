"""Lines of a dom0's logs: taken apart, and as they may be shown: bounded, on one line, without secrets."""

# ruff: noqa: E501 (lines of logs)
import time

import pytest

from poolwarden_agent.core.log_lines import LONGEST_LINE, lines_of, parse, shown, stamp_s
from poolwarden_agent.core.storage import errors

AT = "Apr 30 20:26:%02d h1 "
MISSING_ROW = 'xapi: [error|h1|0||xapi] Caught exception at toplevel: \'Db_exn.DBCache_NotFound("missing row", "VLAN", "OpaqueRef:25704e28-b130-4789-b244-87b08eceade1")\''


SECRETS = [
    "session_id=OpaqueRef:1f2e3d4c-aaaa-bbbb-cccc-000000000001",
    "login trackid=9834f5af41c964e225f24279aefe4e49",
    "pool_secret=0f0e0d0c-0000-1111-2222-333344445555/0f0e0d0c-0000-1111-2222-333344445556/0f0e0d0c-0000-1111-2222-333344445557",
    "ptoken is 0f0e0d0c-0000-1111-2222-333344445555/0f0e0d0c-0000-1111-2222-333344445556",
    "password: hunter2",
    "{'password': 'hun ter2', 'x': 1}",
    '("chappassword", "hunter2")',
    "'chappassword' 'hunter2'",
    "<name>password</name><value><string>hunter2</string></value>",
    "url http://root:hunter2@10.0.0.1/import_raw_vdi",
    "Authorization: Basic cm9vdDpodW50ZXIy",
    "cookie: session_id=hunter2; other",
    "secret-key=hunter2 token=hunter2",
    "-----BEGIN RSA PRIVATE KEY----- MIIhunter2",
    "OpaqueRef:1f2e3d4c-aaaa-bbbb-cccc-000000000001 logged in",
    "['iscsiadm', '-m', 'node', '--op', 'update', '-n', 'node.session.auth.password', '-v', 'hunter2']",
    "iscsiadm -m node -n node.session.auth.password -v hunter2",
    "cmd --password hunter2 x",
    "ipmitool -U root -P hunter2 power status",
    "['sshpass', '-p', 'hunter2', 'ssh']",
    '{\\"password\\": \\"hunter2\\", \\"x\\": 1}',
    'password="a\\"hunter2"',
    '{"method":"session.login_with_password","params":["root","hunter2"]}',
    "<methodName>session.login_with_password</methodName><params><param><value><string>root</string></value></param>"
    "<param><value><string>hunter2</string></value></param></params>",
    "session.slave_local_login_with_password(root, hunter2)",
    "pool_secret hunter2",
    "https://user:p@hunter2@10.0.0.1/x",
    "https://user:pa/hunter2@10.0.0.1/x",
    "mount.cifs //10.0.0.1/iso /mnt -o username=root,password=hunter2,rw",
    "password -> hunter2",
    "the password is hunter2",
    "((username root)(password hunter2))",
    'DBCache_NotFound("missing row","session","OpaqueRef:1f2e3d4c-aaaa-bbbb-cccc-000000000001")',
    "authorization: hunter2",
    "api_key=hunter2 AWS_SECRET_ACCESS_KEY=hunter2 psk=hunter2 pwd=hunter2",
    "password=<hunter2>",
    "<password>hunter2</password>",
    "<string>password</string><string>hunter2</string>",
    "snmp community=hunter2",
]  # fmt: skip


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_is_shown(text):
    told = shown(AT % 1 + "xapi: [error||0 ||x] " + text)
    for secret in ("hunter2", "ter2", "000000000001", "9834f5af", "333344445555", "333344445556", "cm9vdDpo"):
        assert secret not in told, told


SAID = [
    "Master did not recognise our pool secret: we must be pointing at the wrong master.",
    "session.slave_login D:abc failed with exception Unix_error",
    "['iscsiadm', '-m', 'discovery', '-t', 'st', '-p', '10.0.0.9:3260']",
    "mkdir -p /run/sr-mount/x failed",
    "Pool secret file /etc/xensource/ptoken is there",
    "http://10.0.0.1:80/import?x=1 gave 500",
]


@pytest.mark.parametrize("text", SAID)
def test_what_is_no_secret_is_shown(text):
    assert shown(text) == text


@pytest.mark.parametrize("unit", ["*", "1", "a.", "0-", "//a@", "password ", "'", "-p ", "(token ", "<a>", "</a><b>"])
def test_no_line_keeps_the_agent_busy(unit):
    line = AT % 1 + "xapi: [error||" + (unit * 2000)[:2000]
    began = time.process_time()
    parse(line), shown(line), errors([line])
    assert time.process_time() - began < 0.3


def test_a_secret_that_is_cut_is_none_either():
    told = shown("x" * (LONGEST_LINE - 20) + " password=" + "hunter2" * 99)
    assert "hunter2" not in told and len(told) <= LONGEST_LINE


def test_a_row_that_is_missing_keeps_its_reference():
    line = MISSING_ROW
    assert "OpaqueRef:25704e28-b130-4789-b244-87b08eceade1" in shown(AT % 1 + line)
    assert "wrong master" in shown("Master did not recognise our pool secret: we must be pointing at the wrong master.")


def test_what_is_shown_is_one_printable_line():
    told = shown("a\x1b[31mred\x07\u202eevil\ufeff\tb\x85\ud800")
    assert told.isprintable() and "\x1b" not in told and told.startswith("a\\x1b[31m")


def test_forms_of_a_line():
    line = parse("Apr  1 11:15:32 h1 xapi: [error||0 |dbsync (update_env) R:4c|xapi] text")
    assert (line.program, line.priority, line.task, line.text) == ("xapi", "error", "dbsync (update_env) R:4c", "text")
    newer = parse("2026-06-20T11:15:32.123456+00:00 h1 xapi: [ warn||19 dbflush [/var/lib]|a|b] text")
    assert (newer.program, newer.priority, newer.text) == ("xapi", "warn", "text")
    assert parse("no line at all").program == "" and parse("no line at all").text == "no line at all"
    assert stamp_s("Apr  1 11:15:32 h1 x") < stamp_s("Apr  1 11:15:33 h1 x") < stamp_s("May  1 00:00:00 h1 x")
    assert stamp_s("2026-06-20T11:15:32 h1") is None and stamp_s("Foo  1 11:15:32 h1") is None


def test_zeros_that_a_loss_of_power_has_left_are_no_part_of_a_line():
    assert lines_of(b"\0\0\n\0a\r\n", True) == ["a"]
