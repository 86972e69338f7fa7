"""A lab's collector is read while its pool loses its master: real agents, a real failover, counters over a kill -9."""

import pytest
from test_collector_kills import kill
from tests.shell.looked import parsed

pytestmark = [pytest.mark.needs("namespaces", "ip", "curl"), pytest.mark.long]


def scrape(lab):
    """The series by name, each with its labels; None where nothing answers."""
    words = ("exec", "collector", "--", "curl", "-s", "-m", "10", "http://127.0.0.1:9750/metrics")
    text = lab.lab(*words, check=False).stdout
    return parsed(text.encode()) if "poolwarden_pool_hosts" in text else None


def labels(series):
    return [dict(found) for found, value in series.items() if value]


def test_a_failover_as_prometheus_sees_it(new_lab):
    lab = new_lab().up(3, "--time-factor", "20")
    with (lab.home / "collector.toml").open("a") as file:
        file.write("[metrics]\n")
    kill(lab)

    def settled():
        found = scrape(lab)
        return found if found and len(labels(found.get("poolwarden_host_up", {}))) == 3 and masters(found) else None

    def masters(found):
        return [each["host"] for each in labels(found.get("poolwarden_pool_master_info", {}))]

    before = lab.wait(settled, "three hosts that are heard, one of them master")
    assert masters(before) == ["lab-h1"]
    assert len(before["poolwarden_host_filesystem_free_bytes"]) >= 3
    assert len(labels(before["poolwarden_xapi_probe_latency_seconds"])) == 1
    assert sum(before["poolwarden_failovers_total"].values()) == 0
    assert {each["poolwarden_fence_device_state"] for each in labels(before["poolwarden_fence_device_state"])} == {
        "bound"
    }

    lab.lab("fault", "h1", "power")
    lab.wait_kind("closed", 150)
    kill(lab)
    after = lab.wait(lambda: (found := scrape(lab)) and masters(found) and found, "a master after it")
    assert masters(after) in (["lab-h2"], ["lab-h3"])
    assert [each["outcome"] for each in labels(after["poolwarden_failovers_total"])] == ["closed"]
    phases = {each["phase"] for each in labels(after["poolwarden_failover_phase_duration_seconds_count"])}
    assert {"silence", "claim", "proof", "promotion"} <= phases
    (took,) = after["poolwarden_failover_duration_seconds_sum"].values()
    assert 1 < took < 600
    assert sum(after["poolwarden_alert_deliveries_total"].values()) >= 1
