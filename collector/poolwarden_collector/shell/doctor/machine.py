"""What can be told of a collector's machine and files, whether it runs or not. Nothing is written.

Rule: what cannot be looked at is said, with the reason; it is never passed over and never taken for good.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from poolwarden_collector.shell.config.certificates import COLLECTOR_DNS
from poolwarden_collector.shell.config.config import Config, ConfigError, Tls, load
from poolwarden_collector.shell.config.page import PageSettings
from poolwarden_collector.shell.config.secrets import ENVIRONMENT_FILE, read_environment
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check, days
from poolwarden_collector.shell.hooks.condition import of_hooks
from poolwarden_collector.shell.store import journal, salvage, telemetry
from poolwarden_collector.shell.store.read_only import read_only

LOW_BYTES, FULL_BYTES = 1 << 30, 64 << 20
QUICK_CHECK_S = 20.0
_STEPS = 100_000  # of SQLite's machine between two looks at the clock
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # more than any struct timex has


def configuration(file: Path, environment: Mapping[str, str] | None = None) -> tuple[Check, Config | None]:
    """Is the file good as it is now?"""
    try:
        known = os.environ if environment is None else environment
        config = load(file, {**known, **read_environment(ENVIRONMENT_FILE)})
    except (ConfigError, OSError) as error:
        step = f"poolwarden-collector check-config {file}"
        unreadable = isinstance(error.__cause__ or error, PermissionError)
        return Check("configuration", UNCHECKED if unreadable else FAULT, str(error), step), None
    if cautions := config.cautions():
        step = f"correct {file}, then: poolwarden-collector reload"
        return Check("configuration", WARNING, f"{file}: {'; '.join(cautions)}", step), config
    return Check("configuration", OK, f"{file} is good"), config


def of_machine(config: Config) -> Iterator[Check]:
    """Everything of this machine; takes as long as the journal's check, so to be called in a thread."""
    yield clock()
    yield disk(config.state_dir)
    yield journal_file(config.state_dir / journal.FILE)
    yield telemetry_file(config.state_dir / telemetry.FILE)
    yield from certificates(config.tls)
    yield from fence_agents(config)
    if config.hooks.directory is not None:
        yield from hooks(config.hooks.directory)


def clock() -> Check:
    """Does the kernel hold its clock for synchronised? Nothing is decided by it; people and certificates need it."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError) as error:
        return Check("clock", UNCHECKED, f"the kernel cannot be asked: {error}")
    if state < 0:
        return Check("clock", UNCHECKED, f"the kernel does not say: {os.strerror(ctypes.get_errno())}")
    if state == _TIME_ERROR:
        text = "this machine's clock is not synchronised: times in history and alerts may be wrong"
        return Check("clock", WARNING, text, "run a time service, e.g. chronyd; look: timedatectl")
    return Check("clock", OK, "this machine's clock is synchronised")


def disk(folder: Path) -> Check:
    """Is there room for the journal? Without it nothing is decided or done."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return Check("disk", _hidden(error), f"{folder}: {error.strerror}", "run it as root or as user poolwarden")
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    inodes = found.f_favail / found.f_files if found.f_files else 1.0
    text = f"{free >> 20} of {total >> 20} MiB are free where the journal is ({folder})"
    if inodes < 0.02:
        text += f", and {inodes:.0%} of the inodes"
    step = f"make room there: df -h {folder}; without room nothing is decided in any pool"
    if free < FULL_BYTES:
        return Check("disk", FAULT, text, step)
    low = free < LOW_BYTES or inodes < 0.02
    return Check("disk", WARNING if low else OK, text, step if low else "")


def journal_file(path: Path, limit_s: float = QUICK_CHECK_S) -> Check:
    """SQLite's own check of the journal's pages and rows."""
    if not path.exists():
        return _missing("journal", path)
    until = time.monotonic() + limit_s
    try:
        with read_only(path) as db:
            db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            found = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
            (entries,) = db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            text = f"{path} ({path.stat().st_size >> 20} MiB) takes more than {limit_s:g} s to check"
            return Check("journal", UNCHECKED, text, "poolwarden-collector backup DIRECTORY checks the whole copy")
        return Check("journal", UNCHECKED, f"{path}: {error}", "run it as root or as user poolwarden")
    except (sqlite3.Error, OSError) as error:
        return _damaged(path, str(error))
    if found != ["ok"]:
        return _damaged(path, "; ".join(found))
    return Check("journal", OK, f"{path} is sound: {entries} entries, {path.stat().st_size >> 10} KiB")


def telemetry_file(path: Path) -> Check:
    """Can it be read? It decides nothing, so no more is asked of it."""
    if not path.exists():
        return Check("telemetry", OK, "there is none yet; it begins with the first facts of an agent")
    try:
        with read_only(path) as db:
            db.execute("SELECT count(*) FROM latest").fetchone()
    except (sqlite3.Error, OSError) as error:
        step = "it decides nothing: with the collector stopped it may be moved away"
        return Check("telemetry", WARNING, f"{path}: {error}", step)
    return Check("telemetry", OK, f"{path} can be read, {path.stat().st_size >> 20} MiB")


