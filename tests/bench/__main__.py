"""``make bench``: measured figures against the budgets. Options: ``--only NAME``, ``--rounds N``, ``--list``.

Measures and prints; asserts nothing about time and never runs in ``make test``. It enters network and mount namespaces
of its own first, as the lab does, so that nothing of a world is visible outside and all of it is gone with it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from machine import OWN_36, ROOT, command_line, find_code, headline, runs_agents

find_code()

from figures import TABLE_HEAD, Figure, Stopped  # noqa: E402
from settings import Settings, progress  # noqa: E402

from poolwarden_lab.processes import network  # noqa: E402

# name -> (module, what it measures, roughly how long 30 rounds take)
BENCHES = {
    "scale": ("scale", "one collector and 1,000, 3,000 and 10,000 agents; a thousand lost masters", "35 min"),
    "engine": (
        "engine_cost",
        "cost of one engine step, and of the deciding one with its commit; 3, 16 and 64 hosts",
        "1 min",
    ),
    "status": ("status_cost", "`poolwarden status` as a process, against a live collector", "1 min"),
    "pools": (
        "many_pools",
        "`poolwarden status` with 1, 30 and 2,000 pools, and what the engine's loop feels of each call",
        "5 min",
    ),
    "metrics": ("metrics_cost", "a scrape of 100 pools of 8 hosts, and what the engine feels of it", "3 min"),
    "page": ("page_cost", "the page with 1,000 idle viewers, and with 2,000 pools, and what the engine feels", "7 min"),
    "power": ("power_loss", "power loss to promote order, and the collector's part of it", "20 min"),
    "several": ("several", "takeovers among three collectors, and commits in etcd beside SQLite's", "25 min"),
    "decision": ("decision", "the collector's part in a pool of 64 hosts, through TLS, engine and journal", "20 min"),
    "simulation": ("simulation_speed", "the simulation's speed, and a failover's phases in virtual time", "3 min"),
    "journal": ("journal_start", "a start on 10^6 journal entries, questions to it, and its upkeep", "3 min"),
    "boot": ("boot_delay", "how long the boot gate delays xapi's start on a healthy host", "10 min"),
    "database": ("database_reader", "memory and time for a state.db of 100 MB in the agent", "1 min"),
    "footprint": ("footprint", "agents with 5 and with 100 domains beside prometheus-node-exporter", "20 min"),
    "agent": ("agent_cost", "memory, processor and forks of an idle agent, on each Python", "10 min each"),
}


def main() -> int:
    given = _arguments()
    if given.list:
        for name, (_, what, lasts) in BENCHES.items():
            print(f"{name:<10} {what} ({lasts})")
        return 0
    os.chdir(ROOT)
    sizes = tuple(given.agents or ())
    settings = Settings(given.rounds, given.seconds, _enter(), sizes, given.pools, _pythons(given.python36))
    # A shell's background job inherits an ignored SIGINT; asyncio takes its turn only over Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    print(f"{headline()}; {given.rounds} rounds")
    figures, failed = _measure(given.only or list(BENCHES), settings)
    if "3.6" not in settings.pythons:
        print(f"not measured: agents on Python 3.6 (no interpreter with the agent's packages at {given.python36})")
    if figures:
        print("\n" + "\n".join([TABLE_HEAD, *(figure.row() for figure in figures)]))
    print(f"\nafter it: {headline()}")
    if given.json:
        given.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1) + "\n")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=command_line(), description="Measure Poolwarden against its budgets.")
    parser.add_argument("--only", action="append", choices=BENCHES, help="measure only this; may be repeated")
    parser.add_argument("--rounds", type=_count, default=30, metavar="N", help="samples per figure [default: 30]")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of one window of an idle agent [default: 60]"
    )
    parser.add_argument(
        "--python36", type=Path, default=OWN_36, metavar="PATH", help="Python 3.6 with the agent's packages"
    )
    parser.add_argument("--agents", type=_count, action="append", metavar="N", help="of scale; may be repeated")
    parser.add_argument("--pools", type=int, default=0, metavar="N", help="of scale: so many lose their masters")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--list", action="store_true", help="name the benchmarks")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds (1 or more)")
    return int(text)


def _enter() -> str:
    """Go on inside namespaces, by this very command; or the reason why not. As `netns.enter`, which takes a module."""
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    if network.entered():
        return ""
    reason = network.refusal()
    if reason:
        return reason
    os.environ[network.MARKER] = "yes"
    words = [sys.executable, str(Path(__file__).parent), *sys.argv[1:]]
    return os.execvp("unshare", ["unshare", *network.flags(), *words])


def _pythons(python36: Path) -> dict[str, str]:
    found = {runs_agents(python): str(python) for python in (sys.executable, python36.absolute())}
    return {version: python for version, python in found.items() if version}


def _measure(names: list[str], settings: Settings) -> tuple[list[Figure], bool]:
    """One after the other; one that fails is named, and the others go on."""
    figures: list[Figure] = []
    failed = False
    for name in names:
        module, what, _ = BENCHES[name]
        print(f"\n== {name}: {what}", flush=True)
        try:
            found = importlib.import_module(module).main(settings)
        except KeyboardInterrupt:
            progress("interrupted; everything is taken down")
            return figures, True
        except Stopped as stopped:
            print(f"STOPPED EARLY: {name}: {stopped}", flush=True)
            found, failed = stopped.figures, True
        except Exception as error:  # noqa: BLE001 - whatever stopped it, the other figures are still wanted
            print(f"NOT MEASURED: {name}: {type(error).__name__}: {error}", flush=True)
            failed = True
            continue
        for figure in found:
            print("\n".join(figure.lines()), flush=True)
        figures += found
    return figures, failed


if __name__ == "__main__":
    sys.exit(main())
