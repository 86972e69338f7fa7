"""``poolwarden lab``: the demo, and a world to play with. Heavy imports wait until a command needs them.

``demo`` and the lab process of ``up`` replace themselves once by the same command inside namespaces of their own
(`netns.enter`); where that is refused they go on without, and say what that cannot show.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from poolwarden_lab.processes.lab import WorldSettings

FAILED, USAGE, NO_LAB, INTERRUPTED = 1, 2, 3, 130
MODULE = "poolwarden_lab"
DIRECTORY_VARIABLE = "POOLWARDEN_LAB_DIR"


def default_directory() -> Path:
    return Path(os.environ.get(DIRECTORY_VARIABLE) or f"/tmp/poolwarden-lab-{os.getuid()}")


_hosts = click.option("--hosts", type=click.IntRange(2, 64), default=3, show_default=True, help="Hosts of the pool.")
_factor = click.option(
    "--time-factor",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="How much faster xapi's own clock runs. Proofs, patience and agents are not affected.",
)
_python = click.option(
    "--agent-python", default="", metavar="PATH", help="Python that runs the agents, e.g. a 3.6. [default: this one]"
)
_no_namespaces = click.option(
    "--no-namespaces", is_flag=True, help="Use 127.0.x.y addresses even where namespaces work."
)
_collector_code = click.option(
    "--collector-code", default="", metavar="PATH", hidden=True, help="Where the collector's packages are, if not here."
)
_directory = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=None, help="The lab's directory."
)


_bmc = click.option(
    "--bmc",
    "bmc",
    type=click.Choice(("lab", "ipmi", "redfish")),
    default="lab",
    show_default=True,
    help="The lab's own BMCs, or real programs with real fence agents: ipmi_sim, sushy-tools' Redfish emulator.",
)


_https_only = click.option(
    "--https-only", is_flag=True, help="The hosts' firewalls drop TCP 80 from other hosts, as newer ones do by default."
)


_collectors = click.option(
    "--collectors",
    type=click.IntRange(1, 5),
    default=1,
    show_default=True,
    help="More than one: several on a real etcd of three members, which has to be installed.",
)


@click.group()
def lab() -> None:
    """A simulated pool with real agents and a real collector, to watch and to break."""


@lab.command()
@click.option("--fault", "story", default="power", show_default=True, help="The story; `--fault list` names them.")
@_hosts
@_factor
@_python
@_no_namespaces
@click.option("--plain", is_flag=True, help="One line per event, no colours.")
@_bmc
@click.option(
    "--via-members", is_flag=True, help="The members run the fence agent, as where the collector reaches no BMC."
)
@_https_only
@click.option("--ipv6", is_flag=True, help="Every address is one of IPv6; needs namespaces.")
@click.option("--bmc-fault", default="", metavar="FAULT", help="Spoil the story: give the master's BMC a fault first.")
@click.option(
    "--keep", type=click.Path(path_type=Path), default=None, help="Keep logs, journal and configuration there."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), default=None, help="Write the story's record there."
)
@click.option("--page", is_flag=True, help="Serve the collector's page to a browser here, and keep it until Ctrl-C.")
@_collectors
def demo(
    story: str,
    hosts: int,
    time_factor: float,
    agent_python: str,
    no_namespaces: bool,
    plain: bool,
    bmc: str,
    via_members: bool,
    https_only: bool,
    ipv6: bool,
    bmc_fault: str,
    keep: Path | None,
    json_file: Path | None,
    page: bool,
    collectors: int,
) -> None:
    """Break the master of a simulated pool, or of several collectors the one that owns it. About a minute."""
    from poolwarden_lab.demo import several_stories, stories

    if story == "list":
        for item in stories.STORIES.values():
            click.echo(f"{item.name:<24} {item.title}")
        for each in several_stories.STORIES.values():
            click.echo(f"{each.name:<24} {each.title} (--collectors 3)")
        return
    if story not in stories.STORIES and story not in several_stories.STORIES:
        known = ", ".join((*stories.STORIES, *several_stories.STORIES))
        _fail(USAGE, f"no story {story!r}; there are: {known}")
    _check_several(story, collectors, json_file, bmc_fault, page)
    _check_bmc(bmc)
    if via_members and bmc == "lab":
        _fail(USAGE, "--via-members needs --bmc ipmi or redfish: a member cannot ask the lab's BMCs who they are")
    if page:
        from poolwarden_lab.demo.page_door import make_door

        make_door()
    refused = _enter(no_namespaces)
    settings = _world_settings(hosts, keep, time_factor, agent_python, refused)
    if ipv6 and settings.refused:
        _fail(USAGE, f"--ipv6 needs namespaces: {settings.refused}")
    settings = replace(
        settings, bmc=bmc, via_members=via_members, https_only=https_only, ipv6=ipv6, page=page, collectors=collectors
    )
    if collectors > 1:
        sys.exit(_play_several(settings, story, plain))
    sys.exit(_play(settings, story, plain, bmc_fault, json_file))


def _check_bmc(kind: str) -> None:
    from poolwarden_lab.processes.bmc import fronts

    if kind != "lab" and (lacking := fronts.lacking(kind)):
        _fail(USAGE, lacking)


def _check_collectors(count: int) -> None:
    from poolwarden_lab.processes import collectors

    if count > 1 and (lacking := collectors.lacking()):
        _fail(USAGE, lacking)


def _check_several(story: str, collectors: int, json_file: Path | None, bmc_fault: str, page: bool) -> None:
    from poolwarden_lab.demo.several_stories import STORIES

    _check_collectors(collectors)
    if story in STORIES and collectors == 1:
        _fail(USAGE, f"{story} is a story of several collectors: --collectors 3")
    if story not in STORIES and collectors > 1:
        _fail(USAGE, f"{story} is a story of one collector; those of several are: {', '.join(STORIES)}")
    if collectors > 1 and (json_file or bmc_fault or page):
        _fail(USAGE, "--json, --bmc-fault and --page are of one collector's stories")


def _play_several(settings: WorldSettings, story: str, plain: bool) -> int:
    from poolwarden_lab.demo.screen import make_screen
    from poolwarden_lab.demo.several import SeveralDemo
    from poolwarden_lab.demo.several_stories import STORIES

    demo = SeveralDemo(settings, STORIES[story], settings.home is not None, make_screen(plain))
    return _run_to_end(demo.run())


def _play(settings: WorldSettings, story: str, plain: bool, bmc_fault: str, json_file: Path | None) -> int:
    from poolwarden_lab.demo.demo import Demo, DemoSettings
    from poolwarden_lab.demo.screen import make_screen
    from poolwarden_lab.demo.stories import STORIES

    extra = (f"bmc-{bmc_fault}",) if bmc_fault else ()
    chosen = DemoSettings(settings, STORIES[story], extra, json_file, settings.home is not None, settings.page)
    return _run_to_end(Demo(chosen, make_screen(plain)).run())


@lab.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--write", is_flag=True, help="Rewrite the golden logs by what was played (not where an invariant broke)."
)
@click.option("--quiet", is_flag=True, help="Print only what is not as expected.")
def story(files: tuple[Path, ...], write: bool, quiet: bool) -> None:
    """Play stories in virtual time and print their logs.

    Exit status 0: as expected; 1: an expectation failed or the golden log differs; 2: an invariant broke; 3: a story
    cannot be read. tests/scenarios/README.md explains the language; `poolwarden lab words` lists it.
    """
    from poolwarden_lab.story import show

    sys.exit(max(show.one(file, write=write, quiet=quiet) for file in files))


@lab.command()
@click.option("--seed", type=int, default=1, show_default=True, help="The first seed.")
@click.option("--runs", type=click.IntRange(min=1), default=300, show_default=True, help="How many seeds.")
@click.option(
    "--hosts", "count", type=click.IntRange(2, 64), default=None, help="Hosts of the pool. [default: by seed]"
)
@click.option("--shrink/--no-shrink", default=True, show_default=True, help="Make failing stories small.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    default=Path("tests/regressions"),
    show_default=True,
    help="Where failing stories are written.",
)
@click.option("--several", is_flag=True, help="Worlds of two or three collectors over one etcd.")
def simulate(seed: int, runs: int, count: int | None, shrink: bool, keep: Path, several: bool) -> None:
    """Random faults from seeds, every safety invariant after every event. Exit status 2 if one failed."""
    from poolwarden_lab.story import show

    if several and count is not None:
        _fail(USAGE, "--hosts is of one collector: with --several each seed says how many")
    sys.exit(show.simulate(seed, runs, count, shrink=shrink, directory=keep, several=several))


@lab.command()
def words() -> None:
    """The language of stories: every command, sign and moment in a line."""
    from poolwarden_lab.story import show

    click.echo(show.words())


@lab.command()
@_hosts
@_directory
@_factor
@_python
@_no_namespaces
@_bmc
@_https_only
@_collector_code
@_collectors
def up(
    hosts: int,
    directory: Path | None,
    time_factor: float,
    agent_python: str,
    no_namespaces: bool,
    bmc: str,
    https_only: bool,
    collector_code: str,
    collectors: int,
) -> None:
    """Start a pool in the background and return once it is healthy."""
    from poolwarden_lab.processes import background

    _check_bmc(bmc)
    _check_collectors(collectors)
    home = (directory or default_directory()).absolute()
    arguments = ["--hosts", str(hosts), "--dir", str(home), "--time-factor", str(time_factor)]
    arguments += ["--bmc", bmc, "--collectors", str(collectors)]
    arguments += ["--agent-python", agent_python] if agent_python else []
    arguments += ["--no-namespaces"] if no_namespaces else []
    arguments += ["--https-only"] if https_only else []
    arguments += ["--collector-code", collector_code] if collector_code else []
    problem = background.launch(arguments, click.echo)
    if problem:
        _fail(FAILED, problem)
    click.echo(background.hints(home, collectors))


@lab.command(hidden=True)
@_hosts
@_directory
@_factor
@_python
@_no_namespaces
@_bmc
@_https_only
@_collector_code
@_collectors
@click.option("--report", type=int, required=True, help="File descriptor for progress lines.")
def serve(
    hosts: int,
    directory: Path,
    time_factor: float,
    agent_python: str,
    no_namespaces: bool,
    bmc: str,
    https_only: bool,
    collector_code: str,
    collectors: int,
    report: int,
) -> None:
    """The lab process of `up`."""
    os.set_inheritable(report, True)
    refused = _enter(no_namespaces)
    from poolwarden_lab.processes import background

    settings = _world_settings(hosts, directory, time_factor, agent_python, refused)
    settings = replace(settings, bmc=bmc, https_only=https_only, collector_code=collector_code, collectors=collectors)
    sys.exit(_run_to_end(background.serve(settings, report)))


@lab.command()
@click.argument("host")
@click.argument("kind")
@_directory
def fault(host: str, kind: str, directory: Path | None) -> None:
    """Break HOST. `fault HOST list` names the kinds; HOST may be `collector`, or of several `c1`, `c2`, ..."""
    from poolwarden_lab.processes.collectors import FAULTS as OF_COLLECTORS
    from poolwarden_lab.processes.faults import FAULTS

    if kind == "list":
        for name, item in FAULTS.items():
            click.echo(f"{name:<20} {item.meaning}")
        for name, meaning in OF_COLLECTORS.items():
            click.echo(f"collector {name:<10} {meaning}")
        return
    _ask(directory, {"op": "fault", "host": host, "kind": kind})
    click.echo(f"{host}: {kind}")


@lab.command()
@click.argument("host", default="")
@_directory
def heal(host: str, directory: Path | None) -> None:
    """Undo every fault of HOST, or of all hosts; what is off boots."""
    _ask(directory, {"op": "heal", "host": host})
    click.echo(f"{host or 'all hosts'}: healed")


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_directory
def exec_(host: str, command: tuple[str, ...], directory: Path | None) -> None:
    """Run COMMAND in HOST's network (or `collector`'s), in its tree ($ROOT). Put `--` before the command."""
    words = list(command[1:] if command and command[0] == "--" else command)
    environment = {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES") if name in os.environ}
    request = {"op": "exec", "host": host, "command": words, "environment": environment}
    sys.exit(int(_ask(directory, request, streams=True)["code"]))


@lab.command()
@_directory
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def status(directory: Path | None, as_json: bool) -> None:
    """What the lab itself knows: power, links, processes."""
    found = _ask(directory, {"op": "status"})["status"]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(found["policy"])
    for line in found["limitations"]:
        click.echo(f"without namespaces: {line}")
    if len(found["collectors"]) > 1:
        for each in found["collectors"]:
            link = "" if each["link"] else " (cable pulled)"
            click.echo(f"{each['name']:<10} {each['address']:<14} collector {each['pid'] or 'is not running'}{link}")
    for host in found["hosts"]:
        click.echo(_say_host(host))


@lab.command()
@click.option(
    "--refuse", type=click.IntRange(min=0), default=None, help="Answer 503 to this many deliveries from now on."
)
@_directory
def webhook(refuse: int | None, directory: Path | None) -> None:
    """The alerts that the lab's webhook received, one JSON object a line."""
    for item in _ask(directory, {"op": "webhook", "refuse": refuse})["deliveries"]:
        click.echo(json.dumps(item))


