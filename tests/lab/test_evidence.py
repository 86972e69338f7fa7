"""Evidence of a failover with real programs: members keep capsules, the collector takes them, one archive holds all."""

import tarfile

import pytest

pytestmark = [pytest.mark.needs("namespaces", "ip"), pytest.mark.long]

SECRET = "OpaqueRef:12345678-aaaa-bbbb-cccc-123456789abc"


def test_what_members_kept_of_a_power_loss_is_in_the_archive_and_its_decision_is_made_again(new_lab, tmp_path):
    lab = new_lab().up(3, "--time-factor", "20")
    for host in lab.ask(op="status")["status"]["hosts"]:
        line = f"a line of {host['name']} session={SECRET}"
        write = f"echo '{line}' >> {host['root']}/var/log/xensource.log"
        lab.lab("exec", host["node"], "--", "sh", "-c", write)
    lab.lab("fault", "h1", "power")
    failover = lab.wait_kind("closed", 150).failover
    lab.wait(lambda: lab.cli("capsules").stdout.count("lab-h") >= 2, "capsules of both members", 60)
    whole, redacted = tmp_path / "whole.tar.gz", tmp_path / "redacted.tar.gz"
    for out, words in ((whole, ()), (redacted, ("--redact",))):
        done = lab.cli("export", failover, "--out", str(out), *words)
        assert done.returncode == 0, done.stderr
        again = lab.cli("replay", failover if not words else last(out), "--archive", str(out))
        assert again.returncode == 0 and "the same, to the last word" in again.stdout, again.stdout + again.stderr
    texts = contents(whole)
    logs = [text for name, text in texts.items() if name.endswith("/xensource.log")]
    assert any("a line of lab-h2" in text for text in logs) and any("a line of lab-h3" in text for text in logs)
    assert not any(SECRET in text for text in texts.values())
    assert "MasterVanished" in texts["evidence.txt"] and "promoted" in texts["timeline.txt"]
    for name, text in contents(redacted).items():
        assert not any(known in name + text for known in ("lab-h1", "lab-h2", "lab-h3", failover)), name


def contents(archive):
    with tarfile.open(str(archive)) as tar:
        return {member.name.partition("/")[2]: tar.extractfile(member).read().decode() for member in tar}


def last(archive):
    """The number of its last decision."""
    return max(
        (name.split("/")[1][: -len(".json")] for name in contents(archive) if name.startswith("decisions/")), key=int
    )
