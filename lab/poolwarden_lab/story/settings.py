"""What stands before ``start``: pools, VMs, devices, policy, what the log shows."""

from __future__ import annotations

from dataclasses import fields

from poolwarden_collector.core.policy import Policy, PolicyError
from poolwarden_lab.story.grammar import Cast, Lexicon, Misfit, Unreadable, nearest
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import duration
from poolwarden_lab.xapi.trees import VmSpec

MAX_HOSTS = 64
SETTINGS = Lexicon("command", "Before the start")


def _cast_pool(cast: Cast, hosts: int, name: str | None) -> None:
    if cast.pools:
        raise Misfit("this story has its pool already")
    if not 1 <= hosts <= MAX_HOSTS:
        raise Misfit(f"a pool has 1 to {MAX_HOSTS} hosts")
    pool = name or "lab"
    cast.pools.append(pool)
    names = [f"h{number}" for number in range(1, hosts + 1)]
    cast.hosts.update(dict.fromkeys(names, pool))
    cast.devices += [f"bmc-{host}" for host in names]


@SETTINGS.form("pool NUMBER [named NAME]", "A pool of so many hosts h1, h2 ...; h1 is its master.", declare=_cast_pool)
def pool(stage: Stage, hosts: int, name: str | None) -> None:
    stage.setup.hosts = hosts
    stage.setup.pool = name or "lab"


def _cast_vm(cast: Cast, name: str, host: str | None = None) -> None:
    if name in cast.vms:
        raise Misfit(f"there is a VM {name} already")
    cast.vms.append(name)


@SETTINGS.form("vm NAME on HOST", "A VM that runs there at first.", declare=_cast_vm)
def vm(stage: Stage, name: str, host: str) -> None:
    stage.setup.vms.append(VmSpec(name, int(host.rsplit("h", 1)[1]) - 1))


@SETTINGS.form("vm NAME halted", "A VM that does not run at first.", declare=_cast_vm)
def halted_vm(stage: Stage, name: str) -> None:
    stage.setup.vms.append(VmSpec(name, None))


_TYPES = {item.name: str(item.type) for item in fields(Policy)}


def setting(name: str, value: str) -> object:
    """A policy setting's value from its text. Raises Misfit."""
    kind = _TYPES.get(name)
    if kind is None:
        raise Misfit(f"unknown policy setting {name!r}{nearest(name, _TYPES)}")
    if kind == "bool":
        if value not in ("yes", "no"):
            raise Misfit(f"{name} is yes or no, not {value!r}")
        return value == "yes"
    if kind == "Ms":
        try:
            return duration(value)
        except ValueError as error:
            raise Misfit(str(error)) from None
    if kind == "int":
        if not value.isdigit():
            raise Misfit(f"{name} is a number, not {value!r}")
        return int(value)
    return tuple(value.split(",")) if kind.startswith("tuple") else value


def _check_policy(cast: Cast, name: str, value: str) -> None:
    setting(name, value)


@SETTINGS.form("policy WORD WORD", "A setting of the pool's policy, e.g. `policy patience 20s`.", declare=_check_policy)
def policy(stage: Stage, name: str, value: str) -> None:
    stage.setup.policy[name] = setting(name, value)


@SETTINGS.form("no devices", "No host has a fence device.")
def no_devices(stage: Stage) -> None:
    stage.setup.devices = False


@SETTINGS.form("with ha", "xapi's own HA is armed in this pool from the beginning.")
def ha_armed(stage: Stage) -> None:
    stage.setup.ha_armed = True


@SETTINGS.form("seed NUMBER", "What chance is drawn from (reconnect jitter); 0 unless said.")
def seed(stage: Stage, number: int) -> None:
    stage.setup.seed = number


@SETTINGS.form("log with WORD...", "Show these sources too: `readings`, `xapi`, `standing` ...")
def log_with(stage: Stage, sources: list[str]) -> None:
    stage.setup.log_with |= set(sources)


@SETTINGS.form("log without WORD...", "Leave these sources out (never what promotes, fences, kills, asks or alerts).")
def log_without(stage: Stage, sources: list[str]) -> None:
    stage.setup.log_without |= set(sources)


def _cast_start(cast: Cast, *_: object) -> None:
    if not cast.pools:
        raise Misfit("there is no pool to start: write `pool 3` before it")
    cast.started = True


@SETTINGS.form(
    "start",
    "Power on, start the collector, and wait until the pool is watched and Healthy. The log begins here.",
    declare=_cast_start,
)
def start(stage: Stage) -> None:
    _start(stage, True)


@SETTINGS.form("start unsettled", "The same, but the log begins at power-on.", declare=_cast_start)
def start_unsettled(stage: Stage) -> None:
    _start(stage, False)


def _start(stage: Stage, settle: bool) -> None:
    try:
        stage.start(settle)
    except PolicyError as error:
        raise Unreadable(str(error)) from None
