"""`make test` itself: what it counts as run, what it says did not run, and that it cannot pass by omission."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .tree import ROOT

DEVELOP = ROOT / "packaging/develop"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """packaging/develop/run_tests.py as a module."""
    spec = importlib.util.spec_from_file_location("run_tests", DEVELOP / "run_tests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_tests"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        ("...\n153 passed in 1.18s\n", 0, (153, 0, 0)),
        ("1 failed, 12 passed, 2 skipped, 3 deselected, 1 warning in 4.00s\n", 1, (12, 1, 2)),
        ("2 passed, 3 errors in 0.10s\n", 1, (2, 3, 0)),
        ("1 xfailed, 4 passed in 0.10s\n", 0, (4, 0, 1)),
        ("no tests ran in 0.01s\n", 5, (0, 1, 0)),
        ("5 passed in 0.01s\nSegmentation fault\n", -11, (5, 1, 0)),
        ("ImportError while loading conftest\n", 4, (0, 1, 0)),
    ],
)
def test_pytest_counts(runner: ModuleType, output: str, status: int, expected: tuple[int, int, int]) -> None:
    assert runner.counts(runner.Step("x", (), is_pytest=True), output, status) == expected


def test_other_steps_count_by_their_exit_status(runner: ModuleType) -> None:
    assert runner.counts(runner.Step("x", ()), "3 passed in 1s", 1) == (0, 1, 0)
    assert runner.counts(runner.Step("x", ()), "", 0) == (1, 0, 0)


def test_a_step_is_run_and_its_output_shown(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = runner.run(runner.Step("echo", ("sh", "-c", "echo seen; exit 3")), dict(os.environ))
    assert (outcome.passed, outcome.failed) == (0, 1)
    assert "seen" in capsys.readouterr().out


def closing(
    runner: ModuleType, capsys: pytest.CaptureFixture[str], steps: list[str], found36: bool
) -> tuple[int, list[str]]:
    """Exit status and closing lines of a run in which these steps passed."""
    known = {step.name: step for step in runner.steps(True)}
    status = runner.close([runner.Outcome(known[name], 10, 0, 0, 1.0) for name in steps], found36)
    return status, capsys.readouterr().out.splitlines()


def test_the_last_line_is_plain(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    every = [step.name for step in runner.steps(True)]
    status, lines = closing(runner, capsys, every, found36=True)
    assert (status, lines[-1]) == (0, f"total: {10 * len(every)} passed, 0 failed")


def test_without_a_python36_it_says_so(
    runner: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    status, lines = closing(runner, capsys, [step.name for step in runner.steps(False)], found36=False)
    assert status == 0
    assert lines[-2] == "not run: no Python 3.6"


@pytest.mark.parametrize(("tier", "said"), [("quick", False), ("full", True), ("long", True)])
def test_without_the_python_of_a_newer_dom0_it_says_so(
    runner: ModuleType, capsys: pytest.CaptureFixture[str], tier: str, said: bool
) -> None:
    passed = [runner.Outcome(step, 10, 0, 0, 1.0) for step in runner.steps(True, tier)]
    assert runner.close(passed, True, tier, ["3.12"]) == 0
    assert any(line.startswith("not run: no Python 3.12;") for line in capsys.readouterr().out.splitlines()) is said


def test_under_ci_a_python36_that_is_here_must_have_been_used(
    runner: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    status, lines = closing(runner, capsys, [step.name for step in runner.steps(False)], found36=True)
    assert status == 1
    assert any("did not run on it" in line for line in lines)
    assert lines[-1].endswith("3 failed")


def test_nothing_run_is_a_failure(runner: ModuleType) -> None:
    assert runner.close([], False) == 1


def python_that(folder: Path, name: str, script: str) -> Path:
    """An executable of that name."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def find_python(wanted: str, home: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """find-python with nothing but these places to look in."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), **changes}
    return subprocess.run(
        [DEVELOP / "find-python", wanted], env=environment, capture_output=True, text=True, check=False
    )


