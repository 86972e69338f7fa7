"""The configuration: read with types, refused with one line that says where, what, and what was expected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.secrets import read_environment
from poolwarden_collector.shell.fencing.agent_metadata import check_devices

from .rig import HOSTS, POOL, write_config

AGENT = f'[[fence]]\nhost = "{HOSTS[0]}"\nagent = "/usr/sbin/fence_test"\n'


def read(folder: Path, extra: str = "", top: str = "") -> Config:
    return load(write_config(folder, extra, top))


def test_a_small_configuration_has_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config.policy == Policy() == config.policy_of(POOL)
    assert (config.fence, config.anchors, config.alerts.log, config.alerts.names) == ((), (), "-", ("log",))
    assert config.state_dir == tmp_path / "state" and config.tls.ca == tmp_path / "tls/ca.pem"


def test_every_setting_of_the_policy_can_be_given(tmp_path: Path) -> None:
    extra = """
[policy]
prefer = ["host-2", "host-3"]
never_promote = ["host-9"]
site = "berlin"
storm_pools = 5
storm_percent = 50
relocate_split = true
planned_window = "20m"
planned_shutdown_failover = true
transition_hold = "15m"
quiet_time_restored = "10m"
question_expiry = "2h"
approval_valid = "30m"
toolstack_budget = "3m"
handover_max_bytes = "1GiB"
min_root_free_bytes = "32MiB"
oldest_database = "1h"
sync_interval = "30m"
declare_dead = false
"""
    p = read(tmp_path, extra).policy
    assert (p.prefer, p.never_promote, p.site) == (("host-2", "host-3"), ("host-9",), "berlin")
    assert (p.storm_pools, p.storm_percent, p.relocate_split) == (5, 50, True)
    assert (p.planned_window, p.planned_shutdown_failover, p.transition_hold) == (1_200_000, True, 900_000)
    assert (p.quiet_time_restored, p.question_expiry, p.approval_valid) == (600_000, 7_200_000, 1_800_000)
    assert (p.toolstack_budget, p.handover_max_bytes, p.min_root_free_bytes) == (180_000, 2**30, 32 * 2**20)
    assert (p.oldest_database, p.sync_interval, p.declare_dead) == (3_600_000, 1_800_000, False)


def test_a_pools_own_policy_adds_to_the_general_one(tmp_path: Path) -> None:
    extra = f'[policy]\nsite = "berlin"\n[pools."{POOL}".policy]\nprefer = ["h2"]\n'
    config = read(tmp_path, extra)
    assert (config.policy_of(POOL).site, config.policy_of(POOL).prefer, config.policy.prefer) == ("berlin", ("h2",), ())


def test_what_is_unwise_is_told_once(tmp_path: Path) -> None:
    extra = f'[policy]\nquiet_time = "5s"\n[pools."{POOL}".policy]\ncooldown = "1m"\n'
    told = read(tmp_path, extra).cautions()
    assert [text.split()[1] for text in told] == ["quiet_time", "cooldown"]
    assert read(tmp_path).cautions() == ()


def test_operators_are_served_on_an_address_only_where_one_is_given(tmp_path: Path) -> None:
    assert read(tmp_path).operator_listen == ""
    for text in ("0.0.0.0:8444", "[::]:8444", "127.0.0.1:0"):
        assert load(write_config(tmp_path, collector=f'operator_listen = "{text}"')).operator_listen == text
    for text in ("", "8444", "collector.example:8444", "192.0.2.1:99999"):
        with pytest.raises(ConfigError, match=r"\[collector\] operator_listen: is .*; expected ADDRESS:PORT"):
            load(write_config(tmp_path, collector=f'operator_listen = "{text}"'))
    file = write_config(tmp_path, collector='operator_listen = "127.0.0.1:8443"')
    file.write_text(file.read_text().replace("127.0.0.1:0", "127.0.0.1:8443"))
    with pytest.raises(ConfigError, match="where agents are served; expected another port"):
        load(file)


def test_a_full_configuration_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("# of the BMC\npassword = a=b \n\n")
    secret.chmod(0o600)
    extra = f"""