@lab.command()
@_directory
def down(directory: Path | None) -> None:
    """End the lab and remove everything of it."""
    from poolwarden_lab.processes import background

    problem = background.end((directory or default_directory()).absolute())
    if problem:
        _fail(FAILED, problem)
    click.echo("the lab is down")


# ------------------------------------------------------------------------------------------------ shared


def _say_host(host: dict[str, Any]) -> str:
    state = "frozen" if host["frozen"] else "alive" if host["alive"] else "dead"
    marks = [] if host["link"] else ["cable pulled"]
    marks += [] if host["bmc_link"] else ["BMC's cable pulled"]
    marks += [f"BMC {name}" for name in host["bmc_faults"]]
    processes = f"xapi {host['xapi']['pid'] or '-'}, agent {host['agent']['pid'] or '-'}, {host['pool_conf']}"
    extra = f" ({', '.join(marks)})" if marks else ""
    return f"{host['name']:<10} {host['address']:<14} power {host['power']:<4} {state:<7} {processes}{extra}"


def _enter(no_namespaces: bool) -> str:
    """Go on inside namespaces, by the very same command; or the reason why not."""
    from poolwarden_lab.processes import network

    if no_namespaces:
        return "it was asked for"
    return network.enter(MODULE, _own_arguments())


def _own_arguments() -> list[str]:
    """This command's words behind ``lab``: what ``python -m poolwarden_lab`` takes."""
    words = sys.argv[1:]
    if words and words[0] in lab.commands:
        return words  # "lab" may be among them, as the kind of a BMC
    return words[words.index("lab") + 1 :] if "lab" in words else words


