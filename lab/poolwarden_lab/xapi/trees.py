"""Disks: a host's tree in memory or in a real directory, and the first content of a pool's trees.

`make_pool_disks` lays out the hosts of one pool as they look right before their first start: identities, roles, the
pool secret and the same state.db everywhere. Every uuid comes from the seed, so that two runs have the same names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from poolwarden_lab.statedb import NULL_REF, StateDb, Table, dump_local, dump_map, dump_set, dump_state
from poolwarden_lab.xapi.database import DEVICES, TABLES
from poolwarden_lab.xapi.storage import add_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

STATE_DB = "var/lib/xcp/state.db"
NO_GUIDANCES: Mapping[str, Sequence[str]] = MappingProxyType({})
_GIB = 1 << 30


class MemoryDisk:
    """A tree in memory. `now` stamps changes, ms.

    `full`: writes fail as on a full disk, `read_only`: as on one mounted so; except below /run and /proc, which are
    not on it.
    """

    def __init__(self, files: dict[str, bytes] | None = None, now: Callable[[], int] = lambda: 0) -> None:
        self.files: dict[str, bytes] = dict(files or {})
        self.changed: dict[str, int] = {}  # path -> time of its last write, ms
        self.full = self.read_only = False
        self.now = now

    def read(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def write(self, path: str, content: bytes) -> None:
        if (self.full or self.read_only) and not path.startswith(("var/run/", "proc/")):
            code = errno.EROFS if self.read_only else errno.ENOSPC
            raise OSError(code, os.strerror(code), path)
        self.files[path] = content
        self.changed[path] = self.now()

    def exists(self, path: str) -> bool:
        return path in self.files

    def remove(self, path: str) -> None:
        self.files.pop(path, None)
        self.changed.pop(path, None)


class DirectoryDisk:
    """A real directory. Writes go to a temporary file beside the target, are synced and renamed, as xapi does."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        target = self._root / path
        temporary = target.with_name(target.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def exists(self, path: str) -> bool:
        return (self._root / path).exists()

    def remove(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class VmSpec:
    """A VM of the pool with one disk.

    host: the number of the host it runs on (0 is the master); None: halted. storage: on the shared SR, or on the local
    SR of that host (of the master if it is halted). tags, other_config, order, start_delay: as in its record.
    """

    name: str
    host: int | None = 0
    uuid: str = ""
    storage: Literal["shared", "local"] = "shared"
    memory_mib: int = 2048
    tags: tuple[str, ...] = ()
    other_config: tuple[tuple[str, str], ...] = ()
    order: int = 0
    start_delay: int = 0


@dataclass(frozen=True, slots=True)
class HostTree:
    """One host's first content. `vms` are the domains that run on it from the beginning."""

    name: str
    uuid: str
    address: str
    control_domain_uuid: str
    files: dict[str, bytes]
    vms: dict[str, str] = field(default_factory=dict)  # VM uuid -> name


def uuid_of(seed: str, kind: str, name: str) -> str:
    """The uuid that a named thing of a seeded pool has."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{seed}/{kind}/{name}"))


def make_pool_disks(
    n: int,
    pool_name: str,
    vms: Sequence[VmSpec] = (),
    *,
    addresses: Sequence[str] | None = None,
    seed: str | None = None,
    generation: int = 1000,
    ha_armed: bool = False,
    product_version: str = "8.3.0",
    https_only: Collection[str] = (),
    guidances: Mapping[str, Sequence[str]] = NO_GUIDANCES,
    devices: bool = False,
) -> list[HostTree]:
    """The trees of a pool of n hosts, the first of them master. Raises ValueError for n < 1.

    addresses: one IP literal per host (default 10.99.0.11 and up). seed: of every uuid (default the pool's name).
    https_only: hosts (h1 ..) whose records say so. guidances: by host, what its updates still need (reboot_host ..).
    devices: with network interfaces and metrics, which clients read and the model does not need.
    """
    if n < 1:
        raise ValueError("a pool has at least one host")
    seed = pool_name if seed is None else seed
    addresses = addresses or [f"10.99.0.{11 + number}" for number in range(n)]
    names = [f"h{number + 1}" for number in range(n)]
    tables = _tables(seed, pool_name, names, addresses, vms, product_version, devices)
    for name in names:
        row = tables["host"][_ref(seed, "host", name)]
        row["https_only"] = str(name in https_only).lower()
        row["pending_guidances"] = dump_set(list(guidances.get(name, ())))
    state = dump_state(StateDb(tables, generation))
    trees = []
    for number, name in enumerate(names):
        files = {
            "etc/xensource/pool.conf": b"master" if number == 0 else f"slave:{addresses[0]}".encode(),
            STATE_DB: state,
            STATE_DB + ".generation": str(generation).encode(),
            "var/lib/xcp/local.db": dump_local({"ha.armed": str(ha_armed).lower()}),
            **_identity(seed, pool_name, name, product_version, addresses[number]),
        }
        running = {_vm_uuid(seed, vm): vm.name for vm in vms if vm.host == number}
        control = uuid_of(seed, "control", name)
        trees.append(HostTree(name, uuid_of(seed, "host", name), addresses[number], control, files, running))
    return trees


def write_tree(tree: HostTree | MemoryDisk, path: Path) -> None:
    """Write the files below a directory, and make the directories that a dom0 has anyway."""
    for relative in ("var/lib/xcp", "var/run/xenstored", "var/log", "var/lib/poolwarden", "etc/poolwarden/tls", "proc"):
        (path / relative).mkdir(parents=True, exist_ok=True)
    (path / "var/lib/xcp").chmod(0o700)
    for name, content in tree.files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if name.endswith("ptoken"):
            target.chmod(0o600)


def boot_id(seed: str, name: str, boot: int) -> str:
    """The kernel's boot id in a host's n-th boot."""
    return uuid_of(seed, "boot", f"{name}/{boot}")


def _identity(seed: str, pool_name: str, name: str, product_version: str, address: str) -> dict[str, bytes]:
    token = "/".join(uuid_of(seed, "ptoken", str(part)) for part in range(3))
    inventory = {
        "INSTALLATION_UUID": uuid_of(seed, "host", name),
        "CONTROL_DOMAIN_UUID": uuid_of(seed, "control", name),
        "MANAGEMENT_INTERFACE": "xenbr0",
        "MANAGEMENT_ADDRESS_TYPE": "IPv6" if ":" in address else "IPv4",
        "PRODUCT_BRAND": "XCP-ng",
        "PRODUCT_VERSION": product_version,
        "BUILD_NUMBER": "lab",
    }
    return {
        "etc/xensource/ptoken": token.encode(),
        "etc/xensource-inventory": "".join(f"{key}='{value}'\n" for key, value in inventory.items()).encode(),
        "etc/hostname": f"{pool_name}-{name}\n".encode(),
        "proc/sys/kernel/random/boot_id": (boot_id(seed, name, 1) + "\n").encode(),
        "sys/class/dmi/id/product_uuid": (uuid_of(seed, "dmi", name) + "\n").encode(),
        "sys/class/dmi/id/sys_vendor": b"Poolwarden lab\n",
        "sys/class/dmi/id/product_name": b"simulated host\n",
        "sys/class/dmi/id/product_serial": f"LAB-{uuid_of(seed, 'serial', name)[:8]}\n".encode(),
    }


def _ref(seed: str, kind: str, name: str) -> str:
    return f"OpaqueRef:{uuid_of(seed, 'ref/' + kind, name)}"


def _vm_uuid(seed: str, vm: VmSpec) -> str:
    return vm.uuid or uuid_of(seed, "VM", vm.name)


def _tables(
    seed: str,
    pool_name: str,
    names: list[str],
    addresses: Sequence[str],
    vms: Sequence[VmSpec],
    version: str,
    devices: bool,
) -> dict[str, Table]:
    tables: dict[str, Table] = {kind: {} for kind in (*TABLES, *(DEVICES if devices else ()))}
    shared = _add_sr(tables, seed, "shared", "Shared storage", "nfs")
    network = _ref(seed, "network", "management")
    if devices:
        tables["network"][network] = {
            "uuid": uuid_of(seed, "network", "management"),
            "name__label": "Pool-wide network associated with eth0",
            "bridge": "xenbr0",
            "MTU": "1500",
            "managed": "true",
        }
    tables["pool"][_ref(seed, "pool", pool_name)] = {
        "uuid": uuid_of(seed, "pool", pool_name),
        "name_label": pool_name,  # of all classes the pool's alone are not namespaced (datamodel_pool.ml)
        "name_description": f"Simulated pool {pool_name}",
        "master": _ref(seed, "host", names[0]),
        "default_SR": shared,
        "ha_enabled": "false",
        "ha_configuration": dump_map({}),
        "ha_statefiles": dump_set([]),
        "is_psr_pending": "false",
        "tls_verification_enabled": "false",
        "other_config": dump_map({}),
    }
    for number, name in enumerate(names):
        _add_host(tables, seed, f"{pool_name}-{name}", name, addresses[number], shared, version)
        if devices:
            _add_pif(tables, seed, name, addresses[number], network)
    for vm in vms:
        place = NULL_REF if vm.host is None else _ref(seed, "host", names[vm.host])
        ref = f"OpaqueRef:{_vm_uuid(seed, vm)}"
        tables["VM"][ref] = _vm_row(_vm_uuid(seed, vm), vm.name, place, control=False)
        tables["VM"][ref].update(_own_words(vm))
        if devices:
            _add_devices(tables, seed, vm, ref, network)
        sr = shared if vm.storage == "shared" else _ref(seed, "SR", names[vm.host or 0])
        add_disk(tables, ref, vm.name, sr, place)
    return tables


def _add_sr(tables: dict[str, Table], seed: str, name: str, label: str, kind: str) -> str:
    ref = _ref(seed, "SR", name)
    tables["SR"][ref] = {
        "uuid": uuid_of(seed, "SR", name),
        "name__label": label,
        "type": kind,
        "content_type": "user",
        "shared": str(name == "shared").lower(),
        "physical_size": str(1024 * _GIB),
    }
    return ref


def _add_host(
    tables: dict[str, Table], seed: str, label: str, name: str, address: str, shared: str, version: str
) -> None:
    host, metrics = _ref(seed, "host", name), _ref(seed, "metrics", name)
    control = _ref(seed, "control", name)
    tables["host_metrics"][metrics] = {
        "uuid": uuid_of(seed, "metrics", name),
        "live": "true",
        "memory__total": str(64 * _GIB),
        "memory__free": str(48 * _GIB),
        "last_updated": "20260101T00:00:00Z",
        "other_config": dump_map({}),
    }
    tables["host"][host] = {
        "uuid": uuid_of(seed, "host", name),
        "name__label": label,
        "name__description": "Simulated host",
        "address": address,
        "hostname": label,
        "enabled": "true",
        "metrics": metrics,
        "control_domain": control,
        "software_version": dump_map({"product_brand": "XCP-ng", "product_version": version, "xapi_build": "26.1.3"}),
        "other_config": dump_map({}),
        "edition": "xcp-ng",
        "API_version__major": "2",
        "API_version__minor": "21",
    }
    local = _add_sr(tables, seed, name, f"Local storage on {label}", "lvm")
    _add_pbd(tables, seed, name, host, shared, {"server": "nas", "serverpath": "/pool"})
    _add_pbd(tables, seed, f"{name}/local", host, local, {"device": "/dev/sda3"})
    control_label = f"Control domain on host: {label}"
    tables["VM"][control] = _vm_row(uuid_of(seed, "control", name), control_label, host, control=True)


def _add_pif(tables: dict[str, Table], seed: str, name: str, address: str, network: str) -> None:
    """The management interface of a host."""
    pif, metrics = _ref(seed, "PIF", name), _ref(seed, "PIF_metrics", name)
    tables["PIF_metrics"][metrics] = {
        "uuid": uuid_of(seed, "PIF_metrics", name),
        "carrier": "true",
        "device_name": "eth0",
        "speed": "1000",
        "duplex": "true",
    }
    six = ":" in address
    tables["PIF"][pif] = {
        "uuid": uuid_of(seed, "PIF", name),
        "device": "eth0",
        "network": network,
        "host": _ref(seed, "host", name),
        "MAC": _mac(seed, name),
        "VLAN": "-1",
        "physical": "true",
        "currently_attached": "true",
        "management": "true",
        "ip_configuration_mode": "None" if six else "Static",
        "ipv6_configuration_mode": "Static" if six else "None",
        "primary_address_type": "IPv6" if six else "IPv4",
        "IP": "" if six else address,
        "netmask": "" if six else "255.255.255.0",
        "IPv6": dump_set([f"{address}/64"] if six else []),
        "metrics": metrics,
    }


def _add_devices(tables: dict[str, Table], seed: str, vm: VmSpec, ref: str, network: str) -> None:
    """A VM's memory, CPUs and network interface, as far as clients ask for them."""
    row, memory = tables["VM"][ref], str(vm.memory_mib << 20)
    metrics, vif = _ref(seed, "VM_metrics", vm.name), _ref(seed, "VIF", vm.name)
    for limit in ("static_max", "dynamic_max", "dynamic_min", "target"):
        row[f"memory__{limit}"] = memory
    row |= {"VCPUs__max": "2", "VCPUs__at_startup": "2", "metrics": metrics, "platform": dump_map({"acpi": "1"})}
    tables["VM_metrics"][metrics] = {
        "uuid": uuid_of(seed, "VM_metrics", vm.name),
        "memory__actual": memory,
        "VCPUs__number": "2",
    }
    tables["VIF"][vif] = {
        "uuid": uuid_of(seed, "VIF", vm.name),
        "device": "0",
        "VM": ref,
        "network": network,
        "MAC": _mac(seed, vm.name),
        "MTU": "1500",
        "currently_attached": str(vm.host is not None).lower(),
    }


def _mac(seed: str, name: str) -> str:
    """A locally administered address."""
    digits = uuid_of(seed, "MAC", name).replace("-", "")[:10]
    return ":".join(["02", *(digits[at : at + 2] for at in range(0, 10, 2))])


def _add_pbd(tables: dict[str, Table], seed: str, name: str, host: str, sr: str, device_config: dict[str, str]) -> None:
    tables["PBD"][_ref(seed, "PBD", name)] = {
        "uuid": uuid_of(seed, "PBD", name),
        "host": host,
        "SR": sr,
        "device_config": dump_map(device_config),
        "currently_attached": "true",
    }


def _own_words(vm: VmSpec) -> dict[str, str]:
    """What of a VM's row its spec says; what is as xapi makes it is left to the data model's defaults."""
    row = {"memory__static_max": str(vm.memory_mib << 20)}
    if vm.tags:
        row["tags"] = dump_set(list(vm.tags))
    if vm.other_config:
        row["other_config"] = dump_map(dict(vm.other_config))
    if vm.order or vm.start_delay:
        row.update(order=str(vm.order), start_delay=str(vm.start_delay))
    return row


def _vm_row(vm_uuid: str, label: str, place: str, *, control: bool) -> dict[str, str]:
    return {
        "uuid": vm_uuid,
        "name__label": label,
        "power_state": "Halted" if place == NULL_REF else "Running",
        "resident_on": place,
        "is_control_domain": str(control).lower(),
        "is_a_template": "false",
        "is_a_snapshot": "false",
        "other_config": dump_map({}),
    }
