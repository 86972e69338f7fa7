"""A fire drill of real processes: scripted from begin to end, and a person's program that dies in the middle of a step.

The tests of this file share one world and run in the order in which they stand.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab_rig import CLI, Lab, lab_environment, left_behind

pytestmark = pytest.mark.needs("namespaces", "ip", "nft")

EVACUATE = """
import XenAPI
session = XenAPI.Session("http://10.99.0.11")
session.xenapi.login_with_password("root", "xenroot", "1.0", "test")
host = next(ref for ref, each in session.xenapi.host.get_all_records().items() if each["hostname"] == "lab-h3")
session.xenapi.host.disable(host)
for vm in session.xenapi.host.get_resident_VMs(host):
    if not session.xenapi.VM.get_is_control_domain(vm):
        session.xenapi.VM.hard_shutdown(vm)
session.xenapi.pool.sync_database()
"""


@pytest.fixture(scope="module")
def lab():
    home = Path(f"/tmp/pf{os.getpid()}")
    lab = Lab(home)
    try:
        yield lab.up(3, "--time-factor", "20")
    finally:
        lab.down()
        left = left_behind(home)
        shutil.rmtree(home, ignore_errors=True)
        assert not left


def drill(lab: Lab, *words: str) -> subprocess.Popen[str]:
    environment = {**lab_environment(), "POOLWARDEN_COLLECTOR": lab.target}
    return subprocess.Popen(
        [*CLI, "drill", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def host(lab: Lab, name: str):
    return next(each for each in lab.pool().hosts if each.name == name)


def test_a_drill_that_a_script_walks_passes_and_says_what_each_phase_took(lab):
    no = lab.cli("drill", "--yes", "--steps", "fence", "--host", "lab-h3", "--name", "lab-h3")
    assert no.returncode == 1 and "run on lab-h3" in no.stderr and "xe host-evacuate" in no.stderr
    lab.lab("exec", "collector", "--", sys.executable, "-c", EVACUATE)
    lab.wait(lambda: host(lab, "lab-h3").enabled == "no" and host(lab, "lab-h3").running_vms == 0, "lab-h3 is empty")
    words = ("--yes", "--steps", "fence,restart,hold", "--host", "lab-h3", "--name", "lab-h3", "--json")
    done = drill(lab, *words)
    out, err = done.communicate(timeout=170)
    assert done.returncode == 0, (out, err, [(e.kind, e.text) for e in lab.history()][-30:])
    result = json.loads(out)
    assert result["outcome"] == "passed"
    phases = {step["part"]: [phase["phase"] for phase in step["phases"]] for step in result["steps"]}
    assert phases["fence"][:5] == ["off", "reads-off", "reads-on", "heard", "back"]
    assert phases["restart"][:2] == ["answers", "back"]
    assert phases["hold"][:4] == ["held", "refused", "released", "back"]
    assert all(phase["took_ms"] is not None for step in result["steps"] for phase in step["phases"])
    assert not any(entry.kind == "decided" for entry in lab.history())
    shown = lab.cli("history", "--drills")
    assert "PASSED" in shown.stdout and "never tried: switchover, power-loss" in shown.stdout
    assert "not drilled within a quarter" not in lab.cli("readiness").stdout


def test_a_program_that_dies_in_the_middle_of_a_step_leaves_a_pool_that_is_told(lab):
    before = len([entry for entry in lab.history() if entry.kind == "drill-ended"])
    walked = drill(lab, "--yes", "--steps", "restart,switchover", "--host", "lab-h2")
    lab.wait(lambda: lab.pool().drill.state == "running", "the restart runs")
    walked.kill()
    walked.communicate()
    second = lab.cli("drill", "--yes", "--steps", "restart")
    assert second.returncode == 1 and "open already" in second.stderr
    lab.wait(lambda: lab.pool().drill.state == "waiting", "the restart has ended by itself", 120)
    assert "drill" in lab.cli("status").stdout
    step = lab.pool().drill.steps[0]
    assert step.state == "passed"
    done = drill(lab, "--resume", "--yes")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, (out, err)
    assert "PASSED" in out and lab.pool().master_name == "lab-h1"
    assert len([entry for entry in lab.history() if entry.kind == "drill-ended"]) == before + 1
