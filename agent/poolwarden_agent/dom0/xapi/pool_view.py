"""The pool as its serving master sees it: hosts, what is not plugged on them, and what xapi is busy with.

``ask(method, *params)`` makes one call in the own session. Hosts and tasks are read each time; storage changes seldom
and its table is long, so it is read each sixth time, and each time while something is not plugged.

A PBD says whether one host has one SR attached (xapi: PBD.currently_attached). The pool's default SR counts only for
hosts that have a PBD of it: a local default SR has one host.

What installed updates still need is in the host's record, by age of xapi: ``pending_guidances`` (22.20 and newer) and
``pending_guidances_recommended`` (24.10), each a set of words like ``reboot_host`` (ocaml/idl/datamodel_host.ml,
datamodel_types.ml: update_guidances); ``updates_requiring_reboot`` before them (7.1 to 8.2, the updates' references). A
XCP-ng that Xen Orchestra has updated says when in ``other_config:rpm_patch_installation_time``, to be compared with its
``boot_time``, both in seconds (xo-server, xapi-object-to-xo.mjs: rebootRequired). ``https_only`` is there since 22.27.

A look that its limit has cut off goes on where it stood: a xapi that takes seconds for each call would never be seen
otherwise. Its caller counts the view's age from the first of these looks.
"""

import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from poolwarden_agent.core.storage import Link, Repository, where
from poolwarden_agent.dom0.xapi.errors import XapiFault, XapiTimeout
from poolwarden_agent.host_port import PoolHost, PoolView

Ask = Callable[..., Any]
STORAGE_EVERY = 6
MOST_LOOKS = 12  # that one view is put together in
MOST_NAMES = 50
_GUIDANCES = ("pending_guidances", "pending_guidances_recommended")
_INSTALLED = "rpm_patch_installation_time"
LONGEST_NAME = 100
# Tasks that a restart of xapi would break: VM.export, Async.VM.migrate_send, [XO] Backup ..., VDI.copy, host.evacuate.
_WORD = re.compile(r"[a-z_]{1,60}\Z")
_BUSY = re.compile("export|import|backup|migrat|copy|evacuat", re.IGNORECASE)

# By host's reference: names of the SRs that are not plugged there, and whether the default SR is one of them; and the
# records that this is from.
Storage = NamedTuple(
    "Storage",
    [("unplugged", Dict[str, Tuple[str, ...]]), ("default", Dict[str, bool]), ("pbds", Any), ("srs", Any)],
)
NO_STORAGE = Storage({}, {}, {}, {})
MOST_REPOSITORIES = 128
MOST_LINKS = 64  # of one; a pool has at most as many hosts


class PoolLook(object):
    """Looks at the pool again and again; one caller at a time."""

    def __init__(self) -> None:
        self._storage: Optional[Storage] = None
        self._looks = 0
        self._known: Dict[Tuple[Any, ...], Any] = {}  # what a look that was cut off has been answered
        self._cut_off = 0

    def forget(self) -> None:
        """xapi is another process now."""
        self._storage = None
        self._begin()

    def _begin(self) -> None:
        self._known, self._cut_off = {}, 0

    def look(self, ask: Ask) -> PoolView:
        """One look. :raises XapiError, LookupError, TypeError, AttributeError: no view is to be had."""

        def asked(method: str, *params: Any) -> Any:
            if (method,) + params not in self._known:
                self._known[(method,) + params] = ask(method, *params)
            return self._known[(method,) + params]

        try:
            view = self._look(asked)
        except XapiTimeout:
            self._cut_off += 1
            if self._cut_off >= MOST_LOOKS:
                self._begin()
            raise
        except Exception:
            self._begin()
            raise
        self._begin()
        return view

    def _look(self, ask: Ask) -> PoolView:
        pool = ask("pool.get_all")[0]
        record = ask("pool.get_record", pool)
        hosts, metrics = ask("host.get_all_records"), ask("host_metrics.get_all_records")
        self._look_at_storage(ask, str(record.get("default_SR", "")))
        return _view(record, hosts, metrics, self._storage or NO_STORAGE, _busy(ask))

    def _look_at_storage(self, ask: Ask, default: str) -> None:
        due = self._looks % STORAGE_EVERY == 0 or self._storage is None or bool(self._storage.unplugged)
        self._looks += 1
        if due:
            self._storage = _storage(ask, default)


