"""``poolwarden-agent enrol``: this host gets its certificate from the collector, by a token.

    poolwarden-agent enrol --collector HOST:PORT --token TOKEN --ca-fingerprint HEX [--start]
    poolwarden-agent enrol --status

HOST:PORT is the collector's enrolment address. Rules:

* The key is made here and leaves this host never; what is sent is a request that it has signed, who this host is by its
  own files, and what its machine says of itself.
* The token goes to a collector whose authority has the given fingerprint, and to nobody else. ``--token -`` reads it
  from standard input, ``--token @FILE`` from a file, so that it stands in no list of processes.
* The key that is being certified is kept until it is: asking again after whatever went wrong asks for the same key. A
  host that has been enrolled asks with the key that it has; ``--new-key`` makes another one, which a person accepts.
* Files are replaced together (dom0/identity/tls_files.py), then agent.conf gets the collector's address and name.

Exit status: 0 enrolled, 1 the collector says no, 2 wrong usage or something here, 3 the collector is not reached, 4 a
person has to accept this host's key: run the same command again then.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from poolwarden.enrolment_client import Door, EnrolmentError, plain
from poolwarden_agent import __version__
from poolwarden_agent.config import MOST_COLLECTORS, TLS, ConfigError, load
from poolwarden_agent.core import certificate
from poolwarden_agent.core.collector_turns import joined, parsed
from poolwarden_agent.dom0.identity import agent_conf, openssl
from poolwarden_agent.dom0.identity.openssl import OpensslError
from poolwarden_agent.dom0.identity.tls_files import CERTIFICATE, KEY, Terms, TlsError, TlsFiles
from poolwarden_agent.dom0.system import files, order_key
from poolwarden_agent.dom0.xapi import database
from poolwarden_agent.process import link_file

ENROLLED, REFUSED, WRONG, UNREACHED, WAITS = 0, 1, 2, 3, 4
MOST_TOKEN = 512
UNIT = "poolwarden-agent.service"
_ORDER_KEY = re.compile("[0-9a-f]{64}\\Z")
_NAME = re.compile("[A-Za-z0-9._-]{1,128}\\Z")
_TOKEN = re.compile("[!-~]{8,%d}\\Z" % MOST_TOKEN)
_DMI = {
    "system_uuid": "product_uuid",
    "system_serial": "product_serial",
    "board_serial": "board_serial",
    "chassis_serial": "chassis_serial",
    "vendor": "sys_vendor",
    "model": "product_name",
}


class Trouble(Exception):
    """It cannot be done here: a sentence, what to do, and the exit status."""

    def __init__(self, text: str, next_step: str = "", status: int = WRONG) -> None:
        super().__init__(text)
        self.text, self.next_step, self.status = text, next_step, status


def main(words: List[str]) -> int:
    """The command with these arguments; its exit status."""
    given = _arguments(words)
    tls = TlsFiles(os.path.join(given.root, TLS))
    try:
        if given.status:
            return _status(given.root, tls)
        if not (given.collector and given.token and given.ca_fingerprint):
            raise Trouble(
                "enrol needs --collector HOST:PORT, --token TOKEN and --ca-fingerprint HEX",
                "all three are printed by: poolwarden token create --pool POOL",
            )
        return _enrol(given, tls)
    except EnrolmentError as error:
        return _fail(error.text, error.next_step, REFUSED if error.word else UNREACHED)
    except Trouble as error:
        return _fail(error.text, error.next_step, error.status)
    except TlsError as error:
        return _fail(str(error), "run this as root, with room on the disk, and again: nothing was half replaced", WRONG)
    except OpensslError as error:
        return _fail(str(error), "the agent uses dom0's own: rpm -q openssl", WRONG)


def _arguments(words: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="poolwarden-agent enrol", description="Gets this host its certificate from the collector."
    )
    parser.add_argument("--collector", default="", metavar="HOST:PORT", help="the collector's enrolment address")
    parser.add_argument("--token", default="", help="the token; - reads it from standard input, @FILE from a file")
    parser.add_argument("--ca-fingerprint", default="", metavar="HEX", help="SHA-256 of the collector's authority")
    parser.add_argument("--start", action="store_true", help="then enable and start the agent")
    parser.add_argument("--new-key", action="store_true", help="make a new key although this host has been enrolled")
    parser.add_argument("--status", action="store_true", help="show this host's certificate and change nothing")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    return parser.parse_args(words)


# ---------------------------------------------------------------------------------------------- enrolling


def _enrol(given: argparse.Namespace, tls: TlsFiles) -> int:
    host = files.inventory(given.root).get("INSTALLATION_UUID", "")
    if not host:
        raise Trouble("%s has no INSTALLATION_UUID in etc/xensource-inventory: is this a dom0?" % given.root)
    conf = os.path.join(given.root, "etc/poolwarden/agent.conf")
    _own_places(conf)
    token = _token(given.token)
    try:
        os.makedirs(tls.directory, mode=0o750, exist_ok=True)
    except OSError as error:
        raise TlsError("%s: %s" % (tls.directory, error.strerror)) from None
    with tls.settled() as said:
        if said:
            print(said)
    door = Door(given.collector, given.ca_fingerprint)
    answer = _certified(door, token, given, tls, host)
    collectors, name = _addresses(answer)
    terms = _terms(answer)
    tls.install(_pem(answer, "certificate"), _pem(answer, "ca"), terms, _order_keys(answer))
    listed = ", ".join(collectors)
    try:
        agent_conf.write(conf, {"collector": listed, "collector_name": name})
    except OSError as error:
        raise Trouble("%s: %s" % (conf, error.strerror), "make room or become root, and run this again") from None
    print("enrolled: host %s, agents' address %s; the next certificate comes by itself" % (host, listed))
    return _started(given.root) if given.start else _advise()


def _own_places(conf: str) -> None:
    """Whoever keeps certificates of his own elsewhere has said so in agent.conf, and this would not be read."""
    try:
        with open(conf, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble("%s cannot be read: %s" % (conf, error)) from None
    named = re.search(r"^[ \t]*(ca|certificate|key)[ \t]*[=:]", text, re.MULTILINE)
    if named:
        raise Trouble(
            "%s names files of its own (%s = ...), where enrolment does not write" % (conf, named.group(1)),
            "take the lines ca, certificate and key out of it first, or go on with those certificates",
        )


def _token(text: str) -> str:
    """The token itself, from where it was said to be."""
    if text == "-":
        text = sys.stdin.readline(MOST_TOKEN + 2)
    elif text.startswith("@"):
        try:
            with open(text[1:], encoding="ascii", errors="replace") as file:
                text = file.readline(MOST_TOKEN + 2)
        except OSError as error:
            raise Trouble("the token's file %s: %s" % (text[1:], error.strerror)) from None
    if not _TOKEN.match(text.strip()):
        raise Trouble("that is no token", "make one on the collector's side: poolwarden token create --pool POOL")
    return text.strip()


def _certified(door: Door, token: str, given: argparse.Namespace, tls: TlsFiles, host: str) -> Dict[str, Any]:
    """The collector's answer for the key that waits here."""
    known = tls.read(KEY) if tls.terms() is not None and not given.new_key else b""
    path = tls.next_key(lambda: known or openssl.new_key())
    request = openssl.request(path).decode("ascii", "replace")
    asked = {"token": token, "csr": request, "host_uuid": host, "host_name": files.host_name(given.root)}
    asked.update(pool_uuid=_pool(given.root), agent_version=__version__)
    asked["machine"] = {name: files.read(given.root, "sys/class/dmi/id/" + file) or "" for name, file in _DMI.items()}
    status, answer = door.json("POST", "/v1/enrol", asked)
    if not isinstance(answer, dict):
        raise Trouble("the collector's answer cannot be read; nothing was changed", "see its log", REFUSED)
    if status == 202:
        raise Trouble(
            plain(answer.get("waiting"))
            or "the collector knows this host by another key: a person has to accept this one",
            "this host's key is %s: at the collector poolwarden enrolment list, then poolwarden enrolment accept %s; "
            "then run this again" % ((openssl.key_digest(path)[:16],) * 2),
            WAITS,
        )
    return answer


