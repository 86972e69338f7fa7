"""A real Prometheus reads the metrics: it takes every series, evaluates the rules, and the dashboard shows something.

The pools are the engine's own, made by hand (tests/core/pool.py); exporter, HTTP, journal and Prometheus are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.core.pool import POOL, Guarded, uuid
from tests.project.tree import ROOT

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Certificate, Disk, DiskLevel, HostEnvironment
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.config.metrics import Metrics, MetricsTls
from poolwarden_collector.shell.metrics.catalogue import METRICS
from poolwarden_collector.shell.metrics.catalogue import Kind as Counted
from poolwarden_collector.shell.metrics.exporter import Exporter
from poolwarden_collector.shell.metrics.histogram import COMMIT_BOUNDS, Histogram
from poolwarden_collector.shell.metrics.ledger import Ledger, read_past
from poolwarden_collector.shell.metrics.look import Among, Look, Watch
from poolwarden_collector.shell.store.journal import FILE, Journal

from .looked import Written, configured, look_at
from .rig import until
from .test_metrics import with_facts
from .test_metrics_ledger import failover
from .test_monitoring_set_up import TEXT, blocks

MONITORING = ROOT / "packaging/monitoring"
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
NAMES = {metric.name: metric for metric in METRICS}
PARTS = {Counted.HISTOGRAM: ("_bucket", "_sum", "_count")}
OTHER = "bbbbbbbb-0000-4000-8000-000000000000"
WITHIN_S = 60.0


def expressions() -> Iterator[str]:
    """Everything that the dashboard asks, with its variables filled in."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    for text in asked:
        for name, value in (("$pool", ".*"), ("$__rate_interval", "1m"), ("$__range", "1h")):
            text = text.replace(name, value)
        assert "$" not in text, text
        yield text


def known() -> set[str]:
    """Every name that a query may have."""
    return {name + end for name, metric in NAMES.items() for end in PARTS.get(metric.kind, ("",))}


@pytest.mark.parametrize(
    "text",
    [
        (MONITORING / "grafana-dashboard.json").read_text(),
        (MONITORING / "poolwarden.rules.yml").read_text(),
        *re.findall(r"^```promql\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL),
    ],
    ids=["dashboard", "rules", "document"],
)
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    named = set(re.findall(r"\bpoolwarden_[a-z_]+\b", text))
    assert named - known() == set() and len(named) > 3


@pytest.mark.slow
def test_every_series_that_is_made_is_in_the_catalogue(tmp_path: Path) -> None:
    made = {name for name in Written(everything(with_a_past(tmp_path))).names if name.startswith("poolwarden_")}
    assert made == known()


def everything(config: Config) -> Look:
    """A healthy pool, one that waits for a person, and a collector in which something happened: all metrics."""
    well, ill = Guarded(), Guarded()
    ill.host(2).power = Power.UNKNOWN
    ill.run(3_600_000, tick=30_000)
    ill.cut_power()
    ill.host(1).power = Power.UNKNOWN
    ill.run(60_000)
    well.run(ill.now - well.now, tick=30_000)
    disk = Disk("/", 2**34, 2**32, 1000, 900, True, DiskLevel.WARNING, 0, 2**20, 7_200_000)
    around = HostEnvironment(certificates=(Certificate("agent", 100),), clock_offset_ms=20)
    with_facts(well, 2, disks=(disk,), around=around)
    sick = replace(ill.pool, record=replace(ill.pool.record, pool=OTHER, name="other"))
    return look_at(
        config,
        (well.pool, well.site),
        (sick, ill.site),
        now=ill.now,
        shown_at=ill.now,
        latencies={POOL: (uuid(1), 0.004)},
        commits=Histogram.empty(COMMIT_BOUNDS).with_value(0.003),
        among=Among(3, 1, 4_000, lease=True),
        counts=read_past(config.state_dir / FILE).counts,
    )


def with_a_past(folder: Path) -> Config:
    """A configuration whose journal has failovers."""
    config = configured(folder)
    journal = Journal(config.state_dir, config.name, ("log",))
    journal.begin_epoch()
    failover(journal, 1, pool=POOL)
    members = {"durations_ms": {"promoted to closed": 30_000}}
    journal.commit(POOL, [Entry(Kind.CLOSED, "over", members, "f-2", 2)])
    journal.close()
    return config


# ------------------------------------------------------------------------------------------------ the real Prometheus


class Still(Watch):
    """Looks at what it is given."""

    def __init__(self, shown: Look) -> None:
        self.shown = shown
        self.ledger = Ledger()

    async def look(self, asked_at: float) -> Look:
        counts = self.ledger.counts.copy() if self.ledger.ready else None
        self.shown = replace(self.shown, commits=self.shown.commits.with_value(0.003), counts=counts)
        return self.shown


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1/"

    async def get(self, path: str, **values: str) -> Any:
        address = f"{self._base}{path}?{urllib.parse.urlencode(values)}"

        def read() -> Any:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]

        return await asyncio.to_thread(read)

    async def ask(self, query: str) -> list[Any]:
        """The series of an instant query. Raises HTTPError for one that is none."""
        return list((await self.get("query", query=query))["result"])

    async def until(self, query: str, there: bool = True) -> None:
        """Wait until the query has a series, or has none."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(OSError):
                    if bool(await self.ask(query)) == there:
                        return
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def exporting(config: Config, settings: Metrics) -> AsyncIterator[tuple[Exporter, Still]]:
    watch = Still(everything(config))
    journal = Journal(config.state_dir, config.name, ("log",))
    exporter = Exporter(settings, watch, journal, lambda text, about: None)
    exporter.start()
    try:
        await until(exporter.listening.is_set)
        yield exporter, watch
    finally:
        await exporter.stop()
        journal.close()


@contextlib.asynccontextmanager
async def prometheus(folder: Path, configuration: str) -> AsyncIterator[Prometheus]:
    (folder / "prometheus.yml").write_text(configuration)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)


def as_documented(folder: Path, port: int) -> str:
    """The document's configuration for reading over the network, at this port, each second, with the shipped rules."""
    (folder / "poolwarden.password").write_text("hush")
    (folder / "poolwarden-ca.pem").write_bytes((folder / "ca/ca.pem").read_bytes())
    (folder / "poolwarden.rules.yml").write_bytes((MONITORING / "poolwarden.rules.yml").read_bytes())
    text = blocks("yaml")[1]
    text = text.replace("/etc/prometheus", str(folder)).replace("192.0.2.5:9750", f"127.0.0.1:{port}")
    return f"global:\n  evaluation_interval: 1s\nrule_files: [poolwarden.rules.yml]\n{text.replace('15s', '1s')}"


