"""The agent's configuration: one small INI file, checked whole before anything starts."""

import configparser
import os
import ssl
from typing import NamedTuple, Tuple

from poolwarden_agent.core import fence_order
from poolwarden_agent.core.addresses import is_address


class ConfigError(Exception):
    """The configuration cannot be used; the text says where, what, and what to do."""


Config = NamedTuple(
    "Config",
    [
        ("collectors", Tuple[Tuple[str, int], ...]),
        ("collector_name", str),
        ("management_address", str),
        ("xapi_http", Tuple[str, int]),
        ("xapi_tls_port", int),
        ("bmc_address", str),
        ("user", str),
        ("ca", str),
        ("certificate", str),
        ("key", str),
        ("fence_agents", Tuple[str, ...]),
        ("evidence", str),
    ],
)
HAND_OVER, KEEP, OFF = "hand-over", "keep", "off"  # what is done with evidence capsules
KNOWN = {
    "collector", "collector_name", "management_address", "xapi_http", "xapi_tls_port", "bmc_address", "user", "ca",
    "certificate", "key", "fence_agents", "evidence",
}  # fmt: skip
TLS = "etc/poolwarden/tls"
MOST_COLLECTORS = 16


class Certificates(NamedTuple):
    """The collector's CA, this host's certificate and its key, each PEM as in its file."""

    ca: bytes
    certificate: bytes
    key: bytes


def load(path: str, root: str) -> Config:
    """Read and check the file; relative defaults lie below ``root``.

    :raises ConfigError: with the file, the key, what is wrong and what is expected.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ConfigError(
            "%s: %s; create it with a section [agent] and collector = HOST:PORT" % (path, error.strerror)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("%s: is not a text file (UTF-8)" % path) from error
    except configparser.Error as error:
        raise ConfigError("%s: %s" % (path, " ".join(str(error).split()))) from error
    if not parser.has_section("agent"):
        raise ConfigError("%s: there is no section [agent]" % path)
    given = dict(parser.items("agent"))
    unknown = sorted(set(given) - KNOWN)
    if unknown:
        raise ConfigError("%s: unknown key %s; known are %s" % (path, unknown[0], ", ".join(sorted(KNOWN))))
    if not given.get("collector"):
        raise ConfigError("%s: collector is missing; expected HOST:PORT" % path)
    for key in ("management_address", "bmc_address"):
        if given.get(key) and not is_address(given[key]):
            raise ConfigError("%s: %s is %r; expected an IP address" % (path, key, given[key]))
    tls = os.path.join(root, TLS)
    return Config(
        _collectors(path, given["collector"]),
        given.get("collector_name", "collector"),
        given.get("management_address", ""),
        _endpoint(path, "xapi_http", given.get("xapi_http", "127.0.0.1:80")),
        _port(path, "xapi_tls_port", given.get("xapi_tls_port", "443")),
        given.get("bmc_address", ""),
        given.get("user", ""),
        given.get("ca", os.path.join(tls, "ca.pem")),
        given.get("certificate", os.path.join(tls, "cert.pem")),
        given.get("key", os.path.join(tls, "key.pem")),
        _fence_agents(path, given.get("fence_agents", "")),
        _evidence(path, given.get("evidence", HAND_OVER)),
    )


def _collectors(path: str, value: str) -> Tuple[Tuple[str, int], ...]:
    """Where collectors listen for agents, each address once."""
    found = tuple(_endpoint(path, "collector", item.strip()) for item in value.split(",") if item.strip())
    if not found:
        raise ConfigError("%s: collector is missing; expected HOST:PORT" % path)
    if len(found) > MOST_COLLECTORS:
        raise ConfigError("%s: collector has %d addresses; at most %d" % (path, len(found), MOST_COLLECTORS))
    if len(set(found)) != len(found):
        raise ConfigError("%s: collector has an address twice; expected each once" % path)
    return found


def _evidence(path: str, value: str) -> str:
    if value not in (HAND_OVER, KEEP, OFF):
        raise ConfigError("%s: evidence is %r; expected %s, %s or %s" % (path, value, HAND_OVER, KEEP, OFF))
    return value


def _fence_agents(path: str, value: str) -> Tuple[str, ...]:
    """The fence agents that this host may run for others: absolute paths, each name once."""
    found = tuple(item.strip() for item in value.split(",") if item.strip())
    for item in found:
        why = fence_order.banned(os.path.basename(item))
        if why:
            raise ConfigError("%s: fence_agents names %s, which is not allowed: %s" % (path, item, why))
        if not os.path.isabs(item):
            raise ConfigError(
                "%s: fence_agents has %r; expected absolute paths, e.g. /usr/sbin/fence_ipmilan" % (path, item)
            )
    names = [os.path.basename(item) for item in found]
    if len(set(names)) != len(names):
        raise ConfigError("%s: fence_agents has two of one name; expected each fence agent once" % path)
    return found


def read_certificates(config: Config) -> Certificates:
    """What the three files hold. :raises ConfigError: one cannot be read, or they are no certificates, or no pair."""
    found = []
    for path in (config.ca, config.certificate, config.key):
        try:
            with open(path, "rb") as stream:
                found.append(stream.read())
            if not found[-1]:
                raise OSError(0, "it is empty")
        except OSError as error:
            raise ConfigError(
                "%s: %s; the agent needs its own certificate and key, and the collector's CA" % (path, error.strerror)
            ) from error
    try:
        ssl.create_default_context(cafile=config.ca)
    except ssl.SSLError as error:
        raise ConfigError("%s: no certificate is in it (%s)" % (config.ca, error.reason)) from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS).load_cert_chain(config.certificate, config.key)
    except ssl.SSLError as error:
        both = (config.certificate, config.key, error.reason)
        raise ConfigError("%s and %s do not belong together, or are no certificate and key (%s)" % both) from error
    return Certificates(*found)


def _endpoint(path: str, key: str, value: str) -> Tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not host:
        raise ConfigError("%s: %s is %r; expected HOST:PORT" % (path, key, value))
    return host.strip("[]"), _port(path, key, port)


def _port(path: str, key: str, value: str) -> int:
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise ConfigError("%s: %s has the port %r; expected 1..65535" % (path, key, value))
    return int(value)
