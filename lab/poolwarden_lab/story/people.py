"""People: operators of Poolwarden, and administrators who work on the pool beside it."""

from __future__ import annotations

from poolwarden_collector.core.operator import commands
from poolwarden_lab.story.grammar import Cast, Lexicon, Misfit, nearest
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import duration

OPERATORS = Lexicon("command", "Operators of Poolwarden")
XE = Lexicon("command", "Administrators with xe, beside Poolwarden")
VERBS = sorted(commands._VERBS)  # the collector's own table
TYPED = ("confirm-fenced", "declare-dead", "drill-step", "fence-bind", "fence-off", "release")
ANSWERS = ("approve", "deny")


def _options(rest: list[str]) -> dict[str, str]:
    """``--how "power cord pulled" --shoot`` as the collector gets it. Raises Misfit."""
    found: dict[str, str] = {}
    at = 0
    while at < len(rest):
        if not rest[at].startswith("--"):
            raise Misfit(f'{rest[at]!r}: behind the host or pool there are only options, like --how "text"')
        name = rest[at][2:].replace("-", "_")
        at += 1
        if at < len(rest) and not rest[at].startswith("--"):
            found[name] = rest[at]
            at += 1
        else:
            found[name] = "yes"
    if "accept_stale" in found:
        found["accept_stale"] = str(_ms(found["accept_stale"]))
    return found