@pytest.mark.slow
@pytest.mark.needs("prometheus")
@pytest.mark.asyncio
async def test_a_real_prometheus_reads_it_and_the_dashboard_shows_something(tmp_path: Path) -> None:
    config = with_a_past(tmp_path)
    settings = Metrics(port=0, tls=MetricsTls(config.tls.cert, config.tls.key), user="prometheus", password="hush")
    async with (
        exporting(config, settings) as (exporter, watch),
        prometheus(tmp_path, as_documented(tmp_path, exporter.port)) as database,
    ):
        await database.until("min_over_time(up[1m]) == 1 and count_over_time(up[1m]) > 2")
        await database.until("poolwarden_failovers_total > 0")
        for query in expressions():
            assert await database.ask(query), query
        await _rules_and_questions(database)
        await _what_goes_is_gone(database, watch)
        await exporter.stop()
        await database.until('up{job="poolwarden"} == 0')


@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_documents_own_look_finds_the_master(tmp_path: Path) -> None:
    (line,) = re.findall(r"^    (curl .*)$", TEXT, re.MULTILINE)
    async with exporting(with_a_past(tmp_path), Metrics(port=0)) as (exporter, _):
        words = ["sh", "-c", line.replace("127.0.0.1:9750", f"127.0.0.1:{exporter.port}")]
        said = (await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)).stdout
    (labels,) = re.findall(r"^poolwarden_pool_master_info\{(.*)\} 1\.0$", said, re.MULTILINE)
    assert {'address="10.0.0.1"', 'host="host-1"'} <= set(labels.split(","))


async def _rules_and_questions(database: Prometheus) -> None:
    rules = [rule for group in (await database.get("rules"))["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"} and len(rules) > 20
    states = {rule["name"]: rule["state"] for rule in rules}
    assert states["PoolwardenScrapeDeadman"] == "firing" and states["PoolNeedsAPerson"] == "pending"
    for query in re.findall(r"^```promql\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[0].splitlines():
        assert await database.ask(query), query
    joined = "poolwarden_host_running_vms * on (pool_uuid) group_left (address) poolwarden_pool_master_info"
    assert len(await database.ask(joined)) == 3


async def _what_goes_is_gone(database: Prometheus, watch: Still) -> None:
    """A host that is on record no more, and a master that another one has followed."""
    await database.until('poolwarden_host_up{host="host-3",pool="lab"}')
    (pool, site), *others = watch.shown.pools
    hosts = {host: known for host, known in pool.record.hosts.items() if host != uuid(3)}
    watch.shown = replace(watch.shown, pools=((replace(pool, record=replace(pool.record, hosts=hosts)), site), *others))
    await database.until('poolwarden_host_up{host="host-3",pool="lab"}', there=False)
    assert await database.ask('poolwarden_host_up{host="host-2",pool="lab"}')