[policy]
patience = "12s"
cooldown = "1h"
report_interval = "1500ms"
min_survivors = 2
collector_probe = false
mode = "ask"
[pools."{POOL}"]
name = "gold"
[pools."{POOL}".policy]
patience = "1.5m"
[[fence]]
host = "{HOSTS[1]}"
agent = "/usr/sbin/fence_ipmilan"
level = 2
limit = "20s"
secret_file = "secret"
[fence.parameters]
ip = "192.0.2.7"
[alerts]
log = "alerts.log"
[[alerts.webhook]]
url = "https://alerts.example/hook/token"
"""
    config = read(tmp_path, extra, 'anchors = ["192.0.2.1:53", "[2001:db8::1]:443"]')
    p = config.policy
    assert (p.patience, p.cooldown, p.report_interval, p.min_survivors) == (12_000, 3_600_000, 1_500, 2)
    assert (p.collector_probe, p.mode) == (False, "ask")
    special = config.policy_of(POOL)
    assert (special.patience, special.mode) == (90_000, "ask")  # over the general one, not over the defaults
    assert config.fence[0].parameters == {"ip": "192.0.2.7", "password": "a=b"}
    [device] = config.devices()[HOSTS[1]]
    assert (device.name, device.level, device.hard_limit_ms) == (f"{HOSTS[1]}-2", 2, 20_000)
    assert config.anchors == (("192.0.2.1", 53), ("2001:db8::1", 443))
    assert config.alerts.log == str(tmp_path / "alerts.log") and config.alerts.names[1:] == ("webhook:alerts.example",)
    assert "a=b" not in repr(config) and "token" not in repr(config)


MISTAKES = {
    "nearly a site": ("[policy]\nstorm_pool = 4", r"\[policy\] storm_pool: .*'storm_pools', perhaps"),
    "hosts as a text": ("[policy]\nprefer = 'h2'", r"prefer: is the text 'h2'; expected a list of texts"),
    "a host twice": ("[policy]\nnever_promote = ['h2', 'h2']", r"never_promote: names a host twice"),
    "a size without a unit": (
        "[policy]\nhandover_max_bytes = 5",
        r"handover_max_bytes: .*; expected a size",
    ),
    "a size in seconds": ("[policy]\nmin_root_free_bytes = '5s'", r"min_root_free_bytes: .*64MiB"),
    "approvals outlive questions": ("[policy]\nquestion_expiry = '1m'", r"approval_valid <= question_expiry .*outlive"),
    "preferred and banned": ("[policy]\nprefer=['a']\nnever_promote=['a']", r"a is in prefer and in never_promote"),
    "unknown key": ("[policy]\npatence = '9s'", r"\[policy\] patence: .*'patience'"),
    "unknown table": ("[polcy]\n", r"polcy: is no setting"),
    "bare number": ("[policy]\npatience = 100", r"\[policy\] patience: is the number 100; expected a duration"),
    "no unit": ("[policy]\npatience = '100'", r"expected a duration"),
    "duration for a count": ("[policy]\nmin_survivors = '2s'", r"min_survivors: .*whole number"),
    "count as a boolean": ("[policy]\nmin_survivors = true", r"the boolean true; expected a whole number"),
    "text for a flag": ("[policy]\ncollector_probe = 'no'", r"expected true or false"),
    "unknown mode": ("[policy]\nmode = 'wild'", r"mode 'wild' is none of observe, ask, auto"),
    "inequality": ("[policy]\nsuspect_after = '3s'", r"suspect_after >= 2 x report_interval .*lost report"),
    "reading gap": ("[policy]\nreading_gap = '1s'", r"reading_gap >= 3 s"),
    "pool is no UUID": ("[pools.gold]\nname = 'x'", r"\[pools\] gold: .*UUID"),
    "pool's inequality": (f"[pools.'{POOL}'.policy]\nlook_wait = '1s'", rf"\[pools.{POOL}.policy\]: .*look_wait"),
    "fence without host": ("[[fence]]\nagent = '/a'", r"\[fence 1\] host: is missing"),
    "fence agent is relative": (AGENT.replace("/usr/sbin/", ""), r"agent: .*absolute path"),
    "banned agent": (AGENT.replace("test", "dummy"), r"fence_dummy is not allowed: it reports success"),
    "own pool's agent": (AGENT.replace("test", "xenapi"), r"fence_xenapi is not allowed"),
    "user's action": (AGENT + "[fence.parameters]\naction = 'reboot'", r"action: is not yours"),
    "user's option": (AGENT + "[fence.parameters]\noption = 'off'", r"option: is not yours"),
    "method cycle": (AGENT + "[fence.parameters]\nmethod = 'cycle'", r"method: is not yours"),
    "newline in a parameter": (AGENT + '[fence.parameters]\nip = "a\\naction=on"', r"one line"),
    "parameter of wrong type": (AGENT + "[fence.parameters]\nipport = 623", r"ipport: is the number 623"),
    "level out of range": (AGENT + "level = 0", r"level: is 0; expected a whole number from 1 to 9"),
    "limit too short": (AGENT + "limit = '1s'", r"limit: is 1 s; expected 5s to 10m"),
    "two devices of one name": (AGENT + AGENT, r"\[fence 2\] name: .*another device"),
    "absent secret file": (AGENT + "secret_file = 'nowhere'", r"secret_file: .*cannot be read"),
    "webhook without url": ("[[alerts.webhook]]\nname = 'x'", r"\[alerts.webhook 1\] url: is missing"),
    "webhook by file": ("[[alerts.webhook]]\nurl = 'file:///etc/passwd'", r"url: is no http or https"),
    "fence is no list": ("[fence]\nhost = 'x'", r"expected tables \[\[fence\]\]"),
    "no TOML": ("[policy\n", r"is no TOML"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_clear_line(tmp_path: Path, mistake: str) -> None:
    extra, expected = MISTAKES[mistake]
    with pytest.raises(ConfigError) as error:
        read(tmp_path, extra)
    text = str(error.value)
    assert re.search(expected, text), text
    assert text.startswith(str(tmp_path / "collector.toml")) and "\n" not in text


TOP_MISTAKES = {
    "anchor without port": ('anchors = ["192.0.2.1"]', r"anchors: is '192.0.2.1'; expected ADDRESS:PORT"),
    "anchor by name": ('anchors = ["gateway:53"]', r"anchors: "),
    "anchors are one text": ('anchors = "192.0.2.1:53"', r"expected a list of texts"),
}


@pytest.mark.parametrize("mistake", TOP_MISTAKES)
def test_each_mistake_above_the_tables(tmp_path: Path, mistake: str) -> None:
    top, expected = TOP_MISTAKES[mistake]
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path, "", top)


REPLACED = {
    'name = "test"': ('name = "a b"', r"\[collector\] name"),
    'listen = "127.0.0.1:0"': ('listen = "8443"', r"\[collector\] listen: .*ADDRESS:PORT"),
    'operator_socket = "c.sock"': (f'operator_socket = "{"x" * 200}"', r"at most 100 bytes"),
    'ca = "tls/ca.pem"': ('ca = "nowhere.pem"', r"\[tls\] ca: .*cannot be read"),
    'key = "tls/key.pem"': ('key = "collector.toml"', r"\[tls\] key: .*is no PEM"),
    'cert = "tls/cert.pem"': ("", r"\[tls\] cert: is missing"),
}


@pytest.mark.parametrize("line", REPLACED)
def test_each_mistake_in_the_collectors_own_tables(tmp_path: Path, line: str) -> None:
    file = write_config(tmp_path)
    other, expected = REPLACED[line]
    file.write_text(file.read_text().replace(line, other))
    with pytest.raises(ConfigError, match=expected):
        load(file)


def test_an_absent_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read \(No such file"):
        load(tmp_path / "nowhere.toml")


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password=x\n")
    (tmp_path / "secret").chmod(0o640)
    with pytest.raises(ConfigError, match=r"has mode 0640; expected mode 0600: chmod 600"):
        read(tmp_path, AGENT + "secret_file = 'secret'")


@pytest.mark.parametrize("name", ["password", "snmp_priv_passwd", "community", "hexadecimal_kg", "apikey"])
def test_a_secret_in_the_configuration_itself_is_refused_unseen(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: a secret does not .* mode 0600, as a line {name}=") as error:
        read(tmp_path, AGENT + f"[fence.parameters]\n{name} = 'hunter2'")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("help", "makes a fence agent end with success and do nothing"),
        ("version", "makes a fence agent end with success and do nothing"),
        ("debug_file", "with passwords, to syslog or a file"),
        ("verbose-level", "with passwords, to syslog or a file"),
        ("action", "is not yours to set"),
    ],
)
def test_what_no_block_may_say(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path, AGENT + f"[fence.parameters]\n{name} = '1'")


def test_a_program_that_knows_the_password_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("password_script=/bin/sh\n")
    with pytest.raises(ConfigError, match="would have the agent run a program; expected the secret itself"):
        read(tmp_path, AGENT + "secret_file = 'secret'")


def test_a_secret_of_the_collectors_environment(tmp_path: Path) -> None:
    named = AGENT + "secret_env.password = 'H1_PASSWORD'"
    with pytest.raises(ConfigError, match=r"H1_PASSWORD is not in the .* a line H1_PASSWORD=... in /etc/poolwarden"):
        read(tmp_path, named)
    environment = tmp_path / "collector.env"
    environment.touch(0o600)
    environment.write_text("# of the BMCs\nH1_PASSWORD='a b=c'\n")
    config = load(write_config(tmp_path, named), read_environment(environment))
    assert config.fence[0].parameters == {"password": "a b=c"}
    assert "a b=c" not in repr(config)
    assert read_environment(tmp_path / "nowhere") == {}
    environment.chmod(0o644)
    with pytest.raises(ConfigError, match=r"collector.env has mode 0644; expected mode 0600"):
        read_environment(environment)


def test_a_link_to_an_agent_that_lies_is_that_agent(tmp_path: Path) -> None:
    (tmp_path / "fence_dummy").write_text("")
    (tmp_path / "fence_mine").symlink_to(tmp_path / "fence_dummy")
    with pytest.raises(ConfigError, match="fence_dummy is not allowed: it reports success"):
        read(tmp_path, f'[[fence]]\nhost = "{HOSTS[0]}"\nagent = "{tmp_path}/fence_mine"')


METADATA = """cat >{folder}/in
case $(cat {folder}/in) in
*action=metadata*) cat <<X
<resource-agent name="fence_t"><parameters>
<parameter name="ip" required="1" obsoletes="ipaddr"><content type="string"/></parameter>
<parameter name="ipaddr" deprecated="1"><content type="string"/></parameter>
<parameter name="action" required="1"><content type="string" default="reboot"/></parameter>
<parameter name="login-timeout"><content type="second" default="5"/><shortdesc>Wait X seconds</shortdesc></parameter>
<parameter name="ipport"><content type="integer"/><shortdesc>Port to use</shortdesc></parameter>
<parameter name="lanplus"><content type="boolean"/><shortdesc>Use Lanplus</shortdesc></parameter>
<parameter name="auth"><content type="select"><option value="MD5"/><option value="none"/></content>
<shortdesc>Auth type</shortdesc></parameter>
<parameter name="password"><content type="string"/></parameter>
</parameters><actions>{actions}</actions></resource-agent>
X
;;
*password=bad*) echo "bad is no password" >&2; exit 1;;
esac"""
ALL = "".join(f'<action name="{name}"/>' for name in ("on", "off", "reboot", "status", "validate-all"))


def device(folder: Path, parameters: str, actions: str = ALL, body: str = METADATA) -> Config:
    agent = folder / "fence_t"
    agent.write_text("#!/bin/sh\n" + body.format(folder=folder, actions=actions))
    agent.chmod(0o755)
    secret = folder / "secret"
    secret.touch(0o600)
    lines = parameters.split("\n")
    secret.write_text("\n".join(line for line in lines if line.startswith("password")))
    parameters = "\n".join(line for line in lines if not line.startswith("password"))
    text = f'[[fence]]\nhost = "{HOSTS[0]}"\nname = "bmc-1"\nagent = "{agent}"\nsecret_file = "{secret}"\n'
    return read(folder, f"{text}[fence.parameters]\n{parameters}")


@pytest.mark.parametrize(
    "parameters",
    [
        "ip = 'x'",
        "ip = 'x'\nlogin_timeout = '5'\nnodename = 'n'",
        "ip = 'x'\nipport = '-1'\nlanplus = 'TRUE'\nauth = 'md5'\nlogin-timeout = '0.5'",
    ],
)
@pytest.mark.asyncio
async def test_devices_that_fit_are_taken(tmp_path: Path, parameters: str) -> None:
    assert await check_devices(device(tmp_path, parameters)) == ()


@pytest.mark.asyncio
async def test_an_outdated_name_is_taken_and_told(tmp_path: Path) -> None:
    (warning,) = await check_devices(device(tmp_path, "ipaddr = 'x'"))
    assert warning.endswith("[fence 1] device bmc-1: 'ipaddr' is outdated; it is called 'ip' now")


DEVICE_MISTAKES = {
    "misspelt parameter": (
        "ip = 'x'\npasword = 'x'",
        ALL,
        METADATA,
        r"no parameter 'pasword'; expected one of .*password",
    ),
    "missing parameter": ("password = x", ALL, METADATA, r"needs the parameter 'ip'"),
    "seconds with a unit": (
        "ip = 'x'\nlogin-timeout = '5s'",
        ALL,
        METADATA,
        r"login_timeout \(Wait X seconds\) has a value of another kind; expected a number of seconds, without a unit",
    ),
    "no number": ("ip = 'x'\nipport = 'ipmi'", ALL, METADATA, r"ipport \(Port to use\) .* a whole number"),
    "no boolean": ("ip = 'x'\nlanplus = 'ja'", ALL, METADATA, r'lanplus \(Use Lanplus\) .* expected "1" or "0"'),
    "none of its choices": ("ip = 'x'\nauth = 'md6'", ALL, METADATA, r"auth \(Auth type\) .* one of MD5, none"),
    "cuts off storage only": ("ip = 'x'", ALL.replace("reboot", "fabric"), METADATA, r"has no reboot"),
    "a forbidden one under another name": (
        "ip = 'x'",
        ALL,
        METADATA.replace('"fence_t"', '"fence_dummy"'),
        r"is fence_dummy, not allowed: it reports success",
    ),
    "no off": ("ip = 'x'", ALL.replace('"off"', '"disable"'), METADATA, r"no action 'off'"),
    "no status": ("ip = 'x'", ALL.replace("status", "stat"), METADATA, r"no action 'status'"),
    "refused by the agent": ("ip = 'x'\npassword=bad", ALL, METADATA, r"refuses these parameters: \*\*\* is no"),
    "no agent": ("ip = 'x'", ALL, "echo hello", r"answers metadata with something else"),
    "failing agent": ("ip = 'x'", ALL, "echo broken >&2; exit 1", r"gives no metadata: broken"),
}


@pytest.mark.parametrize("mistake", DEVICE_MISTAKES)
@pytest.mark.asyncio
async def test_devices_that_do_not_fit_are_refused(tmp_path: Path, mistake: str) -> None:
    parameters, actions, body, expected = DEVICE_MISTAKES[mistake]
    with pytest.raises(ConfigError, match=rf"\[fence 1\] device bmc-1: .*{expected}"):
        await check_devices(device(tmp_path, parameters, actions, body))


@pytest.mark.asyncio
async def test_an_absent_or_plain_file_is_no_agent(tmp_path: Path) -> None:
    config = device(tmp_path, "ip = 'x'")
    (tmp_path / "fence_t").chmod(0o644)
    with pytest.raises(ConfigError, match="is not executable"):
        await check_devices(config)
    (tmp_path / "fence_t").unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        await check_devices(config)


@pytest.mark.asyncio
async def test_a_collector_starts_without_an_agent_and_not_with_a_mistake(tmp_path: Path) -> None:
    config = device(tmp_path, "ip = 'x'", body="echo broken >&2; exit 1")
    (warning,) = await check_devices(config, lenient=True)
    assert "gives no metadata: broken" in warning
    (tmp_path / "fence_t").unlink()
    (warning,) = await check_devices(config, lenient=True)
    assert "does not exist" in warning
    with pytest.raises(ConfigError, match="no parameter 'pasword'"):
        await check_devices(device(tmp_path, "ip = 'x'\npasword = 'x'"), lenient=True)


def test_a_credential_of_the_unit(tmp_path: Path) -> None:
    """systemd hands it over with an ACL, which shows in its mode: that says nothing here."""
    named = AGENT + "secret_credential = 'bmc-h1'"
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    with pytest.raises(
        ConfigError, match=r"bmc-h1 is not there .* expected LoadCredential=bmc-h1:FILE.*systemctl edit"
    ):
        load(write_config(tmp_path, named), given)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/bmc-h1").write_text("password=hunter2\n")
    (tmp_path / "credentials/bmc-h1").chmod(0o440)
    config = load(write_config(tmp_path, named), given)
    assert config.fence[0].parameters == {"password": "hunter2"} and "hunter2" not in repr(config)
    for name in ("../secret", "", ".", "a/b"):
        with pytest.raises(ConfigError, match=r"secret_credential: is .* a name without slashes"):
            load(write_config(tmp_path, AGENT + f"secret_credential = '{name}'"), given)


@pytest.mark.needs("root")
def test_a_secret_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("password=x\n")
    os.chown(secret, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 999)  # what a collector that is not root would see, if it could read it
    with pytest.raises(
        ConfigError, match=r"belongs to user 12345; expected the collector's own user: chown poolwarden"
    ):
        read(tmp_path, AGENT + "secret_file = 'secret'")
    monkeypatch.undo()
    assert read(tmp_path, AGENT + "secret_file = 'secret'").fence[0].parameters == {"password": "x"}


def test_what_is_no_plain_small_file_of_text_is_refused_without_waiting(tmp_path: Path) -> None:
    secret, named = tmp_path / "secret", AGENT + "secret_file = 'secret'"
    os.mkfifo(secret, 0o600)
    with pytest.raises(ConfigError, match="is no plain file; expected a file of name=value lines"):
        read(tmp_path, named)
    secret.unlink()
    secret.touch(0o600)
    secret.write_bytes(b"password=" + b"x" * 70000)
    with pytest.raises(ConfigError, match="has 70009 bytes; expected at most 65536"):
        read(tmp_path, named)
    secret.write_bytes(b"password=hunter2\xff\n")
    with pytest.raises(ConfigError, match=r"it is no UTF-8") as error:
        read(tmp_path, named)
    assert "hunter2" not in repr(error.value.__cause__) + str(error.value)


def test_a_crash_leaves_no_core_not_of_a_child_either() -> None:
    """Both ways: the limit 1 stands for what the kernel would pipe to a program, and for a file."""
    child = "import os; os.abort()"
    script = (
        "import os, resource, subprocess, sys\nfrom poolwarden_collector.shell import core_dumps\ncore_dumps.forbid()\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (1, 1)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "status = os.waitpid(child.pid, 0)[1]\n"
        "assert os.WIFSIGNALED(status) and not os.WCOREDUMP(status)\nprint('none')\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "none\n"
