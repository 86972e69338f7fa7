"""The block of each kind of channel: what is read, and each mistake as one clear line that shows no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poolwarden_collector.shell.alerts.channels import make_sinks
from poolwarden_collector.shell.config.alert_channels import Reach
from poolwarden_collector.shell.config.alert_kinds import Alertmanager, Apprise, Journald, Mail, Syslog, Webhook
from poolwarden_collector.shell.config.config import Config, ConfigError, load

from ..rig import write_config

SECRET = "s3cret-w0rd"
FULL = """
[[alerts.webhook]]
name = "signed"
secret_file = "webhook.secret"
ca = "tls/ca.pem"
[[alerts.mail]]
name = "duty"
server = "smtp.example.com"
from = "poolwarden@example.com"
to = ["duty@example.com"]
secret_file = "mail.secret"
severity = "critical"
[[alerts.mail]]
server = "127.0.0.1"
security = "none"
from = "poolwarden@example.com"
to = ["a@example.com", "b@example.com"]
[[alerts.apprise]]
secret_env.url = "SLACK_URL"
[[alerts.alertmanager]]
name = "am"
urls = ["https://am1.example.com:9093/", "https://am2.example.com:9093/prefix"]
secret_file = "am.secret"
[[alerts.syslog]]
server = "logs.example.com"
transport = "tls"
facility = "local3"
ca = "tls/ca.pem"
[[alerts.syslog]]
transport = "unix"
[[alerts.journald]]
"""


def read(folder: Path, blocks: str, **secrets: str) -> Config:
    file = write_config(folder, blocks)
    for name, text in secrets.items():
        (folder / f"{name}.secret").write_text(text)
        (folder / f"{name}.secret").chmod(0o600)
    return load(file, {"SLACK_URL": f"slack://T/B/{SECRET}", "WORD": SECRET})


def test_every_kind_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        FULL,
        webhook=f"url=https://hook.example.com/{SECRET}\nsecret={SECRET}\n",
        mail=f"user=anna\npassword={SECRET}\n",
        am=f"token={SECRET}\n",
    )
    ca = tmp_path / "tls/ca.pem"
    assert [channel.settings for channel in config.alerts.channels][1:] == [
        Webhook("signed", f"https://hook.example.com/{SECRET}", SECRET, ca),
        Mail(
            "duty", "smtp.example.com", 587, "starttls", "poolwarden@example.com", ("duty@example.com",), "anna", SECRET
        ),
        Mail("127.0.0.1", "127.0.0.1", 25, "none", "poolwarden@example.com", ("a@example.com", "b@example.com")),
        Apprise("slack", f"slack://T/B/{SECRET}"),
        Alertmanager("am", ("https://am1.example.com:9093", "https://am2.example.com:9093/prefix"), token=SECRET),
        Syslog("logs.example.com", "tls", "logs.example.com", 6514, 19, ca),
        Syslog("local", "unix", "/dev/log", 0, 3),
        Journald("local", Path("/run/systemd/journal/socket")),
    ]
    assert config.alerts.channels[2].reach == Reach("critical")
    assert config.alerts.names[1:] == (
        "webhook:signed", "mail:duty", "mail:127.0.0.1", "apprise:slack", "alertmanager:am", "syslog:logs.example.com",
        "syslog:local", "journald:local",
    )  # fmt: skip
    sinks = make_sinks(config.alerts, config.name, lambda pool, message: None)
    assert tuple(sink.name for sink in sinks) == config.alerts.names
    assert SECRET not in repr(config) and "anna" not in repr(config)


MAIL = '[[alerts.mail]]\nserver = "s.example"\nfrom = "a@b.example"\nto = ["c@d.example"]\n'
AM = '[[alerts.alertmanager]]\nurls = ["https://am.example"]\n'
HOOK = '[[alerts.webhook]]\nurl = "https://hook.example/x"\n'
SYSLOG = '[[alerts.syslog]]\nserver = "s.example"\n'
MISTAKES = {
    "a password in the file": (MAIL + f'password = "{SECRET}"', r"password: does not belong into this file; .*0600"),
    "a secret in the file": (HOOK + f'secret = "{SECRET}"', r"secret: does not belong into this file"),
    "a token in the file": (AM + f'token = "{SECRET}"', r"token: does not belong into this file"),
    "a secret of no use": (
        MAIL + 'secret_env.pass = "WORD"',
        r"gives 'pass', which is not used here; .*user, password",
    ),
    "two addresses": (HOOK + 'secret_env.url = "WORD"', r"url: is given by secret_file or secret_env as well"),
    "a variable that is not there": (HOOK + 'secret_env.secret = "NONE"', r"secret: NONE is not in the .*environment"),
    "a user without password": (MAIL + 'secret_env.user = "WORD"', r"secret_file: gives one of user and password"),
    "a password in clear text": (
        MAIL + 'security = "none"\nsecret_env.user = "WORD"\nsecret_env.password = "WORD"',
        r"security: is none, and a password would be sent in clear text",
    ),
    "a token in clear text": (
        AM.replace("https", "http") + 'secret_env.token = "WORD"',
        r"urls: is http, and a password or token would be sent in clear text",
    ),
    "a login within an address": (AM.replace("//", f"//u:{SECRET}@"), r"urls: holds a login; expected .*secret_file"),
    "user and token": (
        AM + 'secret_env.token = "WORD"\nsecret_env.user = "WORD"\nsecret_env.password = "WORD"',
        r"secret_file: gives no whole login",
    ),
    "no recipient": (MAIL.replace('["c@d.example"]', "[]"), r"to: is missing or empty"),
    "a header as recipient": (MAIL.replace("c@d", "c@d\\r\\nBcc: x@y"), r"to: .* is no mail address"),
    "two recipients in one": (MAIL.replace("c@d.example", "c@d.example, e@f.example"), r"to: .* is no mail address"),
    "a sender without a domain": (MAIL.replace("a@b.example", "anna"), r"from: 'anna' is no mail address"),
    "unknown security": (MAIL + 'security = "ssl"', r"security: is 'ssl'; expected \"starttls\" or \"tls\""),
    "port 0": (MAIL + "port = 0", r"port: is 0; expected a whole number from 1 to 65535"),
    "an authority that is not there": (MAIL + 'ca = "nowhere.pem"', r"ca: .*nowhere.pem cannot be read"),
    "a key as authority": (MAIL + 'ca = "tls/key.pem"', r"ca: .*key.pem holds no certificate"),
    "an authority without TLS": (
        HOOK.replace("https", "http") + 'ca = "tls/ca.pem"',
        r"ca: is of no use without TLS",
    ),
    "a blank in an address": (HOOK.replace("/x", f"/{SECRET} x"), r"url: has a blank or a character beyond ASCII"),
    "an address of no port": (HOOK.replace(".example/", f".example:x/{SECRET}"), r"url: is no http or https address"),
    "a name of two lines": (HOOK + 'name = "a\\nb"', r"name: is empty or has a control character"),
    "no apprise address": (f'[[alerts.apprise]]\nurl = "{SECRET}"', r"url: is no address of apprise"),
    "no apprise address at all": ("[[alerts.apprise]]\nname = 'x'", r"url: is missing"),
    "no replica": ("[[alerts.alertmanager]]\nurls = []", r"urls: is missing or empty"),
    "unknown transport": (SYSLOG + 'transport = "relp"', r"transport: is 'relp'; expected \"udp\" or"),
    "unknown facility": (SYSLOG + 'facility = "mine"', r"facility: is 'mine'; expected \"user\" or"),
    "syslog to nowhere": ("[[alerts.syslog]]\ntransport = 'tcp'", r"server: is missing"),
    "a server of a local socket": (SYSLOG + "transport = 'unix'", r"server: is no setting that is known here"),
    "two of one name": (HOOK + HOOK, r"webhook: 'hook.example' is the name of another webhook"),
    "a misspelt kind": ("[[alerts.email]]\n", r"email: is no setting that is known here; expected 'mail'"),
    "a misspelt key": (MAIL + "severty = 'info'", r"severty: is no setting that is known here; expected 'severity'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_clear_line(tmp_path: Path, mistake: str) -> None:
    blocks, expected = MISTAKES[mistake]
    with pytest.raises(ConfigError) as error:
        read(tmp_path, blocks)
    text = str(error.value)
    assert re.search(expected, text), text
    assert "\n" not in text and SECRET not in text


@pytest.mark.parametrize("secret", [f"secret={SECRET}\x07", "secret=", f"secret={SECRET}\nother=1"])
def test_what_a_secret_file_may_not_hold(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match="secret_file") as error:
        read(tmp_path, HOOK + 'secret_file = "hook.secret"', hook=secret)
    assert SECRET not in str(error.value)


def test_a_secret_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hook.secret").write_text(f"secret={SECRET}\n")
    (tmp_path / "hook.secret").chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640; expected mode 0600"):
        read(tmp_path, HOOK + 'secret_file = "hook.secret"')
