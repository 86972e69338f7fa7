"""People: operators of Poolwarden, and administrators who work on the pool beside it."""

from __future__ import annotations

from poolwarden_collector.core import operator
from poolwarden_lab.story.grammar import Cast, Lexicon, Misfit, nearest
from poolwarden_lab.story.stage import Stage, StoryFailed
from poolwarden_lab.story.text import duration
from poolwarden_lab.xapi.actions import Answer

PEOPLE = Lexicon("command", "People")
VERBS = sorted(operator._VERBS)  # the collector's own table


def _options(rest: list[str]) -> dict[str, str]:
    """``--how "power cord pulled" --shoot`` as the collector gets it. Raises Misfit."""
    found: dict[str, str] = {}
    at = 0
    while at < len(rest):
        if not rest[at].startswith("--"):
            raise Misfit(f'{rest[at]!r}: after the host there are only options, like --how "text"')
        name = rest[at][2:].replace("-", "_")
        at += 1
        if at < len(rest) and not rest[at].startswith("--"):
            found[name] = rest[at]
            at += 1
        else:
            found[name] = "yes"
    return found


def _split(cast: Cast, words: list[str]) -> tuple[str, str, dict[str, str]]:
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise Misfit(f"unknown operator's command {verb!r}{nearest(verb, VERBS)}; known: {', '.join(VERBS)}")
    target = ""
    if rest and not rest[0].startswith("--"):
        target, rest = rest[0], rest[1:]
        if target not in cast.hosts and target not in cast.pools:
            raise Misfit(f"unknown host or pool {target!r}{nearest(target, [*cast.hosts, *cast.pools])}")
    return verb, target if target in cast.hosts else "", _options(rest)


def _check(cast: Cast, words: list[str]) -> None:
    _split(cast, words)


@PEOPLE.form(
    "operator WORD...",
    'A command of `poolwarden`, with its options: `operator confirm-fenced h1 --how "cord pulled"`. The host\'s '
    "name is typed right unless --typed says otherwise.",
    declare=_check,
)
def say(stage: Stage, words: list[str]) -> None:
    verb, host, args = _split(stage.cast, words)
    typed = args.pop("typed", None)
    if host and verb == "confirm-fenced":
        args["typed_name"] = typed or stage.record.name_of(stage.world.uuid(stage.index(host)))
    if "accept_stale" in args:
        args["accept_stale"] = str(duration(args["accept_stale"]))
    stage.say(verb, host, args)


def _in_xapi(stage: Stage, host: str, method: str, *params: object) -> None:
    """A call in an administrator's session on a host's own socket."""
    pool = stage.world.pool
    session = pool.call_now(host, "unix", "session.login_with_password", ("root", "", "1.0", "xe"))
    if not isinstance(session, Answer):
        raise StoryFailed(f"xapi on {host} lets nobody in: {session}")
    pool.call(host, "unix", method, (session.value, *params), lambda _: None)


def _master(stage: Stage) -> str:
    masters = stage.world.masters()
    if len(masters) != 1:
        raise StoryFailed(f"there is not one serving master: {', '.join(masters) or 'nobody serves'}")
    return masters[0]


def _vm_uuid(stage: Stage, name: str) -> str:
    for host in stage.world.pool.hosts.values():
        for uuid, known in host.domains.domains().items():
            if known == name:
                return uuid
    raise StoryFailed(f"VM {name} runs nowhere")


@PEOPLE.form("migrate VM to HOST", "An administrator migrates a running VM.")
def migrate(stage: Stage, vm: str, host: str) -> None:
    uuid = stage.world.pool.hosts[host].uuid
    _in_xapi(stage, _master(stage), "lab.vm_migrate", _vm_uuid(stage, vm), uuid)


def _cast_vm(cast: Cast, name: str, host: str) -> None:
    if name not in cast.vms:
        cast.vms.append(name)


@PEOPLE.form("new vm NAME on HOST", "An administrator creates a VM and starts it there.", declare=_cast_vm)
def new_vm(stage: Stage, name: str, host: str) -> None:
    from poolwarden_lab.xapi.trees import uuid_of

    uuid = stage.world.pool.hosts[host].uuid
    _in_xapi(stage, _master(stage), "lab.vm_start", uuid_of("story", "vm", name), name, uuid)
