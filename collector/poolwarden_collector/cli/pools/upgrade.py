"""``poolwarden pool upgrade``: the agents of a pool, one after the other, the master's last.

An agent's restart leaves holds, tombstones and the boot gate as they are: all of them are durable and are read anew.
But no two agents of a pool are away at once, and none is taken away while anything is going on: before each host, and
after the last, the pool has to be Healthy and no failover open.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from poolwarden.typed_names import typed
from poolwarden_collector.cli.errors import AnswerIsNo
from poolwarden_collector.cli.names import the_pool
from poolwarden_collector.cli.pools import flow, member, packages, survey
from poolwarden_collector.cli.pools.packages import Package
from poolwarden_collector.cli.pools.remove import members_of, strangers_of
from poolwarden_collector.cli.pools.ssh import Logins
from poolwarden_collector.cli.pools.survey import Host
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings

if TYPE_CHECKING:
    from poolwarden_collector.cli.collector import Collector

SETTLED_WITHIN_S = 120.0


def upgrade(settings: Settings, name: str, user: str, despite_verdict: bool, yes: bool, options: Sequence[str]) -> None:
    """Raises CommandError at the first thing that does not go well; what was done before it stays."""
    with connect(settings) as collector, Logins(user, options) as logins, tempfile.TemporaryDirectory() as folder:
        pool = the_pool(collector.status(name), name)
        if why := _obstacle(collector, pool.pool_uuid, despite_verdict):
            raise AnswerIsNo(
                f"{why}; nothing was changed", f"poolwarden explain {typed(pool.name)}, and again when it is over"
            )
        authority = collector.authority(pool.pool_uuid)
        door = packages.door(authority.address, authority.ca_fingerprint)
        served = packages.listed(door)
        hosts = [survey.of_host(logins, each) for each in members_of(pool)]
        survey.all_fit(hosts, pool.pool_uuid)
        todo = [(host, packages.newest_for(served, host.abi)) for host in hosts]
        _all_there(todo)
        rows = [(host.member, host, _text(host, package)) for host, package in todo]
        notes = ["one host at a time, the master last; each is heard again, and the pool Healthy, before the next"]
        notes += strangers_of(pool)
        flow.show_plan(settings, f"agents of pool {pool.name} ({pool.pool_uuid})", rows, notes)
        wanted = [(host, package) for host, package in todo if host.package != package.installed_as]
        if wanted:
            flow.confirm("pool upgrade", yes)
        for host, package in wanted:
            _settled(collector, pool.pool_uuid, despite_verdict)
            member.install(logins, host.member, package, packages.fetch(door, package, Path(folder)))
            after = member.wait_heard(logins, collector, host.member, pool.pool_uuid, package.version)
            flow.tell(settings, f"{host.member.name}: agent {package.short}; heard after {after:.0f} s")
        if wanted:
            _settled(collector, pool.pool_uuid, despite_verdict)
        flow.show_end(settings, collector, pool.pool_uuid)


def _all_there(todo: list[tuple[Host, Package]]) -> None:
    without = [host.member.name for host, _ in todo if not host.package]
    held = [host.member.name for host, _ in todo if host.held]
    if without:
        raise AnswerIsNo(f"{', '.join(without)}: no agent is installed; nothing was changed", "poolwarden pool add")
    if held:
        raise AnswerIsNo(
            f"{', '.join(held)}: its toolstack is held, or it was superseded; nothing was changed", "poolwarden status"
        )


def _text(host: Host, package: Package) -> str:
    if host.package == package.installed_as:
        return f"nothing: it has {package.short}"
    return f"agent {packages.short(host.package)} to {package.short}"


def _obstacle(collector: "Collector", pool: str, despite_verdict: bool) -> str:
    now = the_pool(collector.status(pool), pool)
    if despite_verdict and not now.HasField("failover"):
        return ""
    return member.unwell(now)


def _settled(collector: "Collector", pool: str, despite_verdict: bool) -> None:
    """Until the pool is well. Raises AnswerIsNo if that does not come."""
    begun = time.monotonic()
    while why := _obstacle(collector, pool, despite_verdict):
        if time.monotonic() - begun > SETTLED_WITHIN_S:
            raise AnswerIsNo(f"{why}; no further host was touched", "again when it is over: what is done is skipped")
        time.sleep(member.LOOK_EVERY_S)
