"""People: operators of Poolwarden, and administrators who work on the pool beside it."""

from __future__ import annotations

from poolwarden_collector.core import operator
from poolwarden_lab.statedb import dump_local, parse_local
from poolwarden_lab.story.grammar import Cast, Lexicon, Misfit, nearest
from poolwarden_lab.story.stage import Stage, StoryFailed
from poolwarden_lab.story.text import duration
from poolwarden_lab.xapi.actions import Answer, Fault
from poolwarden_lab.xapi.database import LOCAL_DB

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
    if host and verb in ("confirm-fenced", "declare-dead"):
        args["typed_name"] = typed or stage.record.name_of(stage.world.uuid(stage.index(host)))
    if "accept_stale" in args:
        args["accept_stale"] = str(duration(args["accept_stale"]))
    stage.say(verb, host, args)


def _in_xapi(stage: Stage, host: str, method: str, *params: object) -> None:
    """A call in an administrator's session on a host's own socket; a member's is good for what needs no database."""
    pool = stage.world.pool
    login = (
        "session.login_with_password" if host in stage.world.masters() else "session.slave_local_login_with_password"
    )
    session = pool.call_now(host, "unix", login, ("root", "", "1.0", "xe"))
    if not isinstance(session, Answer):
        raise StoryFailed(f"xapi on {host} lets nobody in: {session}")
    pool.call(host, "unix", method, (session.value, *params), lambda answer: _answered(stage, method, answer))


def _answered(stage: Stage, method: str, answer: object) -> None:
    if isinstance(answer, Fault):
        stage.book.note(stage.world.now, "xe", f"{method} refused: {answer.code} {' '.join(answer.params)}".rstrip())


def _ref(stage: Stage, host: str) -> str:
    """The master's name for a host, as `xe` would look it up."""
    pool, master, uuid = stage.world.pool, _master(stage), stage.world.pool.hosts[host].uuid
    session = pool.call_now(master, "unix", "session.login_with_password", ("root", "", "1.0", "xe"))
    answer = pool.call_now(master, "unix", "host.get_all_records", (getattr(session, "value", ""),))
    records = getattr(answer, "value", None)
    if not isinstance(records, dict):
        raise StoryFailed(f"xapi on {master} does not list its hosts: {answer}")
    return next(str(ref) for ref, record in records.items() if record["uuid"] == uuid)


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


# ------------------------------------------------------------------------------------------------ xe, beside Poolwarden


def _kills_are_theirs(stage: Stage) -> None:
    """What xapi terminates after an administrator has moved the role by hand is not Poolwarden's doing (I17)."""
    for host in stage.world.pool.hosts.values():
        stage.world.invariants.expected_kills |= set(host.domains.domains().values())


@PEOPLE.form("xe designate HOST", "pool-designate-new-master on the serving master (XenCenter's button).")
def xe_designate(stage: Stage, host: str) -> None:
    _kills_are_theirs(stage)
    _in_xapi(stage, _master(stage), "pool.designate_new_master", _ref(stage, host))


@PEOPLE.form("xe promote HOST", "pool-emergency-transition-to-master there, by hand, without asking anybody.")
def xe_promote(stage: Stage, host: str) -> None:
    _kills_are_theirs(stage)
    stage.world.invariants.by_hand.append(host)
    _in_xapi(stage, host, "pool.emergency_transition_to_master")


@PEOPLE.form("xe repoint HOST to HOST", "pool-emergency-reset-master there, by hand.")
def xe_repoint(stage: Stage, host: str, master: str) -> None:
    _in_xapi(stage, host, "pool.emergency_reset_master", stage.world.pool.hosts[master].address)


@PEOPLE.form("xe {enable|disable} HOST", "host-enable, host-disable.")
def xe_enable(stage: Stage, verb: str, host: str) -> None:
    _in_xapi(stage, _master(stage), f"host.{verb}", _ref(stage, host))


@PEOPLE.form("xe sync", "pool-sync-database: every member gets the present database.")
def xe_sync(stage: Stage) -> None:
    _in_xapi(stage, _master(stage), "pool.sync_database")


@PEOPLE.form("ha {armed|disarmed}", "xapi's HA is switched on (off) on every running host.")
def ha(stage: Stage, state: str) -> None:
    if any(host.power and host.disk.full for host in stage.world.pool.hosts.values()):
        raise StoryFailed("a host has no room to write its local.db")
    for host in stage.world.pool.hosts.values():
        if host.power:
            local = parse_local(host.disk.read(LOCAL_DB))
            host.disk.write(LOCAL_DB, dump_local({**local, "ha.armed": "true" if state == "armed" else "false"}))
