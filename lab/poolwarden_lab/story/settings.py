"""What stands before ``start``: pools, VMs, devices, policy, what the log shows."""

from __future__ import annotations

from dataclasses import fields, replace

from poolwarden_collector.core.model.policy import Policy, PolicyError
from poolwarden_lab.story.book import SOURCES
from poolwarden_lab.story.grammar import Cast, Lexicon, Misfit, Unreadable, nearest
from poolwarden_lab.story.stage import Draft, Stage
from poolwarden_lab.story.text import duration
from poolwarden_lab.virtual.several.world_etcd import ETCD
from poolwarden_lab.virtual.world.spec import PDU
from poolwarden_lab.xapi.trees import VmSpec

MAX_HOSTS = 64
SETTINGS = Lexicon("command", "Before the start")


# ------------------------------------------------------------------------------------------------ pools


def _cast_one(cast: Cast, hosts: int, pool: str) -> None:
    if pool in cast.pools:
        raise Misfit(f"there is a pool {pool} already; give each its name: `pool 3 named A`")
    if not 1 <= hosts <= MAX_HOSTS:
        raise Misfit(f"a pool has 1 to {MAX_HOSTS} hosts")
    cast.pools.append(pool)
    prefix = f"{pool}/" if cast.several else ""
    for number in range(1, hosts + 1):
        cast.hosts[f"{prefix}h{number}"] = pool
        cast.devices.append(f"bmc-{prefix}h{number}")


def _cast_pool(cast: Cast, hosts: int, name: str | None, site: str | None) -> None:
    _cast_one(cast, hosts, name or "lab")


@SETTINGS.form(
    "pool NUMBER [named NAME] [at NAME]",
    "A pool of so many hosts h1, h2 ...; h1 is its master. With several pools the hosts are A/h1 ... `at`: its site.",
    declare=_cast_pool,
)
def pool(stage: Stage, hosts: int, name: str | None, site: str | None) -> None:
    stage.setup.pools[name or "lab"] = Draft(name or "lab", hosts, site or "")


def _cast_pools(cast: Cast, count: int, hosts: int, site: str | None) -> None:
    if count > 1000:
        raise Misfit("at most 1000 pools")
    for number in range(1, count + 1):
        _cast_one(cast, hosts, f"p{number}")


@SETTINGS.form("pools NUMBER of NUMBER hosts [at NAME]", "Pools p1, p2 ... with hosts p1/h1 ...", declare=_cast_pools)
def pools(stage: Stage, count: int, hosts: int, site: str | None) -> None:
    for number in range(1, count + 1):
        stage.setup.pools[f"p{number}"] = Draft(f"p{number}", hosts, site or "")


def _draft(stage: Stage, host: str) -> Draft:
    return stage.setup.pools[stage.cast.hosts[host]]


def _number(host: str) -> int:
    return int(host.rsplit("h", 1)[1])


def _drafts(stage: Stage, pool: str | None) -> list[Draft]:
    return [stage.setup.pools[pool]] if pool else list(stage.setup.pools.values())


# ------------------------------------------------------------------------------------------------ VMs, devices, agents


def _cast_vm(cast: Cast, name: str, _: object = None) -> None:
    if name in cast.vms:
        raise Misfit(f"there is a VM {name} already")
    cast.vms.append(name)


@SETTINGS.form("vm NAME on HOST", "A VM that runs there at first.", declare=_cast_vm)
def vm(stage: Stage, name: str, host: str) -> None:
    _draft(stage, host).vms.append(VmSpec(name, _number(host) - 1))


@SETTINGS.form("local vm NAME on HOST", "The same, with its disks on that host's own storage.", declare=_cast_vm)
def local_vm(stage: Stage, name: str, host: str) -> None:
    _draft(stage, host).vms.append(VmSpec(name, _number(host) - 1, storage="local"))


@SETTINGS.form("vm NAME halted", "A VM that does not run at first.", declare=_cast_vm)
def halted_vm(stage: Stage, name: str) -> None:
    next(iter(stage.setup.pools.values())).vms.append(VmSpec(name, None))


