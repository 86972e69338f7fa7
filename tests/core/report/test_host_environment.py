"""What surrounds xapi: sentences with levels, and alerts only for certificates that end and clocks that are off."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.host_facts import Certificate, HostEnvironment, HostFacts, MultipathMap, Nic
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.report.host_environment import lines


def say(around: HostEnvironment, **facts: int) -> dict[str, tuple[str, str]]:
    """name -> (text, level)."""
    found = HostFacts(around=around, **facts)  # type: ignore[arg-type]
    return {line.name: (line.text, line.level) for line in lines(found, 600_000)}


def test_nothing_known_says_nothing() -> None:
    assert say(HostEnvironment()) == {}


@pytest.mark.parametrize(
    ("around", "name", "text", "level"),
    [
        (HostEnvironment(services=(("xapi.service", "active"),)), "services", "all 1 run", ""),
        (HostEnvironment(services=(("xenopsd-xc.service", "inactive"),)), "services", "not: xenopsd-xc", "warning"),
        (HostEnvironment(services=(("iscsid.service", "inactive"),)), "services", "not: iscsid", ""),
        (
            HostEnvironment(management_interface="xenbr0", management_link=Tri.YES, nics=(Nic("eth0", Tri.YES, 1000),)),
            "network", "management on xenbr0 (up); eth0 up 1000 Mbit/s", "",
        ),
        (
            HostEnvironment(nics=(Nic("eth0", Tri.YES, 0, "bond0"), Nic("eth1", Tri.NO, 0, "bond0"))),
            "network", "bond0 has lost a link", "warning",
        ),
        (HostEnvironment(nics=(Nic("eth0", Tri.YES), Nic("eth1", Tri.NO))), "network", "eth1 no link", ""),
        (HostEnvironment(maps=(MultipathMap("a", 4, 4, 4),)), "multipath", "1 devices, all paths up", ""),
        (HostEnvironment(maps=(MultipathMap("a", 2, 2, 4),)), "multipath", "a 2 of 4", "warning"),
        (HostEnvironment(maps=(MultipathMap("a", 0, 4, 4),)), "multipath", "a 0 of 4", "critical"),
        (HostEnvironment(clock_offset_ms=500), "clock", "agrees", ""),
        (HostEnvironment(clock_offset_ms=-5_000), "clock", "5.0 s behind", ""),
        (HostEnvironment(clock_offset_ms=40_000), "clock", "40.0 s ahead of", "warning"),
        (HostEnvironment(database_written_at=-6_600_000), "database file", "written 2 h ago", ""),
        (HostEnvironment(certificates=(Certificate("agent", 100),)), "certificate (agent)", "ends in 100 days", ""),
        (
            HostEnvironment(certificates=(Certificate("agent", 20),)),
            "certificate (agent)",
            "ends in 20 days",
            "warning",
        ),
        (HostEnvironment(certificates=(Certificate("agent", 5),)), "certificate (agent)", "ends in 5 days", "critical"),
        (HostEnvironment(certificates=(Certificate("xapi", 5),)), "certificate (xapi)", "ends in 5 days", "warning"),
        (HostEnvironment(certificates=(Certificate("xapi", -3),)), "certificate (xapi)", "ended 3 days ago", "warning"),
        (HostEnvironment(certificates=(Certificate("agent", None, "no"),)), "certificate (agent)", "no", "warning"),
        (HostEnvironment(xen="4.17", kernel="4.19"), "versions", "Xen 4.17, kernel 4.19", ""),
    ],
)  # fmt: skip
def test_a_line(around: HostEnvironment, name: str, text: str, level: str) -> None:
    found = say(around)[name]
    assert text in found[0] and found[1] == level


def test_little_memory_is_named() -> None:
    assert say(HostEnvironment(), memory_total=4 << 30, memory_available=100 << 20)["dom0's memory"][1] == "warning"
    assert "dom0's memory" not in say(HostEnvironment(), memory_total=4 << 30, memory_available=2 << 30)
    assert (
        "swap 1 of 2 MiB"
        in say(HostEnvironment(swap_total=2 << 20, swap_free=1 << 20), memory_total=9, memory_available=9)[
            "dom0's memory"
        ][0]
    )


class Surrounded(Guarded):
    """A pool whose hosts' surroundings are set by hand; remembers alerts."""

    def __init__(self) -> None:
        self.around: dict[int, HostEnvironment] = {}
        self.said: list[str] = []
        super().__init__()

    def facts(self, host: Host):  # type: ignore[no-untyped-def]
        return replace(super().facts(host), around=self.around.get(host.n, HostEnvironment()))

    def feed(self, event):  # type: ignore[no-untyped-def]
        outcome = super().feed(event)
        for alert in outcome.alerts:
            if "/around-" in alert.key:
                self.said.append(("+" if isinstance(alert, AlertRaised) else "-") + alert.key.rsplit("/", 1)[1])
                assert isinstance(alert, AlertRaised | AlertResolved)
        return outcome

    def live(self, around: HostEnvironment, ms: int = 5_000) -> list[str]:
        """What was said while host 2 has these surroundings."""
        self.said.clear()
        self.around[2] = around
        self.run(ms)
        return list(self.said)


def test_a_certificate_is_told_once_and_again_when_it_is_urgent() -> None:
    pool = Surrounded()
    assert pool.live(HostEnvironment(certificates=(Certificate("agent", 40),))) == []
    assert pool.live(HostEnvironment(certificates=(Certificate("agent", 20),)), 60_000) == ["+agent"]
    assert pool.live(HostEnvironment(certificates=(Certificate("agent", 6),)), 60_000) == ["-agent", "+agent"]
    assert pool.live(HostEnvironment(certificates=(Certificate("agent", 800),)), 60_000) == ["-agent"]


def test_a_certificate_that_is_empty_or_gone_is_told_whatever_else_is_well() -> None:
    pool = Surrounded()
    good, empty = Certificate("agent", 400), Certificate("xapi", None, "/etc/xensource/xapi-ssl.pem: it is empty")
    assert pool.live(HostEnvironment(certificates=(good, empty))) == ["+xapi"]
    assert pool.live(HostEnvironment(certificates=(good, Certificate("xapi", 400))), 60_000) == ["-xapi"]
    assert pool.live(HostEnvironment(certificates=(good, Certificate("xapi")))) == []  # not known, and nothing wrong


def test_a_clock_that_is_off_is_told_with_hysteresis() -> None:
    pool = Surrounded()
    said = [
        pool.live(HostEnvironment(clock_offset_ms=off))
        for off in (25_000, 31_000, 29_000, -31_000, 21_000, 19_000, 25_000)
    ]
    assert said == [[], ["+clock"], [], [], [], ["-clock"], []]


def test_a_silent_hosts_alert_stays() -> None:
    pool = Surrounded()
    assert pool.live(HostEnvironment(clock_offset_ms=60_000)) == ["+clock"]
    pool.host(2).agent = False
    assert pool.live(HostEnvironment(clock_offset_ms=0), 60_000) == []
