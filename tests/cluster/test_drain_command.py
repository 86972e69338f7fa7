"""``poolwarden-collector drain``: typed at the collector that is meant, a real process on a real etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.shell.rig import write_config
from tests.shell.test_main import Collector, collector, free_port, run, until

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import raise_generation

from .clusters import RealCluster, on_real_members


def drains(running: Collector) -> bool:
    (mine,) = running.operator.Collectors(pb.CollectorsRequest()).collectors
    return mine.draining


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_this_machines_collector_gives_its_pools_up_and_takes_them_again(tmp_path: Path) -> None:
    async def test(cluster: RealCluster) -> None:
        await carry_out(cluster.client("m"), raise_generation(Names(), 1))
        endpoints = ", ".join(f'"{each}"' for each in cluster.endpoints)
        await asyncio.to_thread(on_etcd, f"etcd = [{endpoints}]")

    def on_etcd(etcd: str) -> None:
        at = f"127.0.0.1:{free_port()}"
        store = f'[store]\n{etcd}\nagents = "127.0.0.1:{free_port()}"\noperators = "{at}"'
        with collector(tmp_path, store, f'operator_listen = "{at}"') as running:
            file = tmp_path / "collector.toml"
            running.status()
            begun = run("drain", "--config", file, "--reason", "new disk")
            assert begun.returncode == 0 and "collector test takes no pool any more" in begun.stdout, begun.stderr
            assert "there is no other collector to take them" in begun.stdout
            until(lambda: drains(running))
            ended = run("drain", "--end", "--config", file)
            assert ended.returncode == 0 and ended.stdout == "collector test takes pools again\n"
            until(lambda: not drains(running))
            calls = running.operator.Audit(pb.AuditRequest()).entries
            assert [call.reason for call in calls if call.method.startswith("drain")] == ["new disk", ""]

    on_real_members(tmp_path, test)


@pytest.mark.slow
def test_one_that_is_alone_or_not_there_drains_nothing(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    assert run("drain", "--config", tmp_path / "nowhere.toml").returncode == 2
    nobody = run("drain", "--config", file)
    assert nobody.returncode == 1 and "no collector answers" in nobody.stderr
    with collector(tmp_path) as running:
        running.status()
        alone = run("drain", "--config", file)
        assert alone.returncode == 1 and "nothing was changed" in alone.stderr
        assert "test is the only collector" in alone.stderr