def _storage(ask: Ask, default: str) -> Storage:
    pbds, srs = _records(ask, "PBD"), _repository_records(ask)
    names: Dict[str, str] = {}
    unplugged: Dict[str, List[str]] = {}
    missing: Dict[str, bool] = {}
    for pbd in pbds.values():
        if pbd.get("currently_attached"):
            continue
        host, sr = str(pbd.get("host", "")), str(pbd.get("SR", ""))
        if sr not in names:
            names[sr] = _name(srs[sr]) if sr in srs else str(ask("SR.get_name_label", sr))[:LONGEST_NAME]
        unplugged.setdefault(host, []).append(names[sr])
        missing[host] = missing.get(host, False) or sr == default
    named = {host: tuple(sorted(found)[:MOST_NAMES]) for host, found in unplugged.items()}
    return Storage(named, missing, pbds, srs)


def _repository_records(ask: Ask) -> Any:
    """The records of the storage repositories. They are only shown: a xapi that does not tell them has a view all the
    same.
    """
    try:
        found = ask("SR.get_all_records")
    except (XapiFault, LookupError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(sr: Any) -> str:
    return str(sr.get("name_label", ""))[:LONGEST_NAME]


def _repositories(storage: Storage, hosts: Any, default: str) -> Tuple[Repository, ...]:
    """The storage repositories and where each is attached; those that are on every host's own disk as well."""
    links: Dict[str, List[Link]] = {}
    for pbd in storage.pbds.values():
        host = hosts.get(pbd.get("host"), {})
        config = {str(key): str(value) for key, value in pbd.get("device_config", {}).items()}
        link = Link(str(host.get("uuid", "")), bool(pbd.get("currently_attached")), where(config))
        links.setdefault(str(pbd.get("SR", "")), []).append(link)
    found = [
        Repository(
            str(sr.get("uuid", "")),
            _name(sr),
            str(sr.get("type", ""))[:LONGEST_NAME],
            bool(sr.get("shared")),
            ref == default,
            tuple(sorted(links.get(ref, ()))[:MOST_LINKS]),
        )
        for ref, sr in storage.srs.items()
    ]
    # What is shared is what many hosts lose at once: it is told first where there is more than is told.
    return tuple(sorted(found, key=lambda each: (not each.default, not each.shared, each.name))[:MOST_REPOSITORIES])


def _busy(ask: Ask) -> Tuple[str, ...]:
    """Names of the pending tasks that a restart of xapi would break."""
    names = {
        str(task.get("name_label", ""))[:LONGEST_NAME]
        for task in _records(ask, "task").values()
        if task.get("status") == "pending"
    }
    return tuple(sorted(name for name in names if _BUSY.search(name))[:MOST_NAMES])


def _records(ask: Ask, kind: str) -> Any:
    """All records of a class that every xapi has; none where it is not served at all."""
    try:
        found = ask(kind + ".get_all_records")
    except XapiFault as fault:
        if fault.code != "MESSAGE_METHOD_UNKNOWN":
            raise
        return {}
    return found


def _guidances(host: Any) -> Tuple[str, ...]:
    """What updates that are installed on a host still need there, in xapi's words."""
    found = {str(word) for name in _GUIDANCES for word in host.get(name, ())}
    config = host.get("other_config", {})
    if host.get("updates_requiring_reboot") or _seconds(config, _INSTALLED) > _seconds(config, "boot_time") > 0:
        found.add("reboot_host")
    return tuple(sorted(word for word in found if _WORD.match(word))[:MOST_NAMES])


def _seconds(config: Any, name: str) -> float:
    try:
        return float(config.get(name, 0))
    except ValueError:
        return 0.0


def _view(record: Any, hosts: Any, metrics: Any, storage: Storage, busy: Tuple[str, ...]) -> PoolView:
    live = {ref: bool(item.get("live")) for ref, item in metrics.items()}
    found = tuple(
        PoolHost(
            str(host.get("uuid", "")),
            str(host.get("name_label", "")),
            str(host.get("address", "")),
            bool(host.get("enabled")),
            live.get(host.get("metrics"), False),
            storage.unplugged.get(ref, ()),
            storage.default.get(ref, False),
            _guidances(host),
            bool(host["https_only"]) if "https_only" in host else None,
        )
        for ref, host in hosts.items()
    )
    master = hosts.get(record.get("master"), {})
    upgrade = "rolling_upgrade_in_progress" in record.get("other_config", {})
    name, pool = str(record.get("name_label", "")), str(record.get("uuid", ""))
    by_uuid = tuple(sorted(found))
    told = _repositories(storage, hosts, str(record.get("default_SR", "")))
    armed = bool(record.get("ha_enabled"))
    return PoolView(pool, name, str(master.get("uuid", "")), by_uuid, armed, upgrade, busy, told)
