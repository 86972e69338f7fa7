"""Units for dom0 may use only what systemd 219 knows, but for one drop-in; newer ones take what it ignores in silence.

The list is that of RHEL 7's systemd 219 (src/core/load-fragment-gperf.gperf.m4), with what its maintainers backported
(AmbientCapabilities, TasksMax).
"""

import configparser
import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.packaging.confined import confinement, settings

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
        SystemCallArchitectures SystemCallFilter SystemCallErrorNumber DevicePolicy DeviceAllow
        RuntimeDirectory RuntimeDirectoryMode MemoryLimit CPUShares CPUQuota BlockIOWeight
        TasksMax OOMScoreAdjust Nice IOSchedulingClass IOSchedulingPriority LimitNOFILE LimitCORE Slice
        SyslogIdentifier SyslogFacility SyslogLevel StandardInput StandardOutput StandardError Environment
        EnvironmentFile WorkingDirectory UMask""",
    "Install": "WantedBy RequiredBy Alias Also",
}
NEWER = PACKAGING / "newer/poolwarden-agent.service.d/50-newer.conf"  # in the packages for newer systemds alone
UNITS = sorted({*PACKAGING.rglob("*.service"), *PACKAGING.rglob("*.service.d/*.conf")} - {NEWER})


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
        if name == "SystemCallFilter":
            assert not re.search(r"[@~:]", value), "groups came with 231, an error number of its own with 228"


def test_the_units_are_found() -> None:
    names = {path.name for path in UNITS}
    assert names == {"poolwarden-agent.service", "poolwarden-boot.service", "50-poolwarden.conf"}


def test_xapi_pulls_in_the_early_unit_and_waits_for_nothing_but_its_gate() -> None:
    drop_in, early = read(PACKAGING / "xapi.service.d/50-poolwarden.conf"), read(PACKAGING / "poolwarden-boot.service")
    assert drop_in["Unit"]["Wants"] == drop_in["Unit"]["After"] == "poolwarden-boot.service"
    assert "Requires" not in drop_in["Unit"], "an early unit that fails must not keep xapi down"
    assert early["Unit"]["DefaultDependencies"] == "no" and "xapi.service" in early["Unit"]["Before"]
    assert int(early["Service"]["TimeoutStartSec"]) <= 20 and early["Service"]["ExecStart"].startswith("-")


# ------------------------------------------------------------------------------------------ what a unit leaves open

AGENT = PACKAGING / "poolwarden-agent.service"
COLLECTOR = PACKAGING.parent / "collector/poolwarden-collector.service"
# docs/security.md names what each remaining point would break.
MOST = {(AGENT,): 4.9, (AGENT, NEWER): 3.0, (COLLECTOR,): 1.7}


def analysed(verb: str, files: tuple[Path, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """systemd-analyze of a unit with its drop-ins. Nothing is started: the files alone are read."""
    unit = folder / files[0].name
    shutil.copy(files[0], unit)
    for drop_in in files[1:]:
        (folder / f"{unit.name}.d").mkdir()
        shutil.copy(drop_in, folder / f"{unit.name}.d")
    words = ["systemd-analyze", *verb.split(), unit]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("files", MOST, ids=lambda files: files[-1].stem)
def test_its_exposure_as_systemd_counts_it(files: tuple[Path, ...], tmp_path: Path) -> None:
    done = analysed("security --offline=true", files, tmp_path)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout[-300:] + done.stderr
    print(f"{files[-1].stem}: {found[1]}, at most {MOST[files]}")
    assert float(found[1]) <= MOST[files]


@pytest.mark.needs("systemd-analyze")
def test_a_newer_systemd_knows_everything_in_the_drop_in_for_it(tmp_path: Path) -> None:
    done = analysed("verify", (AGENT, NEWER), tmp_path)
    said = [line for line in done.stderr.splitlines() if "50-newer.conf" in line or "Unknown" in line]
    assert said == [] and "is not executable" in done.stderr, "it was read to its end"


def test_the_drop_in_for_newer_ones_repeats_the_units_limits_by_their_newer_names() -> None:
    """Weights of cgroup v1 and v2 have other defaults: 1024 and 500 are 100 (systemd.resource-control(5))."""
    old, new = settings(AGENT), settings(NEWER)
    assert new["MemoryMax"] == old["MemoryLimit"]
    assert int(new["CPUWeight"][0]) * 1024 == int(old["CPUShares"][0]) * 100
    assert int(new["IOWeight"][0]) * 500 == int(old["BlockIOWeight"][0]) * 100
    assert not set(old["SystemCallFilter"]) & set(new["SystemCallFilter"])


def test_neither_leaves_a_core_behind() -> None:
    for unit in (AGENT, COLLECTOR):
        assert settings(unit)["LimitCORE"] == ["1"], "0 does not keep systemd-coredump from getting one"


def test_every_system_call_is_one_that_the_libseccomp_beside_systemd_219_knows() -> None:
    """libseccomp 2.3 (2016) has those of Linux 4.5, the last of which on x86_64 is 326, copy_file_range."""
    library = ctypes.CDLL("libseccomp.so.2")
    numbers = {
        name: library.seccomp_syscall_resolve_name(name.encode()) for name in settings(AGENT)["SystemCallFilter"]
    }
    assert {name for name, number in numbers.items() if not 0 <= number <= 326} == set()
    assert len(numbers) == len(settings(AGENT)["SystemCallFilter"])


PROGRAMS = [
    ("fence_ipmilan", "-o", "metadata"),
    ("fence_redfish", "-o", "metadata"),
    ("fence_apc_snmp", "-o", "metadata"),
    ("ipmitool", "-V"),
    ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"),
]


@pytest.mark.needs("root", "fence_redfish", "ipmitool", "openssl")
@pytest.mark.parametrize("files", [(AGENT,), (AGENT, NEWER)], ids=["219", "newer"])
@pytest.mark.parametrize("words", PROGRAMS, ids=lambda words: words[0])
def test_what_an_agent_runs_runs_within_its_units_limits(words: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """The agent itself runs so in test_agent_installed.py."""
    path = shutil.which(words[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert path is not None
    done = subprocess.run(
        [path, *words[1:]], preexec_fn=confinement(*files), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.needs("root")
def test_what_an_agent_has_no_use_for_is_refused(tmp_path: Path) -> None:
    script = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
for name, words in (("unshare", (0x20000,)), ("mount", (0, 0, 0, 0, 0)), ("chroot", (b"/",)), ("ptrace", (0, 0, 0, 0))):
    assert getattr(libc, name)(*words) == -1 and ctypes.get_errno() == 38, name
for family in (socket.AF_PACKET, 40):
    try:
        socket.socket(family, socket.SOCK_RAW, 0)
    except OSError as error:
        assert error.errno == 38
    else:
        raise AssertionError(family)
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
try:
    os.chown(sys.argv[1], 1, 1)
except PermissionError:
    print("refused")
"""
    command = ["/usr/bin/python3", "-IS", "-c", script, str(tmp_path)]
    done = subprocess.run(command, preexec_fn=confinement(AGENT), capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
