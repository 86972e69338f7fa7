"""What a dom0's rpm, C library and administrator may rely on, read from the package built for each dom0's Python.

The limits are CentOS 7's for all of them: rpm 4.11, glibc 2.17, libstdc++ 4.8.5. XCP-ng 9 has newer ones (AlmaLinux 10:
rpm 4.19, glibc 2.39), and nobody has said which ones XenServer 9 has.
"""

import re
import subprocess
from pathlib import Path

import pytest
from tests.packaging.conftest import DISTRIBUTIONS, EVERY_ABI, ROOT, build, package_for

pytestmark = [pytest.mark.needs("rpmbuild")]
# rpm 4.11 understands these (rpm: lib/rpmds.c of that version).
RPMLIB = {"CompressedFileNames", "FileDigests", "PayloadFilesHavePrefix", "PayloadIsXz", "VersionedDependencies"}
NEWEST = {"GLIBC": (2, 17), "GLIBCXX": (3, 4, 19), "CXXABI": (1, 3, 7), "GCC": (4, 8, 0)}  # CentOS 7's
OURS = (
    "/opt/poolwarden",
    "/usr/sbin/poolwarden-agent",
    "/usr/lib/systemd/system/",
    "/usr/lib/systemd/system-preset/50-poolwarden-agent.preset",
    "/etc/poolwarden",
    "/var/lib/poolwarden",
    "/etc/xensource/bugtool/poolwarden",
)
NEWER = "/usr/lib/systemd/system/poolwarden-agent.service.d"


