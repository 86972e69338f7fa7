"""How grave what a collector says is, for monitoring: of a pool, of a host, of the collector itself. Pure.

Rules
-----
* A pool is CRITICAL where a person has to get up: no verified master, a grave situation, a critical alert. It is
  WARNING where it is not as it should be. Whether it is *ready* to lose its master counts as the caller says.
* A host that is not heard is UNKNOWN, however long: silence is no proof. One whose fence devices read OFF is CRITICAL.
* Nothing is judged by a value that is old: what a silent host said last, and everything while the journal is stalled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_collector.cli.pages.collectors import silent
from poolwarden_collector.cli.plugin import CRITICAL, OK, UNKNOWN, WARNING, Finding, Limits, Outcome, Value
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

READING_FRESH_MS = 1_800_000  # a power reading is looked at each ten minutes (core/devices/device_health.py)
TRIES_WARNING, TRIES_CRITICAL = 4, 10  # attempts in vain: after 7 s, and after some 15 min
_XAPI = {
    "slow": WARNING, "starting": WARNING, "unknown": UNKNOWN, "": UNKNOWN,
    "down": CRITICAL, "hung": CRITICAL, "wedged": CRITICAL, "orphaned": CRITICAL, "emergency": CRITICAL,
}  # fmt: skip
_LEVELS = {"warning": WARNING, "critical": CRITICAL, "full": CRITICAL}


def of_pool(
    reply: api.StatusReply, pool: api.PoolStatus, reasons: list[api.Unready], ready: int, silent: Limits
) -> Outcome:
    """``ready``: what a pool counts as that would not survive losing its master; ``silent``: of hosts not heard."""
    name, situation = pool.name or pool.pool_uuid, pool.situation
    heard = [host for host in pool.hosts if host.heard]
    lacking = [reason for reason in reasons if reason.severity == "critical"]
    values = (
        Value("hosts_heard", len(heard), most=len(pool.hosts)),
        Value("hosts_silent", len(pool.hosts) - len(heard), limits=silent, most=len(pool.hosts)),
        Value("running_vms", sum(host.running_vms for host in heard) if len(heard) == len(pool.hosts) else None),
        Value("lost_vms", sum(vm.state not in ("started", "running") for vm in pool.lost_vms)),
        Value("alerts_critical", sum(alert.severity == "critical" for alert in pool.alerts)),
        Value("alerts_warning", sum(alert.severity == "warning" for alert in pool.alerts)),
        Value("not_ready", len(lacking)),
        Value("verdict_age", pool.verdict_age_ms / 1000, "s"),
    )
    if (old := _old(reply)) is not None:
        return Outcome("", (old,), tuple(_not_known(value) for value in values))
    if reply.quiet_ms and pool.verdict != "Healthy":
        learning = f"{name}: the collector was started {span(reply.up_ms)} ago and is still listening"
        return Outcome("", (Finding(UNKNOWN, learning),), values)
    found = [*_situation(pool), *_alerts(pool)]
    if pool.paused:
        found.append(Finding(WARNING, f"paused: {pool.pause_reason or 'no reason was given'}"))
    if (status := silent.judge(len(pool.hosts) - len(heard))) != OK:
        names = ", ".join(sorted(host.name or host.host_uuid for host in pool.hosts if not host.heard))
        found.append(Finding(status, f"not heard: {names}"))
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        found.append(Finding(ready, f"not ready: {lacking[0].sentence}{more}"))
    good = f"{name}: {situation.headline or pool.sentence}, {len(heard)} of {len(pool.hosts)} hosts are heard"
    return Outcome(good, tuple(Finding(each.status, f"{name}: {each.text}") for each in found), values)


def _situation(pool: api.PoolStatus) -> list[Finding]:
    """What its verdict and its situation say."""
    headline = pool.situation.headline or f"is {pool.verdict}"
    if pool.situation.level == "critical":
        return [Finding(CRITICAL, headline)]
    if not pool.master_uuid:
        return [Finding(CRITICAL, f"no verified master: {headline}")]
    if pool.situation.level == "warning" or pool.verdict != "Healthy":
        return [Finding(WARNING, headline)]
    return []


def _alerts(pool: api.PoolStatus) -> list[Finding]:
    grave = [(CRITICAL, "critical"), (WARNING, "warning")]
    return [
        Finding(status, f"alert: {alert.title.removeprefix(f'{pool.name}: ')}")
        for status, severity in grave
        for alert in pool.alerts
        if alert.severity == severity
    ]


def of_host(reply: api.StatusReply, host: api.HostStatus, used: Limits | None) -> Outcome:
    """``used``: thresholds for used space, in percent; None: the levels of its agent."""
    name = host.name or host.host_uuid
    if (old := _old(reply)) is not None:
        return Outcome("", (old,))
    values = _host_values(host, used or Limits())
    if not host.heard:
        return Outcome("", (_silent(host, name),), tuple(_not_known(value) for value in values))
    found = [*_xapi(host), *_file_systems(host, used), *_surroundings(host), *_devices(host)]
    if host.enabled == "no":
        found.append(Finding(WARNING, "it is disabled in its pool"))
    good = f"{name}: {host.role}, xapi answers, {host.running_vms} VMs"
    return Outcome(good, tuple(Finding(each.status, f"{name}: {each.text}") for each in found), values)


def _host_values(host: api.HostStatus, used: Limits) -> tuple[Value, ...]:
    memory = host.memory_total_bytes
    return (
        Value("running_vms", host.running_vms if host.running_vms_known else None),
        Value("memory_available", host.memory_available_bytes if memory else None, "B", most=memory or None),
        *(Value(f"used {disk.mount}", disk.used_percent, "%", used, most=100) for disk in host.disks),
        *(Value(f"inodes {disk.mount}", disk.inodes_used_percent, "%", most=100) for disk in host.disks),
    )


def _silent(host: api.HostStatus, name: str) -> Finding:
    """Off, where that was read; else nobody knows."""
    off = [device for device in host.fence_devices if device.power == "off" and device.age_ms < READING_FRESH_MS]
    if off and len(off) == len(host.fence_devices):
        return Finding(CRITICAL, f"{name}: is off, as {off[0].name} read {span(off[0].age_ms)} ago")
    if not host.ever_heard:
        return Finding(UNKNOWN, f"{name}: its agent was not heard since the collector's start")
    return Finding(UNKNOWN, f"{name}: its agent is silent for {span(host.agent_age_ms)}; nothing is known of it now")


def _xapi(host: api.HostStatus) -> list[Finding]:
    health = host.xapi_health or host.xapi
    status = _XAPI.get(health, OK)
    return [Finding(status, host.xapi_text or f"xapi: {health or 'not looked at yet'}")] if status != OK else []


def _file_systems(host: api.HostStatus, used: Limits | None) -> list[Finding]:
    found = []
    for disk in host.disks:
        most = max(disk.used_percent, disk.inodes_used_percent)
        status = used.judge(most) if used is not None else _LEVELS.get(disk.level, OK)
        if disk.level and disk.read_only:
            found.append(Finding(CRITICAL, f"{disk.mount} is read-only"))
        elif status != OK:
            soon = f", full in {span(disk.full_in_ms)}" if disk.full_in_ms else ""
            found.append(Finding(status, f"{disk.mount} is {most:.0f} % full{soon}"))
    return found


def _surroundings(host: api.HostStatus) -> list[Finding]:
    return [Finding(_LEVELS[fact.level], f"{fact.name}: {fact.text}") for fact in host.facts if fact.level in _LEVELS]


def _devices(host: api.HostStatus) -> list[Finding]:
    found = []
    for device in host.fence_devices:
        if device.trouble:
            found.append(Finding(WARNING, f"fence device {device.text or device.trouble}"))
        elif device.state != "bound":
            found.append(Finding(WARNING, f"fence device {device.name} is {device.state}"))
    return found


def of_collector(reply: api.StatusReply, waiting: list[api.Alert], lag: Limits) -> Outcome:
    """``waiting``: alerts of which deliveries may wait; ``lag``: of the time that the engine is behind, s."""
    together = reply.overview
    behind = reply.behind_ms / 1000
    values = (
        Value("lag", behind, "s", lag),
        Value("pending_deliveries", reply.outbox_pending),
        Value("pools", together.pools),
        Value("hosts_silent", together.hosts - together.hosts_heard, most=together.hosts),
        Value("uptime", reply.up_ms / 1000, "s"),
    )
    found = []
    if reply.stalled:
        found.append(Finding(CRITICAL, f"nothing is decided or done: {reply.stalled}"))
    if reply.blind:
        found.append(Finding(CRITICAL, f"it considers itself blind: {reply.blind}"))
    if reply.stood_down:
        names = ", ".join(pool.name or pool.pool_uuid for pool in together.lines if pool.pool_uuid in reply.stood_down)
        found.append(Finding(CRITICAL, f"another collector is in charge of {names}"))
    if (status := lag.judge(behind)) != OK:
        found.append(Finding(status, f"it is {behind:.1f} s behind what it hears"))
    found += [Finding(WARNING, text) for text in silent(reply.asked)]
    found += _stuck(waiting)
    if not found:
        found += [Finding(WARNING, text) for text in reply.warnings]
    quiet = f", quiet for another {span(reply.quiet_ms)}" if reply.quiet_ms else ""
    good = f"{reply.collector_name} {reply.version} runs and decides, pools: {together.pools}{quiet}"
    return Outcome(good, tuple(found), values)


def _stuck(alerts: list[api.Alert]) -> list[Finding]:
    """Each channel that has refused an alert again and again, by its most refused one."""
    worst: dict[str, api.Delivery] = {}
    for delivery in (each for alert in alerts for each in alert.deliveries if each.state == "pending"):
        sink = delivery.sink.partition(" ")[0]
        if delivery.attempts >= TRIES_WARNING and (sink not in worst or worst[sink].attempts < delivery.attempts):
            worst[sink] = delivery
    return [
        Finding(
            CRITICAL if each.attempts >= TRIES_CRITICAL else WARNING,
            f"channel {sink} takes no alerts, {each.attempts} attempts: {each.last_error}",
        )
        for sink, each in sorted(worst.items())
    ]


def _old(reply: api.StatusReply) -> Finding | None:
    """What is shown is not now."""
    if not reply.stalled:
        return None
    return Finding(UNKNOWN, f"what is known is {span(reply.shown_age_ms)} old: {reply.stalled}")


def _not_known(value: Value) -> Value:
    return Value(value.label, None, value.unit, value.limits, value.least, value.most)