def certificates(tls: Tls) -> Iterator[Check]:
    """The collector's certificate and its authority: how long still, and whether they belong together."""
    step = "poolwarden-collector issue-collector DIR NAME ADDRESS; used from the next connection on"
    try:
        roots = x509.load_pem_x509_certificates(tls.ca.read_bytes())
        chain = x509.load_pem_x509_certificates(tls.cert.read_bytes())
        key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        unreadable = isinstance(error, PermissionError)
        yield Check("certificate", UNCHECKED if unreadable else FAULT, f"{tls.cert.parent}: {error}", step)
        return
    now, own = datetime.now(UTC), chain[0]
    yield days("certificate", _left(min(each.not_valid_after_utc for each in chain), now), f"{tls.cert}", step)
    of_all = "poolwarden-collector init-ca DIR in a new folder, then new certificates for all"
    yield days("authority", _left(min(each.not_valid_after_utc for each in roots), now), f"{tls.ca}", of_all)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        yield Check("certificate", FAULT, f"{tls.key} is not the key of {tls.cert}", step)
    if not _is_of(chain, roots):
        yield Check("certificate", FAULT, f"{tls.cert} is not of {tls.ca}", step)
    if COLLECTOR_DNS not in _dns_names(own):
        yield Check("certificate", FAULT, f'{tls.cert} is not for the name "{COLLECTOR_DNS}": agents refuse it', step)


def page_certificate(page: PageSettings) -> list[Check]:
    """How long browsers take the page's certificate still, and whether it has its key."""
    name, step = "page's certificate", f"put a new pair at {page.cert} and {page.key}; it is taken up at once"
    try:
        chain = x509.load_pem_x509_certificates(page.cert.read_bytes())
        key = serialization.load_pem_private_key(page.key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        level = UNCHECKED if isinstance(error, PermissionError) else FAULT
        return [Check(name, level, f"{page.cert.parent}: {error}", step)]
    now = datetime.now(UTC)
    found = [days(name, _left(min(each.not_valid_after_utc for each in chain), now), f"{page.cert}", step)]
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        found.append(Check(name, FAULT, f"{page.key} is not the key of {page.cert}", step))
    return found


def _left(end: datetime, now: datetime) -> float:
    return (end - now).total_seconds() / 86_400


def _is_of(chain: list[x509.Certificate], roots: list[x509.Certificate]) -> bool:
    """Is each certificate of the chain issued by the next one, and the last by a root?"""
    for certificate, above in zip(chain, [*([each] for each in chain[1:]), roots], strict=True):
        if not any(_issued(certificate, each) for each in above):
            return False
    return True


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except Exception:  # cryptography raises three kinds here, and a new one is no reason to stop
        return False
    return True


def fence_agents(config: Config) -> Iterator[Check]:
    """The program of each fence device."""
    lacking = 0
    for device in config.fence:
        if device.agent.is_file() and os.access(device.agent, os.X_OK) or device.via_members:
            continue
        lacking += 1
        why = "is not executable" if device.agent.is_file() else "does not exist"
        step = "install the fence agents (Debian: fence-agents), or correct agent = in its block"
        yield Check("fence agent", FAULT, f"{device.name} of host {device.host}: {device.agent} {why}", step)
    if not config.fence:
        step = "docs/fencing.md; poolwarden fence setup HOST"
        text = "no fence device is configured: every failover of a silent master waits for a person"
        yield Check("fence agent", WARNING, text, step)
    elif not lacking:
        yield Check("fence agent", OK, f"the programs of all {len(config.fence)} fence devices are there")


def hooks(directory: Path) -> Iterator[Check]:
    """What would not be run, or would fail, when the master changes."""
    found = of_hooks(directory)
    step = "mend it; then: poolwarden-collector check-config FILE, as the collector's user"
    yield from (Check("hooks", FAULT, why, step) for why in found.bad)
    if not found.bad:
        names = ", ".join(found.good) or "none, so nothing is run"
        yield Check("hooks", OK, f"what is run from {directory}: {names}")


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _hidden(error: OSError) -> str:
    return UNCHECKED if isinstance(error, PermissionError) else FAULT


def _missing(name: str, path: Path) -> Check:
    return Check(name, UNCHECKED, f"{path} is not there: no collector has begun with this state_dir, or it is hidden")


def _damaged(path: Path, why: str) -> Check:
    salvage.suspect(path)
    step = "restart the collector, which goes on with what is readable and keeps the damaged file; or restore the last "
    step += "backup (docs/backup-and-upgrade.md)"
    return Check("journal", FAULT, f"{path} is damaged: {why}", step)
