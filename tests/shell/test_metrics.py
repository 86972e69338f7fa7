"""What Prometheus reads of pools and hosts: made from the engine's own state, and nothing of it older than it says."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from tests.core.pool import QUIET, Guarded, address, uuid
from tests.project.tree import ROOT

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.host_facts import Certificate, Disk, DiskLevel, HostEnvironment, XapiHealth
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.state.live import Pool, PoolLive
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.metrics import board, exposition
from poolwarden_collector.shell.metrics.catalogue import METRICS, Kind
from poolwarden_collector.shell.metrics.exposition import write_out
from poolwarden_collector.shell.metrics.histogram import COMMIT_BOUNDS, Histogram
from poolwarden_collector.shell.metrics.look import Among

from .looked import Written, configured, look_at


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


def with_facts(pool: Guarded, n: int, **changes: object) -> Guarded:
    """The pool with other facts of one host."""
    agents = pool.pool.live.agents
    agent = agents[uuid(n)]
    after = {**agents, uuid(n): replace(agent, facts=replace(agent.facts, **changes))}  # type: ignore[arg-type]
    pool.pool = replace(pool.pool, live=replace(pool.pool.live, agents=after))
    return pool


def test_a_healthy_pool_is_all_there(config: Config) -> None:
    pool = Guarded()
    said = Written(look_at(config, pool, latencies={pool.pool.record.pool: (uuid(1), 0.004)}))
    assert said.state("pool_verdict") == "Healthy" and len(said.values("pool_verdict")) == len(Verdict)
    assert (said.state("pool_level"), said.state("pool_mode"), said.value("pool_ready")) == ("good", "auto", 1)
    assert said.value("pool_master_info", host="host-1", address=address(1)) == 1
    assert said.values("host_up") == [1, 1, 1]
    assert said.state("host_role", host="host-1") == "master" and said.state("host_role", host="host-2") == "member"
    assert said.values("host_orphaned") == said.values("host_emergency") == [0, 0, 0]
    assert said.state("host_xapi_state", host="host-3") == "answers"
    assert said.value("xapi_probe_latency_seconds", host="host-1") == 0.004
    assert said.value("host_filesystem_free_bytes", host="host-2", mountpoint="/") == 10 * 2**30
    assert said.values("host_filesystem_full_in_seconds") == []
    assert said.of_label("host_database_copy_age_seconds", "host") == ["host-2", "host-3"]
    assert said.state("fence_device_state", device="bmc-1") == "bound"
    assert said.state("fence_device_power", device="bmc-1") == "on"
    assert said.value("fence_device_last_good_reading_age_seconds", device="bmc-1") < 60
    assert said.value("pool_readiness_reasons", code="no-gate", severity="warning") == 1
    assert said.value("failovers_total", outcome="closed") == 0
    assert (said.value("collector_decides"), said.value("collector_shown_age_seconds")) == (1, 0)
    assert said.value("collector_state_free_bytes") > 0 and said.value("journal_size_bytes") > 0
    assert said.of_label("collector_certificate_expiry_timestamp_seconds", "certificate") == ["authority", "collector"]


@pytest.mark.slow
def test_the_masters_series_is_one_when_the_master_moves(config: Config) -> None:
    pool = Guarded()
    names = set(Written(look_at(config, pool)).of_label("pool_master_info", "host"))
    pool.cut_power()
    for _ in range(40):
        said = Written(look_at(config, pool))
        assert len(said.values("pool_master_info")) == said.value("pool_master_known")
        names.update(said.of_label("pool_master_info", "host"))
        pool.run(2_000)
    assert pool.promoted() and names == {"host-1", "host-2"}
    assert said.value("pool_master_info", address=address(2)) == 1
    assert said.value("pool_term") > 1


def test_last_words_of_a_silent_host_are_not_shown_as_the_present(config: Config) -> None:
    pool = Guarded()
    pool.cut_power(3)
    pool.run(60_000)
    said = Written(look_at(config, pool))
    assert said.value("host_up", host="host-3") == 0 and said.value("host_last_heard_age_seconds", host="host-3") > 50
    assert said.state("host_xapi_state", host="host-3") == said.state("host_role", host="host-3") == "unknown"
    gone = ("host_orphaned", "host_emergency", "host_enabled", "host_running_vms", "host_filesystem_free_bytes")
    assert [said.values(name, host="host-3") for name in gone] == [[]] * len(gone)
    assert all(said.values(name, host="host-2") for name in gone)
    assert said.state("fence_device_power", host="host-3") in ("on", "off")  # it is asked by the collector


def test_a_host_that_is_on_record_no_more_has_no_series(config: Config) -> None:
    pool = Guarded()
    hosts = {host: known for host, known in pool.pool.record.hosts.items() if host != uuid(3)}
    pool.pool = replace(pool.pool, record=replace(pool.pool.record, hosts=hosts))
    said = Written(look_at(config, pool, latencies={pool.pool.record.pool: (uuid(3), 0.004)}))
    assert "host-3" not in said.text.decode() and uuid(3) not in said.text.decode()


def test_a_failover_that_waits_for_a_person_shows(config: Config) -> None:
    pool = Guarded(devices=False)
    pool.host(1).power = Power.OFF
    pool.cut_power()
    pool.run(120_000)
    said = Written(look_at(config, pool))
    assert (said.value("failover_open"), said.value("failover_blocked")) == (1, 1)
    assert said.value("failover_age_seconds") > 60 and said.state("pool_level") == "critical"
    assert said.value("pool_master_known") == 0 and said.values("pool_master_info") == []
    assert said.value("pool_alerts_open", severity="critical") >= 1


@pytest.mark.slow
def test_trouble_of_a_device_and_its_age(config: Config) -> None:
    pool = Guarded()
    pool.host(2).power = Power.UNKNOWN
    pool.run(3_600_000, tick=30_000)
    said = Written(look_at(config, pool))
    assert said.value("fence_device_last_good_reading_age_seconds", host="host-2") > 3_000
    assert said.values("fence_device_trouble", host="host-2") == [1]
    assert said.values("fence_device_trouble", host="host-1") == []


def test_a_device_that_was_never_read_is_as_old_as_the_collector(config: Config) -> None:
    pool = Guarded()
    pool.pool = replace(pool.pool, live=replace(pool.pool.live, power={}))
    said = Written(look_at(config, pool))
    assert said.value("fence_device_last_good_reading_age_seconds", host="host-1") == (pool.now - 1_000) / 1000


def test_disks_certificates_and_clocks(config: Config) -> None:
    disk = Disk("/", 100, 4, 1000, 250, True, DiskLevel.CRITICAL, 0, 10, 7_200_000, True)
    around = HostEnvironment(certificates=(Certificate("agent", 12), Certificate("xapi", None)), clock_offset_ms=-1500)
    said = Written(look_at(config, with_facts(Guarded(), 2, disks=(disk, disk), around=around)))
    assert said.value("host_filesystem_full_in_seconds", host="host-2", mountpoint="/") == 7_200
    assert said.value("host_filesystem_inodes_used_ratio", host="host-2") == 0.75
    assert said.value("host_filesystem_readonly", host="host-2") == 1
    assert said.state("host_filesystem_level", host="host-2") == "critical"
    assert said.of_label("host_certificate_left_seconds", "certificate") == ["agent"]
    assert said.value("host_certificate_left_seconds") == 12 * 86_400
    assert said.value("host_clock_offset_seconds") == -1.5


def test_labels_are_escaped_and_cut(config: Config) -> None:
    odd = 'a"b\\c\nd} 1\n# HELP x'
    pool = with_facts(Guarded(), 2, disks=tuple(Disk(f"/{'x' * 300}{n}", 1, 1, 0, 0, True) for n in range(100)))
    hosts = {host: replace(known, name=odd) for host, known in pool.pool.record.hosts.items()}
    pool.pool = replace(pool.pool, record=replace(pool.pool.record, name=odd, hosts=hosts))
    said = Written(look_at(config, pool))
    assert said.of_label("host_up", "host") == [odd] and said.of_label("pool_term", "pool") == [odd]
    assert said.values("host_up") == [1, 1, 1]
    mounts = said.of_label("host_filesystem_size_bytes", "mountpoint")
    assert len(mounts) <= 33 and max(map(len, mounts)) == 128
    many = with_facts(Guarded(), 2, disks=tuple(Disk(f"/{n}", 1, 1, 0, 0, True) for n in range(100)))
    assert len(Written(look_at(config, many)).values("host_filesystem_size_bytes", host="host-2")) == 32


def test_a_word_that_an_agent_invents_makes_no_new_series(config: Config) -> None:
    pool = Guarded()
    xapi = replace(pool.pool.live.agents[uuid(2)].facts.xapi, health=None)
    words = Written(look_at(config, with_facts(pool, 2, xapi=xapi))).of_label("host_xapi_state", "host")
    assert len(words) == 3
    odd = replace(xapi, health=XapiHealth("surprise", "", ""))
    said = Written(look_at(config, with_facts(pool, 2, xapi=odd)))
    assert said.state("host_xapi_state", host="host-2") == "unknown" and "surprise" not in said.text.decode()


def test_one_pool_that_cannot_be_shown_hides_no_other(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Guarded(), Guarded(policy=Policy(quiet_time=QUIET, mode="ask"))
    broken = replace(bad.pool, record=replace(bad.pool.record, pool="broken", hosts=None))  # type: ignore[arg-type]
    said = Written(look_at(config, (broken, bad.site), good))
    assert said.value("pool_master_known") == 1 and said.value("collector_decides") == 1
    assert "pool broken is left out" in caplog.text


def test_a_collector_that_cannot_decide_says_why(config: Config) -> None:
    pool = Guarded()
    for change in ({"blind": True}, {"braked": True}, {"stalled": True}, {"told_behind": True}, {"quiet_ms": 1}):
        assert Written(look_at(config, pool, **change)).value("collector_decides") == 0
    old = look_at(config, pool)
    said = Written(replace(old, shown_at=old.now - 5_000, stalled=True, behind_ms=700, loop_lag=0.25))
    assert (said.value("collector_shown_age_seconds"), said.value("collector_journal_stalled")) == (5, 1)
    assert (said.value("engine_lag_seconds"), said.value("collector_loop_lag_seconds")) == (0.7, 0.25)
    waits = Written(replace(old, inbox_age_ms=3_250, inbox_events=12, agents_waiting=7))
    assert waits.value("agents_waiting") == 7
    assert (waits.value("engine_inbox_age_seconds"), waits.value("engine_inbox_events")) == (3.25, 12)
    stood = Written(look_at(config, pool, stood_down=frozenset({pool.pool.record.pool})))
    assert stood.value("pool_stood_down") == 1


def test_one_of_several_tells_its_right_and_its_pools(config: Config) -> None:
    alone = Written(look_at(config, Guarded()))
    assert alone.value("collector_owns") == 1 and "poolwarden_etcd_right_seconds" not in alone.names
    asked = Histogram.empty(COMMIT_BOUNDS).with_value(0.002).with_value(3.0)
    among = Among(3, 2, 4_500, lease=True, asked=asked, failed=1)
    well = Guarded()
    well.run(QUIET + 1_000)
    several = Written(look_at(config, well, among=among))
    told = {name: several.value(name) for name in ("collector_members", "pools_without_owner", "etcd_lease")}
    assert told == {"collector_members": 3, "pools_without_owner": 2, "etcd_lease": 1}
    assert several.value("etcd_right_seconds") == 4.5 and several.value("etcd_requests_failed_total") == 1
    assert several.value("etcd_request_duration_seconds_count") == 2
    assert several.value("collector_decides") == 1
    deposed = Written(look_at(config, well, among=replace(among, right_ms=0, lease=False)))
    assert deposed.value("collector_decides") == 0 and deposed.value("etcd_right_seconds") == 0


def test_a_pool_of_which_nothing_is_known_yet_is_no_error(config: Config) -> None:
    pool = Guarded()
    empty = replace(pool.pool, record=PoolRecord("new"), live=PoolLive())
    said = Written(look_at(config, (empty, pool.site)))
    assert said.value("pool_hosts", pool_uuid="new") == 0 and said.value("pool_master_known") == 0


def test_both_forms_of_the_text_are_written(config: Config) -> None:
    look = look_at(config, Guarded())
    text, kind = exposition.write_out(look, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text") and text.endswith(b"# EOF\n")
    assert b"# TYPE poolwarden_pool_verdict stateset" in text and b"# TYPE poolwarden_pool_master info" in text
    plain, kind = exposition.write_out(look, "*/*")
    assert kind.startswith("text/plain") and b"# TYPE poolwarden_failovers_total counter" in plain


@pytest.mark.parametrize("form", ["", "application/openmetrics-text; version=1.0.0"])
def test_lines_are_those_of_the_client(config: Config, form: str) -> None:
    """Each series as the Prometheus client itself would write it: heads, names, numbers and labels."""
    guarded = Guarded()
    guarded.run(20_000)
    text = write_out(look_at(config, guarded), form)[0].decode()
    parse = openmetrics_parser if form else text_string_to_metric_families
    theirs = CollectorRegistry(auto_describe=False)
    families = list(parse(text))
    theirs.register(Given(families))
    encode, _ = choose_encoder(form)
    # The order of labels is nobody's; of numbers, the client's parser keeps the value alone.
    assert sorted(map(in_order, encode(theirs).decode().splitlines())) == sorted(map(in_order, text.splitlines()))
    assert len(families) > 40 and text.endswith("# EOF\n") == bool(form)


class Given(Collector):
    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> Any:
        return self._families


def in_order(line: str) -> str:
    """A line with its labels in the order of their names."""
    begin, brace, rest = line.partition("{")
    inner, _, end = rest.rpartition("}")
    return f"{begin}{{{','.join(sorted(inner.split(',')))}}}{end}" if brace and not line.startswith("#") else line


@pytest.mark.parametrize(
    "value", [0, 1, -1.5, 0.1, 999_999.9, 1e6, 12_345_678, 1.7e12, 1e20, math.inf, -math.inf, math.nan]
)
def test_numbers_are_written_as_the_client_does(value: float) -> None:
    assert board._number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


def test_every_name_keeps_to_prometheus_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert re.fullmatch(r"poolwarden_[a-z0-9_]+", metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert metric.name.endswith("_info") == (metric.kind is Kind.INFO), metric.name
        assert not re.search(r"_(ms|milliseconds|percent|minutes|hours|kb|mib)(_|$)", metric.name), metric.name
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds"), metric.name


def test_the_document_lists_exactly_these() -> None:
    text = (ROOT / "docs/monitoring.md").read_text()
    rows = re.findall(r"^\| `(poolwarden_\w+)` \| ([a-z ]+) \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    documented = {name: (kind, labels.replace("`", ""), says) for name, kind, labels, says in rows}
    made = {each.name: (each.kind.value, ", ".join(each.labels), each.says) for each in METRICS}
    assert documented == made


def test_a_look_is_one_instant_of_frozen_values() -> None:
    """Else the worker's thread could see a pool change while it reads it."""
    for kind in (Pool, PoolLive, PoolRecord):
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
