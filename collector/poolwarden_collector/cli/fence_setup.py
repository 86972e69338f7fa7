"""``poolwarden fence setup``: from what a dom0 knows of its BMC to a device block that has been tried.

The collector looks and tries; nothing is stored by it, and nothing is switched. What is written is written here, where
the operator says (``--write``), because the configuration is the operator's.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from poolwarden.typed_names import typed
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.layout import Line, Page, show
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector

SECRETS = ("password", "snmp_priv_passwd", "community")
CONFIG = Path("/etc/poolwarden/collector.toml")
OWNER = "poolwarden"  # the collector's user, as its archive installs it
_LIMIT_MS = 40_000


@click.command()
@click.argument("host_name", metavar="HOST")
@click.option("--address", default="", help="Of the BMC or outlet, where dom0 does not know it or knows another.")
@click.option("--agent", default="", metavar="NAME", help="e.g. fence_redfish, fence_ipmilan, fence_apc_snmp.")
@click.option("--user", default="", help="Who logs in there, instead of being asked.")
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="A parameter of the agent; may be repeated.")
@click.option("--password-file", type=click.Path(path_type=Path), help="Its first line; - is standard input.")
@click.option("--level", type=click.IntRange(1, 9), default=1, show_default=True, help="Of the new device.")
@click.option("--write", "target", type=click.Path(path_type=Path), help="Append the block to this file, once tried.")
@common_options
@click.pass_obj
def setup(
    settings: Settings,
    host_name: str,
    address: str,
    agent: str,
    user: str,
    more: tuple[str, ...],
    password_file: Path | None,
    level: int,
    target: Path | None,
) -> None:
    """Find HOST's BMC, propose its device block, and try it. Switches nothing.

    With --write FILE the block is appended to FILE and its secret goes into a new file of mode 0600 beside it;
    otherwise both are printed, the secret left out.
    """
    from poolwarden_collector.cli.names import find_host

    given = _given(more)
    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        _say(_known(host), settings)
        if any(each.level == level for each in host.fence_devices):
            text = f"a device of level {level} is there: of one level all are needed; --level makes this another way"
            _say([Line(text, "warn", indent=2)], settings)
        agent, parameters = _choose(collector, settings, host, address, agent)
        parameters |= given
        _credentials(agent, parameters, user, password_file)
        reply = _tried(collector, settings, host, agent, parameters)
    block = Block(host, _name(host, agent, level), reply.path, level, {**reply.parameters, **parameters})
    if not reply.good:
        raise AnswerIsNo(f"{agent} cannot fence {host.name} as it is now", "Correct what is said above, then again.")
    if target is not None:
        _say(_written(block, target), settings)
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json({**as_object(reply), "block": block.text(block.secret_file(target))})
    elif target is None:
        _print(block, settings)


def _say(page: Page, settings: Settings) -> None:
    if not settings.json:
        show(page, settings)


def _known(host: "api.HostStatus") -> Page:
    """What dom0 says, and what is configured already."""
    from poolwarden_collector.cli.pages.fences import fence_page

    m = host.machine
    what = " ".join(filter(None, (m.vendor, m.model))) or "machine not known"
    page: Page = [
        Line(f"{what}, UUID {m.system_uuid or 'not known'}, serial {m.serial or 'not known'}", label=f"{host.name}: ")
    ]
    bmc = m.bmc_address or "its dom0 does not know the address (no BMC, or no ipmitool in dom0)"
    page.append(Line(bmc, label="BMC: ", indent=2))
    if not host.agent_connected:
        page.append(Line("its agent is not heard: what is tried now proves little", "warn", indent=2))
    return page if not host.fence_devices else [*page, *fence_page(host)]


def _choose(
    collector: "Collector", settings: Settings, host: "api.HostStatus", address: str, agent: str
) -> tuple[str, dict[str, str]]:
    """The fence agent and what its block begins with."""
    if agent and not _is_bmc(agent):
        if not (address or host.machine.bmc_address):
            raise BadInput(f"where is it? nothing is known for {agent}", "--address IP")
        return agent, {"ip": address or host.machine.bmc_address}
    reply = collector.find_fence(host.host_uuid, address)
    _say([Line(each.text, "good" if each.answers else "dim", indent=2) for each in reply.found], settings)
    wanted = [each for each in reply.found if each.answers and (not agent or _kind(each.agent) == _kind(agent))]
    if not wanted and not agent:
        step = "If only its pool's hosts reach it, see docs/fencing.md (via); for an outlet: --agent NAME --address IP."
        raise AnswerIsNo(f"nothing at {reply.address} answers the collector that could fence {host.name}", step)
    chosen = wanted[0] if wanted else None
    parameters = dict(chosen.parameters) if chosen is not None else {}
    return agent or (chosen.agent if chosen is not None else ""), {"ip": reply.address, **parameters}


def _kind(agent: str) -> str:
    return "redfish" if agent == "fence_redfish" else "ipmi"


def _is_bmc(agent: str) -> bool:
    return agent == "fence_redfish" or agent.startswith(("fence_ipmi", "fence_ilo", "fence_idrac", "fence_imm"))


def _given(more: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for each in more:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise BadInput(f"--set {each!r} has no '='", "--set NAME=VALUE, e.g. --set plug=4")
        if name in SECRETS:
            raise BadInput(f"--set {name}: a secret on a command line is read by everybody", "--password-file FILE")
        found[name] = value
    return found


def _credentials(agent: str, parameters: dict[str, str], user: str, password_file: Path | None) -> None:
    """User and secret, asked for where they were not given."""
    terminal = sys.stdin.isatty()
    if "username" not in parameters:
        if not user and not terminal:
            raise BadInput("who logs in there is not said, and nobody is at a terminal", "--user NAME")
        parameters["username"] = user or str(click.prompt("User at the BMC", err=True))
    secret = "snmp_priv_passwd" if agent.endswith("_snmp") else "password"
    if password_file is not None:
        parameters[secret] = _first_line(password_file)
    elif terminal:
        parameters[secret] = str(click.prompt("Password (not shown)", hide_input=True, err=True))
    else:
        raise BadInput("the password is not said, and nobody is at a terminal", "--password-file FILE, or - for stdin")


def _first_line(path: Path) -> str:
    try:
        text = sys.stdin.readline() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise BadInput(f"{path} has no first line", "one line with the password")
    return lines[0]


def _tried(
    collector: "Collector", settings: Settings, host: "api.HostStatus", agent: str, parameters: Mapping[str, str]
) -> "api.TryFenceReply":
    if not settings.json:
        click.echo(f"trying {agent} (nothing is switched) ...", err=True)
    reply = collector.try_fence(host.host_uuid, agent, parameters, _LIMIT_MS)
    page: Page = []
    for step in reply.steps:
        page.append(Line(step.text, "good" if step.good else "bad", indent=2, label=f"{step.name}: "))
        if step.next_step:
            page.append(Line(step.next_step, indent=4, label="next step: "))
    _say(page, settings)
    return reply


def _name(host: "api.HostStatus", agent: str, level: int) -> str:
    taken = {each.name for each in host.fence_devices}
    base = f"{agent.removeprefix('fence_')}-{host.name}" + (f"-{level}" if level > 1 else "")
    return next(name for number in range(1, 100) if (name := base if number == 1 else f"{base}-{number}") not in taken)


class Block:
    """A device block, and the secret that does not stand in it."""

    def __init__(self, host: "api.HostStatus", name: str, path: str, level: int, parameters: Mapping[str, str]) -> None:
        self.host, self.name = host.name, name
        self.secrets = {key: value for key, value in parameters.items() if key in SECRETS}
        self._plain = {key: value for key, value in sorted(parameters.items()) if key not in self.secrets}
        self._head = {"host": host.host_uuid, "name": name, "agent": path, "limit": "40s"}
        self._level = level

    def secret_file(self, target: Path | None) -> Path:
        """Beside the configuration."""
        return (target or CONFIG).absolute().parent / f"{self.name}.secret"

    def text(self, secret_file: Path) -> str:
        """As it stands in collector.toml; a TOML basic string is what JSON writes."""
        lines = ["[[fence]]", *(f"{key} = {json.dumps(value)}" for key, value in self._head.items())]
        lines += [f"level = {self._level}"] if self._level > 1 else []
        lines += [f"secret_file = {json.dumps(str(secret_file))}", "[fence.parameters]"]
        return "\n".join([*lines, *(f"{_key(key)} = {json.dumps(value)}" for key, value in self._plain.items()), ""])


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)


def _print(block: Block, settings: Settings) -> None:
    """The block itself is printed as it is, for a clipboard: wrapped it would be another one."""
    secret = block.secret_file(None)
    words = ", ".join(f"{name}=..." for name in block.secrets)
    show([Line(f"Into {secret} (mode 0600, of the collector's user): {words}"), Line(f"Into {CONFIG}:")], settings)
    click.echo("\n" + block.text(secret))
    show(_next(block, CONFIG), settings)


def _written(block: Block, target: Path) -> Page:
    """Secret first; a block without it would keep the collector from starting."""
    secret = block.secret_file(target)
    lines = "".join(f"{name}={value}\n" for name, value in block.secrets.items())
    try:
        target.stat()
        handle = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(lines)
        with contextlib.suppress(LookupError, PermissionError):  # only root can give files away
            shutil.chown(secret, OWNER, OWNER)
        with target.open("a", encoding="utf-8") as file:
            file.write("\n" + block.text(secret))
    except FileExistsError as error:
        raise BadInput(f"{secret} is there already; nothing was written", "move it away, or set up by hand") from error
    except OSError as error:
        raise BadInput(f"{error.filename or target}: {error.strerror}; look at what was written") from error
    return [
        Line(f"{secret}: written, mode 0600, of {secret.owner()}"),
        Line(f"{target}: device {block.name} appended"),
        *_next(block, target),
    ]


def _next(block: Block, target: Path) -> Page:
    steps = f"poolwarden-collector reload --config {target}"
    return [Line(steps, label="next step: "), Line(f"poolwarden fence test {typed(block.host)}", label="then:      ")]