def test_a_shim_that_does_not_run_is_no_python(tmp_path: Path) -> None:
    python_that(tmp_path / "shims", "python3.6", "echo 'command not found' >&2; exit 127")
    found = find_python("3.6", tmp_path, PATH=f"{tmp_path / 'shims'}:/usr/bin:/bin")
    assert str(tmp_path) not in found.stdout


def test_a_python_of_another_version_does_not_count(tmp_path: Path) -> None:
    python_that(tmp_path / "shims", "python3.6", f'exec {sys.executable} "$@"')
    found = find_python("3.6", tmp_path, PATH=f"{tmp_path / 'shims'}:/usr/bin:/bin")
    assert found.stdout.strip() != sys.executable


def test_the_named_python_is_asked_first(tmp_path: Path) -> None:
    found = find_python("3.11+", tmp_path, PYTHON=sys.executable)
    assert found.returncode == 0
    assert Path(found.stdout.strip()).resolve() == Path(sys.executable).resolve()


def in_a_copy(tmp_path: Path, script: str, listing: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a develop script in a tree that has only what it reads."""
    shutil.copytree(DEVELOP, tmp_path / "packaging/develop")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/apt.txt").write_text(listing)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "APT")}
    command = [tmp_path / "packaging/develop" / script]
    return subprocess.run(command, env={**environment, **changes}, capture_output=True, text=True, check=False)


def test_missing_packages_are_named_and_not_installed(tmp_path: Path) -> None:
    done = in_a_copy(
        tmp_path, "system-packages", "# x\nsome-package no-such-command # the moon tests\ncoreutils ls # y\n"
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "missing: no-such-command (Debian package some-package); will not run: the moon tests",
        "to install them: make APT=1 test",
    ]


@pytest.mark.parametrize("switch", [{"CI": "true"}, {"APT": "1"}])
def test_missing_packages_are_installed_where_asked(tmp_path: Path, switch: dict[str, str]) -> None:
    log = tmp_path / "asked"
    tools = tmp_path / "tools"
    install = f'echo "$@" >>{log}; [ "$2" = update ] || ln -s /bin/true {tools}/no-such-command'
    python_that(tools, "apt-get", install)
    python_that(tools, "sudo", 'shift; exec "$@"')
    path = f"{tools}:{os.environ['PATH']}"
    done = in_a_copy(tmp_path, "system-packages", "some-package no-such-command # moon\n", PATH=path, **switch)
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == ["-q update", "-q install -y --no-install-recommends some-package"]


def test_a_failed_installation_fails_the_run(tmp_path: Path) -> None:
    python_that(tmp_path / "tools", "apt-get", "echo 'E: no such package'; exit 100")
    python_that(tmp_path / "tools", "sudo", 'shift; exec "$@"')
    path = f"{tmp_path / 'tools'}:{os.environ['PATH']}"
    done = in_a_copy(tmp_path, "system-packages", "some-package no-such-command # moon\n", PATH=path, CI="true")
    assert done.returncode == 1
    assert "could not install: some-package" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"), [({}, "1 passed, 2 deselected"), ({"CI": "true"}, "2 passed, 1 deselected")]
)
def test_tests_that_need_what_is_absent_are_named(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    """Under CI=true they fail instead, unless it is a Python: nothing of this project can install one."""
    (tmp_path / "packaging/develop").mkdir(parents=True)
    shutil.copy(ROOT / "packaging/develop/find-python", tmp_path / "packaging/develop")
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tests)
    (tests / "test_x.py").write_text(
        "import pytest\n@pytest.mark.needs('no-such-command')\ndef test_a(): pass\n"
        "@pytest.mark.needs('ls')\ndef test_b(): pass\n@pytest.mark.needs('python3.99')\ndef test_c(): pass\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tests, tests]
    done = subprocess.run(
        command, cwd=tests, env={**environment, **changes}, capture_output=True, text=True, check=False
    )
    assert expected in done.stdout
    assert ("not run, no no-such-command: test_x.py::test_a" in done.stdout) == (not changes)
    assert "not run, no python3.99: test_x.py::test_c" in done.stdout