@pytest.fixture(scope="module", params=EVERY_ABI)
def abi(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def package(abi: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_for(abi, tmp_path_factory)


def query(package: Path, *words: str) -> list[str]:
    done = subprocess.run(["rpm", "-qp", *words, package], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def content(package: Path, name: str) -> bytes:
    """One file of it."""
    unpacked = subprocess.run(["rpm2cpio", package], stdout=subprocess.PIPE, check=True).stdout
    words = ["cpio", "-i", "--quiet", "--to-stdout", f".{name}"]
    return subprocess.run(words, input=unpacked, stdout=subprocess.PIPE, check=True).stdout


def test_dom0s_rpm_can_read_it(package: Path) -> None:
    features = {found[1] for line in query(package, "--requires") if (found := re.match(r"rpmlib\((\w+)\)", line))}
    assert features and features <= RPMLIB
    assert query(package, "--qf", "%{PAYLOADCOMPRESSOR} %{PAYLOADFORMAT}\n") == ["xz cpio"]
    for kind in ("--recommends", "--suggests", "--supplements", "--enhances"):
        assert query(package, kind) == []
    assert not [line for line in query(package, "--requires") if line.startswith("(")], "rich dependencies"


def test_dom0s_libraries_have_every_symbol(package: Path) -> None:
    seen = set()
    for line in query(package, "--requires"):
        for library, version in re.findall(r"\((GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)\)", line):
            seen.add(library)
            assert tuple(int(part) for part in version.split(".")) <= NEWEST[library], line
    assert {"GLIBC", "GLIBCXX"} <= seen


def test_it_says_which_python_it_is_for_and_provides_nothing_of_what_it_vendors(package: Path, abi: str) -> None:
    required = query(package, "--requires")
    assert f"python(abi) = {abi}" in required
    starter = "/usr/bin/python3" if abi == "3.6" else f"/usr/bin/python{abi}"
    assert [line for line in required if line.startswith("/usr/bin/python")] == [starter]
    assert content(package, "/opt/poolwarden/bin/poolwarden-agent").startswith(f"#!{starter} -IS\n".encode())
    assert package.name.endswith(f".{DISTRIBUTIONS[abi]}.x86_64.rpm")
    assert {line.split(" ")[0].split("(")[0] for line in query(package, "--provides")} <= {"poolwarden-agent", "config"}


def test_it_owns_only_its_own_places(package: Path, abi: str) -> None:
    files = query(package, "--list")
    tag = f"cpython-{abi.replace('.', '')}"
    assert not [name for name in files if not name.startswith(OURS)]
    assert not [name for name in files if "iptables" in name or "firewall" in name or "logrotate" in name]
    assert [
        name for name in files if name.startswith("/opt/poolwarden/vendor/grpc/_cython/cygrpc") and name.endswith(".so")
    ]
    assert "/opt/poolwarden/vendor/google/__init__.py" in files, "a regular `google` of dom0's would win"
    assert not [name for name in files if re.search(r"\.pth$|/tests?/", name)]
    assert "/opt/poolwarden/vendor/psutil/_psutil_linux.abi3.so" in files
    assert not [name for name in files if re.search(r"psutil/_ps(windows|osx|bsd)", name)]
    licences = {name.split("/")[-1] for name in files if name.startswith("/opt/poolwarden/licenses/")}
    assert {"grpcio.LICENSE", "protobuf.METADATA", "psutil.LICENSE", "xenapi.METADATA"} <= licences
    assert [name for name in files if re.search(rf"poolwarden_agent/host/__pycache__/executor\.{tag}\.pyc$", name)]
    assert "/opt/poolwarden/lib/poolwarden/redfish_question.py" in files


def test_who_sits_in_dom0_has_the_pages_that_he_needs(package: Path, tmp_path: Path) -> None:
    """As documentation, without a link that leads nowhere, and small: dom0's / is."""
    flags = query(package, "--qf", "[%{FILEFLAGS:fflags} %{FILESIZES} %{FILENAMES}\n]")
    pages = {line.split()[2]: int(line.split()[1]) for line in flags if line.startswith("d ") and "/doc/" in line}
    folder = "/opt/poolwarden/doc"
    assert {f"{folder}/{name}.md" for name in ("deciding", "verify-on-real-hosts", "xencenter-and-xo")} < set(pages)
    assert sum(pages.values()) < 200 * 1024
    unpacked = subprocess.run(["rpm2cpio", package], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["cpio", "-id", "--quiet", f".{folder}/*"], cwd=tmp_path, input=unpacked, check=True)
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (tmp_path / page.lstrip("/")).read_text())
        if f"{folder}/{link}" not in pages
    ]
    assert links == []


def test_secrets_and_state_are_not_for_everybody(package: Path) -> None:
    found = {
        line.split()[-1]: line.split()[:2]
        for line in query(package, "--qf", "[%{FILEMODES:perms} %{FILEGROUPNAME} %{FILENAMES}\n]")
    }
    assert found["/etc/poolwarden/tls"] == ["drwxr-x---", "poolwarden"]
    assert found["/etc/poolwarden/agent.conf"] == ["-rw-r-----", "poolwarden"]
    assert found["/etc/poolwarden/policy.conf"] == ["-rw-------", "root"]
    assert found["/var/lib/poolwarden"] == ["drwx------", "root"]
    config = query(package, "--qf", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]")
    for name in ("agent.conf", "policy.conf"):
        assert f"cn /etc/poolwarden/{name}" in config, "an edited configuration survives an upgrade"


def test_only_a_newer_systemd_gets_what_219_does_not_know(package: Path, abi: str) -> None:
    found = [name for name in query(package, "--list") if name.startswith(NEWER)]
    assert found == ([] if abi == "3.6" else [NEWER, f"{NEWER}/50-newer.conf"])


def test_its_byte_code_is_taken_without_reading_the_sources(package: Path) -> None:
    """By their times (PEP 552: no flag is set), which are the commit's for every file."""
    flags = query(package, "--qf", "[%{FILEMTIMES} %{FILENAMES}\n]")
    times = {line.split(" ", 1)[1]: int(line.split(" ", 1)[0]) for line in flags}
    (name,) = [each for each in times if "/poolwarden_agent/__pycache__/host_port." in each]
    head = content(package, name)[:12]
    old = "cpython-36" in name
    assert old or head[4:8] == bytes(4)
    source = int.from_bytes(head[4:8] if old else head[8:12], "little")
    assert source == times["/opt/poolwarden/lib/poolwarden_agent/host_port.py"] == times[name]


def test_the_same_commit_gives_the_same_bytes(package: Path, abi: str, tmp_path: Path) -> None:
    assert build(tmp_path / "elsewhere", "--abi", abi).read_bytes() == package.read_bytes()


@pytest.mark.needs("rpmlint")
def test_rpmlint_has_nothing_to_say(package: Path) -> None:
    config = ROOT / "packaging/agent/rpmlint.toml"
    done = subprocess.run(["rpmlint", "-c", config, package], capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("poolwarden-agent.")]
    assert done.returncode == 0 and not said
