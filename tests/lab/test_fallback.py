"""Where namespaces are refused the lab starts on 127.0.x.y, and says what that cannot show."""

import shutil


def test_it_starts_says_its_limits_and_refuses_what_it_cannot_do(new_lab):
    lab = new_lab()
    said = lab.lab("up", "--hosts", "2", "--no-namespaces", "--time-factor", "20").stdout
    assert "without namespaces: no cables and no partitions" in said
    assert lab.pool().verdict == "Healthy"
    refused = lab.lab("fault", "h1", "partition-collector", check=False)
    assert refused.returncode == 1
    assert "no partitions without namespaces (it was asked for)" in refused.stderr
    full = lab.lab("fault", "h1", "disk-full", check=False)
    assert "would fill the machine's disk" in full.stderr
    assert lab.lab("exec", "h2", "--", "cat", "etc/xensource/pool.conf").stdout == "slave:127.0.1.1"


def test_a_story_that_needs_a_real_network_fails_with_that_reason(new_lab):
    lab = new_lab()
    words = ("--plain", "--no-namespaces", "--hosts", "2", "--keep", str(lab.home), "--fault", "partition-collector")
    done = lab.lab("demo", *words, check=False)
    assert done.returncode == 1
    assert "FAILED: no partitions without namespaces" in done.stdout
    assert (lab.home / "logs" / "collector.log").exists()
    shutil.rmtree(lab.home)