def _pool(root: str) -> str:
    """The pool that this host's own database names; empty where that cannot be read."""
    try:
        return database.view(root).pool
    except Exception:  # whatever a database may hold: the token says which pool it is
        return ""


def _pem(answer: Dict[str, Any], name: str) -> bytes:
    text = answer.get(name)
    if not isinstance(text, str) or "-----BEGIN CERTIFICATE-----" not in text:
        raise Trouble("the collector's answer holds no %s; nothing was changed" % name, "see its log", REFUSED)
    return text.encode("ascii", "replace")


def _addresses(answer: Dict[str, Any]) -> Tuple[List[str], str]:
    """Where agents dial, that collector first, and the name that they find there; all go into a configuration file."""
    name = answer.get("collector_name") or "collector"
    found = [answer.get("collector")] + _more(answer, "collectors")
    addresses = list(dict.fromkeys(each if isinstance(each, str) else "" for each in found))
    wrong = [each for each in addresses if parsed(each) is None]
    if wrong or len(addresses) > MOST_COLLECTORS or not isinstance(name, str) or not _NAME.match(name):
        raise Trouble("the collector's answer names no address for agents; nothing was changed", "see its log", REFUSED)
    return addresses, name


def _order_keys(answer: Dict[str, Any]) -> List[str]:
    """Whose orders are obeyed here from now on: that collector's, then those of the ones that may take its place."""
    found = [answer.get("order_key")] + _more(answer, "order_keys")
    keys = list(dict.fromkeys(each if isinstance(each, str) else "" for each in found))
    if len(keys) > order_key.MOST or not all(_ORDER_KEY.match(each) for each in keys):
        raise Trouble("the collector's answer holds no key of its orders; nothing was changed", "see its log", REFUSED)
    return keys


