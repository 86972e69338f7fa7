"""``poolwarden pool add``: every host of a pool gets its agent and its certificate, a host at a time.

Everything is looked at before anything is changed. What was done by an earlier run is found and left out, so that a run
that stopped is simply repeated.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from poolwarden.enrolment_client import Door, endpoint
from poolwarden_collector.cli.errors import AnswerIsNo
from poolwarden_collector.cli.pools import flow, member, packages, survey
from poolwarden_collector.cli.pools.packages import Package
from poolwarden_collector.cli.pools.ssh import Logins, destination
from poolwarden_collector.cli.pools.survey import Host, Pool
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings

if TYPE_CHECKING:
    from poolwarden.v1 import enrolment_pb2 as enrolment
    from poolwarden_collector.cli.collector import Collector


class Todo(NamedTuple):
    """What one host still lacks; ``package`` None: it has one."""

    host: Host
    package: Package | None
    enrol: bool

    @property
    def text(self) -> str:
        parts = [f"install agent {self.package.short}"] if self.package else []
        parts += ["enrol, start the agent"] if self.enrol else []
        return ", ".join(parts) or "nothing: it reports"


def add(settings: Settings, target: str, mode: str, yes: bool, options: Sequence[str]) -> None:
    """Raises CommandError at the first thing that does not go well; what was done before it stays."""
    user, at = destination(target)
    with connect(settings) as collector, Logins(user, options) as logins, tempfile.TemporaryDirectory() as folder:
        pool = survey.of_pool(logins, at)
        authority = collector.authority(pool.uuid)
        _same_mode(pool, mode, authority.mode)
        door = packages.door(authority.address, authority.ca_fingerprint)
        todo = _todo(logins, collector, pool, door)
        notes = [
            f"policy of this pool at the collector: {authority.mode}",
            "one host at a time, the master last; the first failure stops it, and a second run goes on from there",
            "no VM, no toolstack is touched; from its next start on xapi waits there for the boot gate",
        ]
        if behind := [each.host.member.name for each in todo if each.host.firewalld]:
            notes.append(f"firewalld ({', '.join(behind)}) is left as it is: an agent dials out and opens no port")
        heading = f"pool {pool.name} ({pool.uuid}), {len(pool.members)} hosts, to be guarded by this collector"
        flow.show_plan(settings, heading, [(each.host.member, each.host, each.text) for each in todo], notes)
        if any(each.package or each.enrol for each in todo):
            flow.confirm("pool add", yes)
        for each in todo:
            _one(settings, logins, collector, pool, authority, door, each, Path(folder))
        flow.show_end(settings, collector, pool.uuid)


def _same_mode(pool: Pool, wanted: str, configured: str) -> None:
    """The mode is the collector's configuration and changed there alone. Raises AnswerIsNo where it is another one."""
    if wanted and wanted != configured:
        raise AnswerIsNo(
            f"the collector would guard {pool.name} with mode = {configured!r}, not {wanted!r}; nothing was changed",
            f'into collector.toml: [pools.{pool.uuid}.policy] and below it mode = "{wanted}"; '
            "then: poolwarden-collector reload",
        )


def _todo(logins: Logins, collector: "Collector", pool: Pool, door: Door) -> list[Todo]:
    served = packages.listed(door)
    enrol_at = endpoint(door.address)
    hosts = [survey.of_host(logins, each, enrol_at) for each in pool.members]
    survey.all_fit(hosts, pool.uuid)
    known = member.hosts_of(collector, pool.uuid)
    todo = []
    for host in hosts:
        package = None if host.package else packages.newest_for(served, host.abi)
        heard = host.running and member.reports(known.get(host.member.uuid))
        todo.append(Todo(host, package, not heard))
    deaf = [each.host.member.name for each in todo if each.enrol and each.host.said.get("reaches") != "yes"]
    if deaf:
        raise AnswerIsNo(
            f"nothing was changed; {', '.join(deaf)}: {door.address} cannot be reached from there",
            "the hosts dial the collector: open that port, and the agents' own, for them",
        )
    return todo


def _one(
    settings: Settings,
    logins: Logins,
    collector: "Collector",
    pool: Pool,
    authority: "enrolment.AuthorityReply",
    door: Door,
    todo: Todo,
    folder: Path,
) -> None:
    host = todo.host.member
    if todo.package is not None:
        member.install(logins, host, todo.package, packages.fetch(door, todo.package, folder))
        flow.tell(settings, f"{host.name}: agent {todo.package.short} is installed")
    if todo.enrol:
        member.enrol(logins, collector, host, pool, authority)
        after = member.wait_heard(logins, collector, host, pool.uuid)
        flow.tell(settings, f"{host.name}: enrolled and started; heard after {after:.0f} s")