@SETTINGS.form(
    "wished vm VM [order NUMBER] [delay TIME]",
    "Its owner wishes it to be started by itself (tag poolwarden:start), with this VM.order and VM.start_delay.",
)
def wished_vm(stage: Stage, vm: str, order: int | None, delay: int | None) -> None:
    for draft in stage.setup.pools.values():
        draft.vms = [
            replace(spec, tags=("poolwarden:start",), order=order or 0, start_delay=(delay or 0) // 1000)
            if spec.name == vm
            else spec
            for spec in draft.vms
        ]


@SETTINGS.form("no devices [for POOL]", "No host has a fence device.")
def no_devices(stage: Stage, pool: str | None) -> None:
    for draft in _drafts(stage, pool):
        draft.devices = []


def _cast_pdu(cast: Cast, pool: str | None) -> None:
    for host, of in cast.hosts.items():
        if pool in (None, of):
            cast.devices += [f"pdu-a-{host}", f"pdu-b-{host}"]


@SETTINGS.form(
    "with pdu [for POOL]",
    "Each host has two PDU outlets besides its BMC, pdu-a-h1 and pdu-b-h1, one per feed: the second level.",
    declare=_cast_pdu,
)
def with_pdu(stage: Stage, pool: str | None) -> None:
    for draft in _drafts(stage, pool):
        draft.devices.append(PDU)


@SETTINGS.form("with ha [for POOL]", "xapi's own HA is armed from the beginning.")
def with_ha(stage: Stage, pool: str | None) -> None:
    for draft in _drafts(stage, pool):
        draft.ha_armed = True


@SETTINGS.form("without gate [for POOL]", "The agents are older ones, without a boot gate.")
def without_gate(stage: Stage, pool: str | None) -> None:
    for draft in _drafts(stage, pool):
        draft.gated = False


@SETTINGS.form(
    "full stops [for POOL]",
    "As on real hosts: a stop of a xapi that answers nothing takes 90 s until SIGTERM and 90 s more until SIGKILL, and "
    "a master that cannot flush neither stops nor starts.",
)
def full_stops(stage: Stage, pool: str | None) -> None:
    for draft in _drafts(stage, pool):
        draft.full_stops = True


@SETTINGS.form("fence agents run by HOSTS...", "Members run the fence agents for the collector: these are allowed to.")
def fence_agents_run_by(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        draft = _draft(stage, host)
        draft.runners = [*(draft.runners or []), f"h{_number(host)}"]


@SETTINGS.form("no agent on HOSTS...", "These members have no agent at all.")
def no_agent(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        _draft(stage, host).absent.append(f"h{_number(host)}")


@SETTINGS.form(
    "failed ASSUMPTION on HOSTS...", "This was seen to fail on these hosts long ago, in a Healthy pool: it counts."
)
def failed(stage: Stage, id: str, hosts: list[str]) -> None:
    for host in hosts:
        _draft(stage, host).failed.setdefault(f"h{_number(host)}", []).append(id)


@SETTINGS.form(
    "https-only [on HOSTS...]",
    "These hosts' firewalls (all hosts') drop TCP 80 from other hosts; TCP 443 is as usual.",
)
def https_only(stage: Stage, hosts: list[str] | None) -> None:
    for host in hosts if hosts is not None else stage.cast.hosts:
        _draft(stage, host).https_only.append(f"h{_number(host)}")


@SETTINGS.form(
    "mute devices on HOSTS...",
    "The BMCs of these hosts do not tell which machine they switch; whoever set the pool up has attested them.",
)
def mute_devices(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        _draft(stage, host).mute.append(f"h{_number(host)}")


def _check_group(cast: Cast, hosts: list[str]) -> None:
    if len(hosts) < 2 or len({cast.hosts[host] for host in hosts}) > 1:
        raise Misfit("name two or more hosts of one pool")


@SETTINGS.form(
    "chassis of HOSTS...",
    "These hosts share their power feeds: an outlet that is switched off takes it from all of them (with pdu).",
    declare=_check_group,
)
def chassis(stage: Stage, hosts: list[str]) -> None:
    _draft(stage, hosts[0]).enclosures.append([f"h{_number(host)}" for host in hosts])


@SETTINGS.form(
    "one bmc for HOSTS...",
    "Their BMCs are one and the same chassis manager: it reads ON while one of them runs, its off takes them all, and "
    "it tells its own UUID.",
    declare=_check_group,
)
def one_bmc(stage: Stage, hosts: list[str]) -> None:
    _draft(stage, hosts[0]).managers.append([f"h{_number(host)}" for host in hosts])


# ------------------------------------------------------------------------------------------------ collectors


def _cast_collectors(cast: Cast, count: int) -> None:
    if not 2 <= count <= 5:
        raise Misfit("several collectors are 2 to 5 here")
    cast.collectors[:] = [f"c{number}" for number in range(1, count + 1)]
    cast.stores.append(ETCD)


@SETTINGS.form(
    "collectors NUMBER",
    "Several collectors c1, c2 ... over one etcd (the node etcd), instead of one alone. Every pool has one owner.",
    declare=_cast_collectors,
)
def collectors(stage: Stage, count: int) -> None:
    stage.setup.collectors = count


# ------------------------------------------------------------------------------------------------ policy

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


def _check_policy(cast: Cast, name: str, value: str, pool: str | None) -> None:
    setting(name, value)


@SETTINGS.form(
    "policy WORD WORD [for POOL]",
    "A setting of every pool's policy, or of one's: `policy patience 20s`, `policy prefer lab-h3,lab-h2`.",
    declare=_check_policy,
)
def policy(stage: Stage, name: str, value: str, pool: str | None) -> None:
    for draft in _drafts(stage, pool):
        draft.policy[name] = setting(name, value)


# ------------------------------------------------------------------------------------------------ the log, the start


@SETTINGS.form("seed NUMBER", "What chance is drawn from (reconnect jitter, lost probes); 0 unless said.")
def seed(stage: Stage, number: int) -> None:
    stage.setup.seed = number


def _check_sources(cast: Cast, sources: list[str]) -> None:
    for source in sources:
        if source not in SOURCES:
            raise Misfit(f"unknown source of the log {source!r}{nearest(source, SOURCES)}")


@SETTINGS.form(
    "log with WORD...",
    "Show these sources too: `readings`, `xapi`, `standing`, `bodies` (of alerts) ...",
    declare=_check_sources,
)
def log_with(stage: Stage, sources: list[str]) -> None:
    stage.setup.log_with |= set(sources)


@SETTINGS.form(
    "log without WORD...",
    "Leave these sources out (never what promotes, fences, kills, asks or alerts).",
    declare=_check_sources,
)
def log_without(stage: Stage, sources: list[str]) -> None:
    stage.setup.log_without |= set(sources)


def _cast_start(cast: Cast, *_: object) -> None:
    if not cast.pools:
        raise Misfit("there is no pool to start: write `pool 3` before it")
    cast.started = True


@SETTINGS.form(
    "start",
    "Power on, start the collector, and wait until every pool is watched and Healthy. The log begins here.",
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
