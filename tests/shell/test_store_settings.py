"""The table [store]: the etcd that several collectors share, and where this one is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.config_changes import unchangeable
from poolwarden_collector.shell.config.store import StoreSettings

from .rig import write_config

ETCD = 'etcd = ["https://192.0.2.21:2379", "https://etcd-2.example.com:2379"]'
FILES = 'ca = "tls/ca.pem"\ncert = "tls/cert.pem"\nkey = "tls/key.pem"'
REACHED = 'agents = "192.0.2.10:7443"\noperators = "[2001:db8::5]:7444"'
COLLECTOR = 'operator_listen = "127.0.0.1:0"'
FILES_NAMES = ("ca", "cert", "key")


def read(folder: Path, *lines: str, collector: str = COLLECTOR) -> Config:
    return load(write_config(folder, "\n".join(("[store]", *lines)), collector=collector))


def secret(folder: Path, text: str = "password=wet paint\n") -> str:
    file = folder / "etcd.secret"
    file.write_text(text)
    file.chmod(0o600)
    return f'secret_file = "{file}"'


def test_without_the_table_a_collector_is_alone(tmp_path: Path) -> None:
    config = load(write_config(tmp_path))
    assert config.store is None and not config.several


def test_all_of_it(tmp_path: Path) -> None:
    config = read(tmp_path, ETCD, FILES, REACHED, 'user = "warden"', secret(tmp_path), 'prefix = "site-a/pw"')
    store = config.store
    assert isinstance(store, StoreSettings) and config.several
    assert store.etcd.endpoints == ("https://192.0.2.21:2379", "https://etcd-2.example.com:2379")
    assert (store.etcd.ca, store.etcd.cert, store.etcd.key) == tuple(tmp_path / f"tls/{n}.pem" for n in FILES_NAMES)
    assert (store.etcd.user, store.etcd.password) == ("warden", "wet paint")
    assert (store.names, store.agents, store.operators) == (Names("site-a/pw"), "192.0.2.10:7443", "[2001:db8::5]:7444")
    assert "wet paint" not in repr(config) and "wet paint" not in repr(store.etcd)


def test_loopback_needs_no_certificate(tmp_path: Path) -> None:
    store = read(tmp_path, 'etcd = ["http://127.0.0.1:2379"]', REACHED).store
    assert store is not None and store.etcd.ca is None and store.names == Names()


WRONG = {
    "an address without etcd": ((REACHED,), r"\[store\] etcd: is missing; expected a list"),
    "no endpoint": (("etcd = []", FILES, REACHED), r"\[store\] etcd: has 0 endpoints"),
    "one of them twice": ((ETCD.replace("etcd-2.example.com", "192.0.2.21"), FILES, REACHED), r"etcd: has 2 endpoints"),
    "http over a network": (('etcd = ["http://192.0.2.21:2379"]', REACHED), r"etcd: cannot be used .*https alone"),
    "no endpoint at all": (('etcd = ["192.0.2.21"]', FILES, REACHED), r"etcd: cannot be used .*no endpoint of etcd"),
    "no certificate": ((ETCD, REACHED), r"\[store\] ca: is missing; expected a path"),
    "a key that is not there": ((ETCD, FILES.replace("tls/key", "tls/k"), REACHED), r"\[store\] key: .*cannot be read"),
    "a prefix with a slash": ((ETCD, FILES, REACHED, 'prefix = "/pw"'), r"\[store\] prefix: is '/pw'; expected a word"),
    "nowhere for agents": ((ETCD, FILES, 'operators = "h:1"'), r"\[store\] agents: is missing; expected HOST:PORT"),
    "no port": ((ETCD, FILES, REACHED.replace(":7443", "")), r"\[store\] agents: is '192.0.2.10'; expected HOST:PORT"),
    "nowhere for operators": ((ETCD, FILES, 'agents = "h:1"'), r"\[store\] operators: is missing; expected HOST:PORT"),
    "a user without a password": ((ETCD, FILES, REACHED, 'user = "pw"'), r"\[store\] user: has a user and no password"),
    "nearly a setting": ((ETCD, FILES, REACHED, 'prefx = "pw"'), r"\[store\] prefx: .*'prefix', perhaps"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_one_line(tmp_path: Path, name: str) -> None:
    lines, said = WRONG[name]
    with pytest.raises(ConfigError, match=said) as error:
        read(tmp_path, *lines)
    assert len(str(error.value).splitlines()) == 1


def test_a_password_needs_its_user_and_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has a password and no user"):
        read(tmp_path, ETCD, FILES, REACHED, secret(tmp_path))
    with pytest.raises(ConfigError, match=r"secret_file: has pasword as well; expected password=\.\.\. alone") as error:
        read(tmp_path, ETCD, FILES, REACHED, 'user = "pw"', secret(tmp_path, "pasword=wet paint\n"))
    assert "wet paint" not in str(error.value)


def test_each_of_several_has_a_name_and_is_reached_by_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[collector\] operator_listen: is missing, and \[store\] etcd is set"):
        read(tmp_path, ETCD, FILES, REACHED, collector="")
    file = write_config(tmp_path, "\n".join(("[store]", ETCD, FILES, REACHED)), collector=COLLECTOR)
    file.write_text(file.read_text().replace('name = "test"\n', ""))
    with pytest.raises(ConfigError, match=r"\[collector\] name: is missing; expected a name of its own"):
        load(file)


def test_a_running_collector_stays_where_its_pools_are(tmp_path: Path) -> None:
    before = read(tmp_path, ETCD, FILES, REACHED)
    after = read(tmp_path, ETCD, FILES, REACHED, 'prefix = "other"')
    assert unchangeable(before, after) == ("[store]",)
