"""The demo where it does not come to its end: interrupted, killed, or asked for what there is not."""

import signal
import subprocess
import time

import pytest
from lab_rig import LAB, lab_environment, left_behind

pytestmark = pytest.mark.needs("namespaces", "ip", "nft")


def test_an_interrupt_takes_everything_down(short_tmp):
    demo = subprocess.Popen(
        [*LAB, "demo", "--plain"],
        env={**lab_environment(), "TMPDIR": str(short_tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(0.1)
    for line in demo.stdout:
        if "xapi's clock" in line:
            break
    deadline = time.monotonic() + 60
    while not list(short_tmp.glob("pw*/h1/var/run")) and not list(short_tmp.glob("pw*/collector.toml")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    demo.send_signal(signal.SIGINT)
    rest = demo.stdout.read()
    assert demo.wait(60) == 130
    assert "interrupted" in rest


def test_a_killed_demo_leaves_no_process(short_tmp):
    demo = subprocess.Popen(
        [*LAB, "demo", "--plain"],
        env={**lab_environment(), "TMPDIR": str(short_tmp)},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(short_tmp.glob("pw*/logs/h3-agent.log")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    demo.kill()
    demo.communicate()
    deadline = time.monotonic() + 60  # an interpreter that was just starting sees its end when it has started
    while left := {trace for trace in left_behind(short_tmp, 1) if not trace.startswith("file")}:
        assert time.monotonic() < deadline, left
    for path in short_tmp.glob("*"):
        subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fault", "volcano"], "there are: power, bmc-unreachable"),
        (["--hosts", "1"], "not in the range 2<=x<=64"),
        (["--agent-python", "/no/such/python"], "No such file"),
        (["--keep", "/tmp"], "not empty"),
    ],
)
def test_bad_input_is_one_clear_line(words, says):
    done = subprocess.run([*LAB, "demo", *words], env=lab_environment(), capture_output=True, text=True, timeout=30)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