def _ms(text: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise Misfit(str(error)) from None


def _split(cast: Cast, words: list[str]) -> tuple[str, str, dict[str, str]]:
    """Verb, target and options of a command. Raises Misfit."""
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise Misfit(f"unknown operator's command {verb!r}{nearest(verb, VERBS)}; known: {', '.join(VERBS)}")
    target = ""
    if rest and not rest[0].startswith("--"):
        target, rest = rest[0], rest[1:]
        known = [*cast.hosts, *cast.pools]
        if target not in known:
            raise Misfit(f"unknown host or pool {target!r}{nearest(target, known)}")
    if not target and cast.several:
        raise Misfit(f"which pool? `operator {verb} POOL ...`")
    options = _options(rest)
    if options.get("collector", cast.collectors[0]) not in cast.collectors:
        raise Misfit(f"unknown collector {options['collector']!r}")
    return verb, target, options


def _check(cast: Cast, words: list[str]) -> None:
    _split(cast, words)


@OPERATORS.form(
    "operator WORD...",
    'A command of `poolwarden` with its options: `operator confirm-fenced h1 --how "cord pulled"`, `operator approve '
    "--accept-kill 1`, `operator pause A`. The host's name is typed right unless --typed says otherwise; an approval "
    "is for what is asked now unless --id says otherwise; --collector names another collector than the first.",
    declare=_check,
)
def say(stage: Stage, words: list[str]) -> None:
    verb, target, args = _split(stage.cast, words)
    host = target if target in stage.cast.hosts else ""
    pool = "" if host else target or next(iter(stage.world.pools))
    typed = args.pop("typed", None)
    if host and verb in TYPED:
        place = stage.world.find(host)
        args["typed_name"] = typed or place.pool.record.name_of(place.uuid)
    elif verb == "approve" and typed is not None:
        args["typed_name"] = typed
    node = args.pop("collector", "")
    if "host" in args:  # recover-members --host HOST
        member = stage.world.find(args.pop("host"))
        args["told"] = member.pool.record.name_of(member.uuid)
    if verb in ANSWERS and "id" not in args:
        args["id"] = _asked_now(stage, pool, node)
    stage.say(verb, host, pool, args, node)


@OPERATORS.form("status [in POOL]", "`poolwarden status` comes into the log.")
def show_status(stage: Stage, pool: str | None) -> None:
    names = [pool] if pool else list(stage.world.pools)
    for name in names:
        for line in stage.status(stage.world.pools[name]):
            stage.book.note(stage.world.now, "status", line, name)


def _asked_now(stage: Stage, pool: str, node: str) -> str:
    """The id of what this collector asks of an operator in this pool; empty: nothing."""
    shell = stage.world.stations[node or stage.guardian(stage.world.of(pool))].shell
    known = shell.pools.get(stage.world.pools[pool].uuid) if shell is not None and shell.alive else None
    question = known.record.question if known is not None else None
    return question.id if question is not None else ""


# ------------------------------------------------------------------------------------------------ the role


@XE.form("xe designate HOST", "pool-designate-new-master on the serving master (XenCenter's button).")
def xe_designate(stage: Stage, host: str) -> None:
    stage.world.designate(host)


@XE.form("xe promote HOST", "pool-emergency-transition-to-master there, by hand, without asking anybody.")
def xe_promote(stage: Stage, host: str) -> None:
    stage.world.promote_by_hand(host)


@XE.form("xe repoint HOST to HOST", "pool-emergency-reset-master there, by hand.")
def xe_repoint(stage: Stage, host: str, master: str) -> None:
    stage.world.repoint_by_hand(host, master)


@XE.form("xe {enable|disable} HOST", "host-enable, host-disable.")
def xe_enable(stage: Stage, verb: str, host: str) -> None:
    stage.world.enable_host(host, verb == "enable")


@XE.form("xe sync [in POOL]", "pool-sync-database: every member gets the present database.")
def xe_sync(stage: Stage, pool: str | None) -> None:
    stage.world.sync_by_hand(pool or "")


@XE.form("ha {arm|disarm} [in POOL]", "xapi's HA is switched on or off, on every running host.")
def ha(stage: Stage, how: str, pool: str | None) -> None:
    try:
        stage.world.ha(how, pool or "")
    except OSError as error:
        stage.book.note(stage.world.now, "xe", f"HA cannot be {how}ed: {error.strerror}")


@XE.form("xe upgrade {begin|end} [in POOL]", "A rolling pool upgrade.")
def xe_upgrade(stage: Stage, how: str, pool: str | None) -> None:
    stage.world.upgrade_pool(how == "begin", pool or "")


@XE.form("xe task WORD [in POOL]", "A task of this name that goes on and on: VM.export, VM.pool_migrate ...")
def xe_task(stage: Stage, name: str, pool: str | None) -> None:
    stage.world.busy_task(name, pool or "")


@XE.form("xe eject HOST", "pool-eject: the member leaves, and boots as a pool of its own.")
def xe_eject(stage: Stage, host: str) -> None:
    stage.world.eject(host)


@XE.form("xe join HOST", "pool-join of a host that was ejected before.")
def xe_join(stage: Stage, host: str) -> None:
    stage.world.join(host)


# ------------------------------------------------------------------------------------------------ VMs


@XE.form("migrate VM to HOST", "A running VM goes to another host, at once.")
def migrate(stage: Stage, vm: str, host: str) -> None:
    stage.world.migrate(vm, host)


def _cast_vm(cast: Cast, name: str, host: str) -> None:
    if name not in cast.vms:
        cast.vms.append(name)


@XE.form("new vm NAME on HOST", "A VM is created and started there.", declare=_cast_vm)
def new_vm(stage: Stage, name: str, host: str) -> None:
    stage.world.start_vm(name, host)


@XE.form("start vm VM on HOST", "A halted VM is started there.")
def start_vm(stage: Stage, vm: str, host: str) -> None:
    stage.world.start_vm(vm, host)


@XE.form("xe start VM on HOST", "vm-start on=: unlike `start vm`, xapi refuses it where the VM is not halted.")
def xe_start(stage: Stage, vm: str, host: str) -> None:
    stage.world.start_halted(vm, host)


@XE.form("{tag|untag} vm VM", "Its owner wishes it to be started by itself, or not: tag poolwarden:start.")
def tag_vm(stage: Stage, how: str, vm: str) -> None:
    stage.world.tag_vm(vm, how == "tag", stage.pool_of_vm(vm))


@XE.form("stop vm VM", "vm-shutdown force=true.")
def stop_vm(stage: Stage, vm: str) -> None:
    stage.world.stop_vm(vm, stage.pool_of_vm(vm))
