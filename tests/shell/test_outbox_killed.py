"""A collector's outbox that is killed with SIGKILL at any delivery loses nothing, and keeps the order of each topic."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

KILLED_AT = {1, 2, 4, 5, 7, 9, 10, 12}  # of the requests; every other one after its answer was sent
CHILD = """
    import asyncio, sys
    from pathlib import Path
    from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
    from poolwarden_collector.shell.alerts import outbox as module
    from poolwarden_collector.shell.queue import lookout
    from poolwarden_collector.shell.alerts.channels import make_sinks
    from poolwarden_collector.shell.config.alert_channels import Alerts, Channel, Webhook
    from poolwarden_collector.shell.config.alert_routes import Routes
    from poolwarden_collector.shell.store import storms
    from poolwarden_collector.shell.store.journal import Journal

    module.FIRST_RETRY_MS, lookout.LOOK_EVERY_S, storms.SETTLE_MS = 20, 0.02, 0
    POOL = "aaaaaaaa-0000-4000-8000-000000000001"

    async def main():
        channels = (Channel(Webhook("ops", sys.argv[2])),)
        journal = Journal(Path(sys.argv[1]), "c", ("webhook:ops",), "", Routes(channels, lambda _: "", lambda _: ""))
        async def write(call, *args):
            return await asyncio.to_thread(call, *args)
        sinks = make_sinks(Alerts(channels), "c", lambda pool, message: None)
        outbox = module.Outbox(journal, sinks, write, lambda rows: None)
        def begin(*names, **data):
            alerts = [AlertRaised(name, "warning", name, "b", data) for name in names]
            journal.commit(POOL, [], alerts, "p")
        def end(*names):
            journal.commit(POOL, [], [AlertResolved(name, "over") for name in names], "p")
        storm = [f"host-{n}" for n in range(12)]
        steps = [
            lambda: begin("disk", "copies"), lambda: end("disk"), lambda: begin("disk"), lambda: begin(*storm),
            lambda: begin("masters", message="two-masters"), lambda: end("masters", "copies", *storm),
        ]
        outbox.start()
        done = Path(sys.argv[1], "steps")
        while True:
            if not journal.pending():
                number = int(done.read_text()) if done.exists() else 0
                if number == len(steps):
                    break
                done.write_text(str(number + 1))
                steps[number]()
                outbox.nudge()
            await asyncio.sleep(0.01)
        await outbox.stop()
        journal.close()

    asyncio.run(main())
"""


class Receiver:
    """Takes what is told and kills who told it."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self.child: subprocess.Popen[bytes] | None = None
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.got.append((self.headers["Idempotency-Key"], body["state"]))
                number = len(receiver.got)
                if number in KILLED_AT and number % 2:
                    receiver.kill()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if number in KILLED_AT and not number % 2:
                    receiver.kill()

            def log_message(self, *args: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # who was killed does not hear the answer
                    super().handle()

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self) -> None:
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGKILL)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_overtakes(tmp_path: Path) -> None:
    receiver = Receiver()
    ends = []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    url = f"http://127.0.0.1:{receiver.server.server_port}/"
    for _ in range(len(KILLED_AT) + 1):
        receiver.child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), url], env=environment
        )
        ends.append(receiver.child.wait(60))
        if ends[-1] == 0:
            break
    receiver.server.shutdown()
    receiver.server.server_close()
    assert ends == [-signal.SIGKILL] * len(KILLED_AT) + [0]
    told: dict[str, list[str]] = {}
    for key, _ in receiver.got:
        topic, occurrence, state = key.rsplit("/", 2)
        told.setdefault(topic, []).append(f"{occurrence}{state[0]}")
    once = {topic: list(dict.fromkeys(states)) for topic, states in told.items()}
    assert once == {
        "disk": ["1f", "1r", "2f"],
        "copies": ["1f", "1r"],
        "masters": ["1f", "1r"],
        "storm/webhook:ops": ["1f", "1r"],
    }
    for topic, states in told.items():
        assert states == sorted(states, key=once[topic].index), f"{topic}: what was told was told again out of order"
    repeated = len(receiver.got) - sum(map(len, once.values()))
    assert len([number for number in KILLED_AT if number % 2]) <= repeated <= len(KILLED_AT)
