"""Units for dom0 may use only what systemd 219 knows; newer systemds take what it ignores without a word.

The list is that of RHEL 7's systemd 219 (src/core/load-fragment-gperf.gperf.m4), with what its maintainers backported
(AmbientCapabilities, TasksMax).
"""

import configparser
from pathlib import Path

import pytest

PACKAGING = Path(__file__).resolve().parents[2] / "packaging/agent"
KNOWN = {
    "Unit": """Description Documentation After Before Requires Requisite Wants BindsTo PartOf Conflicts
        DefaultDependencies ConditionPathExists ConditionFileNotEmpty AssertPathExists OnFailure RefuseManualStop
        IgnoreOnIsolate JobTimeoutSec RequiresMountsFor""",
    "Service": """Type ExecStart ExecStartPre ExecStartPost ExecStop ExecStopPost ExecReload Restart RestartSec
        RemainAfterExit TimeoutSec TimeoutStartSec TimeoutStopSec KillMode KillSignal PIDFile WatchdogSec NotifyAccess
        SuccessExitStatus StartLimitInterval StartLimitBurst User Group SupplementaryGroups NoNewPrivileges
        CapabilityBoundingSet AmbientCapabilities PrivateTmp PrivateNetwork ProtectSystem ProtectHome
        ReadWriteDirectories ReadOnlyDirectories InaccessibleDirectories RestrictAddressFamilies
        SystemCallArchitectures RuntimeDirectory RuntimeDirectoryMode MemoryLimit CPUShares CPUQuota BlockIOWeight
        TasksMax OOMScoreAdjust Nice IOSchedulingClass IOSchedulingPriority LimitNOFILE LimitCORE Slice
        SyslogIdentifier SyslogFacility SyslogLevel StandardInput StandardOutput StandardError Environment
        EnvironmentFile WorkingDirectory UMask""",
    "Install": "WantedBy RequiredBy Alias Also",
}
UNITS = sorted([*PACKAGING.rglob("*.service"), *PACKAGING.rglob("*.service.d/*.conf")])


def read(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_of_dom0_has_only_what_systemd_219_knows(path: Path) -> None:
    parser = read(path)
    for section in parser.sections():
        assert section in KNOWN
        assert set(parser[section]) - set(KNOWN[section].split()) == set(), f"unknown to systemd 219 in [{section}]"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_its_values_too(path: Path) -> None:
    parser = read(path)
    for section, name, value in ((s, n, v) for s in parser.sections() for n, v in parser[s].items()):
        if name.startswith("Exec"):
            assert value.lstrip("-@").startswith("/"), f"{name}: 219 wants an absolute path and has no + or !"
        if name in ("StandardOutput", "StandardError"):
            assert value in ("syslog", "null", "inherit"), f"[{section}] {name}: file: and append: came later"
        if name == "ProtectSystem":
            assert value in ("yes", "full", "no"), "strict came with 232"


def test_the_units_are_found() -> None:
    names = {path.name for path in UNITS}
    assert names == {"poolwarden-agent.service", "poolwarden-boot.service", "50-poolwarden.conf"}


def test_xapi_pulls_in_the_early_unit_and_waits_for_nothing_but_its_gate() -> None:
    drop_in, early = read(PACKAGING / "xapi.service.d/50-poolwarden.conf"), read(PACKAGING / "poolwarden-boot.service")
    assert drop_in["Unit"]["Wants"] == drop_in["Unit"]["After"] == "poolwarden-boot.service"
    assert "Requires" not in drop_in["Unit"], "an early unit that fails must not keep xapi down"
    assert early["Unit"]["DefaultDependencies"] == "no" and "xapi.service" in early["Unit"]["Before"]
    assert int(early["Service"]["TimeoutStartSec"]) <= 20 and early["Service"]["ExecStart"].startswith("-")
