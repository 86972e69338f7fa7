"""What is done on one host: the package put there, the host enrolled, the agent waited for. Each can be done again."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from poolwarden_collector.cli.act import actor
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput, CommandError
from poolwarden_collector.cli.pools.packages import Package
from poolwarden_collector.cli.pools.ssh import Done, Logins
from poolwarden_collector.cli.pools.survey import Member, Pool

if TYPE_CHECKING:
    from poolwarden.v1 import enrolment_pb2 as enrolment
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector

AGENT = "/opt/poolwarden/bin/poolwarden-agent"
TOKEN_TTL_S = 900
HEARD_WITHIN_S, LOOK_EVERY_S = 90.0, 0.5
HEALTHY = "Healthy"
_WAITS = 4  # exit status of `poolwarden-agent enrol` where a person has to accept the key
# The file's bytes come by standard input; they are compared once more where they are installed.
_INSTALL = """
PATH=$PATH:/usr/sbin:/sbin; umask 077
file=$(mktemp /tmp/poolwarden-agent.XXXXXXXX) || exit 1
trap 'rm -f "$file"' EXIT
cat >"$file" || exit 1
echo "$1  $file" | sha256sum -c --quiet - || exit 1
rpm -U "$file"
"""
_ERASE = """
PATH=$PATH:/usr/sbin:/sbin
if rpm -q poolwarden-agent >/dev/null 2>&1; then rpm -e poolwarden-agent || exit 1; fi
rm -rf /etc/poolwarden/tls /etc/poolwarden/agent.conf.rpmsave
"""
_LOG = """
said=$(grep poolwarden-agent /var/log/daemon.log 2>/dev/null | tail -n 3)
[ -n "$said" ] || said=$(journalctl -q -n 3 -o cat -u poolwarden-agent 2>/dev/null)
echo "$said"
"""


def install(logins: Logins, member: Member, package: Package, path: Path) -> None:
    """Install the package, or upgrade to it. Raises AnswerIsNo with rpm's own words."""
    done = logins.run(member.at, ["sh", "-c", _INSTALL, "sh", package.sha256], path)
    _good(
        done,
        f"{member.name}: {package.name} is not installed",
        f"see to {member.name}, then again: what is done is skipped",
    )


def enrol(
    logins: Logins, collector: "Collector", member: Member, pool: Pool, authority: "enrolment.AuthorityReply"
) -> None:
    """Enrol the host with a token that is its own alone, and start its agent. Raises CommandError."""
    from poolwarden.v1 import enrolment_pb2

    asked = enrolment_pb2.CreateTokenRequest(
        pool=pool.uuid, ttl_s=TOKEN_TTL_S, uses=1, host_uuid=member.uuid, actor=actor(), reason="poolwarden pool add"
    )
    token = collector.create_token(asked)
    words = [AGENT, "enrol", "--collector", authority.address, "--token", "-"]
    words += ["--ca-fingerprint", authority.ca_fingerprint, "--start"]
    done = logins.run(member.at, words, token.token + "\n")
    if done.status == _WAITS:
        raise AnswerIsNo(
            f"{member.name} waits for you: {_own_words(done)}", "accept its key, then run the same command again"
        )
    _good(done, f"{member.name} is not enrolled", "see to that, then again: what is done is skipped")


def erase(logins: Logins, member: Member) -> None:
    """Stop the agent, take its package away, and its key. Raises AnswerIsNo where rpm, or the package, says no."""
    done = logins.run(member.at, ["sh", "-c", _ERASE])
    _good(done, f"{member.name}: the agent is not erased", "see to that, then again: what is done is skipped")


def _good(done: Done, what: str, then: str) -> None:
    if done.status:
        raise AnswerIsNo(f"{what}: {_own_words(done) or f'exit status {done.status}'}", then)


def _own_words(done: Done) -> str:
    return done.said.replace("poolwarden-agent: ", "")


def hosts_of(collector: "Collector", pool: str) -> dict[str, "api.HostStatus"]:
    """By UUID; empty while the collector does not know the pool."""
    try:
        return {host.host_uuid: host for one in collector.status(pool).pools for host in one.hosts}
    except BadInput:
        return {}


def reports(host: "api.HostStatus | None", version: str = "") -> bool:
    """Is its agent heard now, in this version?"""
    return host is not None and host.agent_connected and host.heard and version in ("", host.agent_version)


def wait_heard(logins: Logins, collector: "Collector", member: Member, pool: str, version: str = "") -> float:
    """Until the collector hears the host; after how many seconds. Raises CommandError with the agent's own words."""
    begun = time.monotonic()
    while not reports(hosts_of(collector, pool).get(member.uuid), version):
        if time.monotonic() - begun > HEARD_WITHIN_S:
            said = logins.run(member.at, ["sh", "-c", _LOG]).said
            raise CommandError(
                f"{member.name} does not report within {HEARD_WITHIN_S:.0f} s{f': {said}' if said else ''}",
                f"on {member.name}: systemctl status poolwarden-agent; then again: what is done is skipped",
            )
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - begun


def unwell(pool: "api.PoolStatus") -> str:
    """Why nothing should be restarted in this pool now; empty: it may be."""
    if pool.HasField("failover"):
        return f"a failover of {pool.name} is open"
    if pool.verdict != HEALTHY:
        return f"{pool.name} is {pool.verdict}: {pool.sentence}"
    return ""