def _world_settings(
    hosts: int, home: Path | None, time_factor: float, agent_python: str, refused: str
) -> WorldSettings:
    from poolwarden_lab.processes.lab import WorldSettings

    # The lab's programs run with / as their directory; a path is made absolute, but a venv's link is not followed.
    agent_python = str(Path(agent_python).absolute()) if "/" in agent_python else agent_python
    python = agent_python or sys.executable
    if agent_python:
        problem = _cannot_run(agent_python)
        if problem:
            _fail(USAGE, problem)
    return WorldSettings(hosts=hosts, home=home, time_factor=time_factor, agent_python=python, refused=refused)


def _cannot_run(python: str) -> str:
    """Why this interpreter cannot run agents. An interpreter counts only if it runs: a shim on PATH may not."""
    import subprocess

    program = "import sys, grpc, google.protobuf; sys.exit(sys.version_info < (3, 6))"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"--agent-python {python}: {error}"
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    return f"--agent-python {python} cannot run agents: {last}"


def _run_to_end(main: Any) -> int:
    """Run it; SIGINT, SIGTERM and SIGHUP end it with its cleanup."""
    import asyncio
    import signal

    from poolwarden_lab.processes.network import NetworkError
    from poolwarden_lab.processes.places import PlaceError

    async def guarded() -> int:
        task = asyncio.ensure_future(main)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return int(await task)

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        click.echo("interrupted; everything is taken down", err=True)
        return INTERRUPTED
    except (NetworkError, PlaceError) as error:
        _fail(FAILED, str(error))


def _ask(directory: Path | None, request: dict[str, Any], *, streams: bool = False) -> dict[str, Any]:
    from poolwarden_lab.processes.control import LabError, ask

    home = (directory or default_directory()).absolute()
    try:
        return ask(home, request, streams=streams, timeout_s=None if streams else 120)
    except LabError as error:
        _fail(NO_LAB if "no lab answers" in str(error) else FAILED, str(error))


def _fail(code: int, text: str) -> NoReturn:
    click.echo(f"poolwarden lab: {text}", err=True)
    sys.exit(code)