def _more(answer: Dict[str, Any], name: str) -> List[Any]:
    """A list of an answer; one that a collector of an earlier version does not give is empty."""
    found = answer.get(name) or []
    return found if isinstance(found, list) else [None]


def _terms(answer: Dict[str, Any]) -> Terms:
    """When it came and when its successor is asked for; a day later where the collector does not say."""
    after = answer.get("renew_after_s")
    seconds = float(after) if isinstance(after, (int, float)) and 0 < after < 1e9 else 86400.0
    return Terms(time.time(), seconds)


# ---------------------------------------------------------------------------------------------- afterwards


def _systemctl(root: str, *words: str) -> Optional[str]:
    """None if it went well, else what it said."""
    command = [os.path.join(root, "usr/bin/systemctl")] + list(words)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else plain(done.stdout.decode("utf-8", "replace")) or "no reason given"


def _started(root: str) -> int:
    for words in (("enable", UNIT), ("restart", UNIT)):
        said = _systemctl(root, *words)
        if said is not None:
            raise Trouble("enrolled, but systemctl %s failed: %s" % (" ".join(words), said), "journalctl -u " + UNIT)
    print("the agent is started")
    return ENROLLED


def _advise() -> int:
    print(
        "  next: systemctl enable --now poolwarden-agent   (where it runs already: systemctl restart poolwarden-agent)"
    )
    return ENROLLED


def _status(root: str, tls: TlsFiles) -> int:
    if not tls.read(CERTIFICATE):
        print("not enrolled: there is no certificate in %s" % tls.directory)
        return REFUSED
    shown = openssl.show(tls.path(CERTIFICATE))
    terms = tls.terms()
    print("identity:    %s" % (", ".join(shown.uris) or "none"))
    print("certificate: serial %s, ends for TLS %s" % (shown.serial or "?", _day(_ends(tls))))
    if terms is None:
        print("renewal:     not by itself: it was not issued by enrolment")
    else:
        print("renewal:     issued %s, asked for after %d h" % (_day(terms.issued_s), terms.renew_after_s // 3600))
    pinned = order_key.OrderKeys(root).look()
    keys = ", or ".join("key %s" % each.public.hex() for each in pinned.keys)
    print(
        "orders:      %s" % (pinned.trouble or ("signed by %s" % keys if keys else "taken unsigned: no key is pinned"))
    )
    try:
        config = load(os.path.join(root, "etc/poolwarden/agent.conf"), root)
        listed = ", ".join(joined(each) for each in config.collectors)
        print("collector:   %s, named %s" % (listed, config.collector_name))
    except ConfigError as error:
        print("collector:   %s" % error)
    print("now:         %s" % link_file.shown(root, files.read(root, files.BOOT_ID) or "", " " * 13))
    return ENROLLED


def _ends(tls: TlsFiles) -> float:
    try:
        return float(certificate.expires(tls.read(CERTIFICATE).decode("ascii", "replace")))
    except ValueError:
        return 0.0


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if seconds else "?"


def _fail(text: str, next_step: str, status: int) -> int:
    sys.stderr.write("poolwarden-agent: %s\n" % text)
    if next_step:
        sys.stderr.write("  %s\n" % next_step)
    return status
