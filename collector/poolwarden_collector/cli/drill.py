"""``poolwarden drill``: a maintenance window that is walked step by step, at a terminal or by a script.

The collector does everything and decides; a step that was begun is walked to its safe end there. So this program may
end at any instant: ``--resume`` goes on where the drill is, ``--abandon`` ends it.
"""

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput, CollectorFault, Unreachable
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option
from poolwarden_collector.cli.words import DRILL_STEPS

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector

LOOK_S = 1.0
UNREACHED_S = 300.0  # for so long a collector that is not reached is asked again
AGAIN_S = 90.0  # for so long a script tries a step again that is refused for what passes by itself
# Refusals that pass by themselves: the pool has just come out of the step before.
PASSING = ("not-healthy", "no-evidence", "sync-under-way", "held", "busy", "owed", "tasks", "refused", "not-attached")


@click.command(short_help="Walk a fire drill of POOL step by step.")
@click.argument("pool", required=False)
@click.option("--steps", metavar="LIST", default="", help=f"Which: {','.join(DRILL_STEPS[:4])} [all four].")
@click.option("--power-loss", is_flag=True, help="Also switch the evacuated master off: a whole failover.")
@click.option("--host", "host_name", metavar="HOST", default="", help="The member that is drilled.")
@click.option("--plan", is_flag=True, help="Only say what each step does, and what stands against it.")
@click.option("--resume", is_flag=True, help="Go on with the drill that is open.")
@click.option("--abandon", is_flag=True, help="No further step; one that runs is brought to its safe end.")
@click.option("--yes", is_flag=True, help="For scripts: every step that --steps names is accepted.")
@click.option("--name", "names", metavar="NAME", multiple=True, help="With --yes: a host that may be switched off.")
@reason_option
@common_options
@click.pass_obj
def drill(
    settings: Settings,
    pool: str | None,
    steps: str,
    power_loss: bool,
    host_name: str,
    plan: bool,
    resume: bool,
    abandon: bool,
    yes: bool,
    names: tuple[str, ...],
) -> None:
    """Walk a maintenance window: fence test off and on, xapi restart, toolstack hold, planned switchover and back.

    Each step says what it does to VMs, waits for your word, is watched and judged. The host of a fence test has to be
    evacuated and disabled before; it is enabled again. history --drills shows the results.
    """
    from poolwarden_collector.cli.names import pool_or_only

    if sum((plan, resume, abandon)) > 1:
        raise BadInput("--plan, --resume and --abandon are three commands", "give one of them")
    wanted = _wanted(steps, power_loss)
    _check_script(settings, steps, power_loss, plan, resume, abandon, yes)
    with connect(settings) as collector:
        name = pool_or_only(collector, pool, "drill POOL")
        walk = Walk(collector, settings, name, yes, names)
        if plan:
            walk.plan(wanted, host_name)
        elif abandon:
            say(walk.abandon(), settings)
        else:
            if not resume:
                walk.begin(wanted, host_name)
            walk.through()


def _wanted(steps: str, power_loss: bool) -> list[str]:
    """The steps by name; none: the collector's usual ones. Raises BadInput for one that there is not."""
    found = [word.strip() for word in steps.split(",") if word.strip()]
    unknown = [word for word in found if word not in DRILL_STEPS]
    if unknown:
        raise BadInput(f"there is no step {unknown[0]!r}", f"there are: {', '.join(DRILL_STEPS)}")
    if power_loss:
        found = [*(found or DRILL_STEPS[:4]), DRILL_STEPS[4]]
    return list(dict.fromkeys(found))


def _check_script(
    settings: Settings, steps: str, power_loss: bool, plan: bool, resume: bool, abandon: bool, yes: bool
) -> None:
    if plan or abandon:
        return
    if not yes and not sys.stdin.isatty():
        step = "for scripts: --yes --steps LIST, and --name for each host that is switched off"
        raise BadInput("a drill has to ask, and nobody is at a terminal", step)
    if yes and not resume and not (steps or power_loss):
        raise BadInput("--yes accepts the steps that --steps names, and none is named", "for example --steps restart")
    if settings.json and not yes:
        raise BadInput("--json is for scripts", "with --yes --steps LIST, --plan or --abandon")


class Walk:
    """One person, or script, on the way through a drill."""

    def __init__(
        self, collector: "Collector", settings: Settings, pool: str, yes: bool, names: tuple[str, ...]
    ) -> None:
        self._collector = collector
        self._settings = settings
        self._pool = pool
        self._yes = yes
        self._names = names
        self._told = ""

    def order(self, action: str, **fields: Any) -> "api.CommandReply":
        """Give one command of the drill. Raises AnswerIsNo with its refusal."""
        from poolwarden.v1 import operator_pb2

        command = operator_pb2.DrillCommand(pool=self._pool, action=action, **fields)
        quiet = Settings(self._settings.collector, self._settings.tls, reason=self._settings.reason)
        return ask(self._collector, operator_pb2.CommandRequest(actor=actor(), drill=command), quiet)

    def abandon(self) -> "api.CommandReply":
        """No further step."""
        from poolwarden.v1 import operator_pb2

        command = operator_pb2.DrillCommand(pool=self._pool, action="abandon")
        return ask(self._collector, operator_pb2.CommandRequest(actor=actor(), drill=command), self._settings)

    def plan(self, steps: list[str], host: str) -> None:
        """Show what a drill would do."""
        reply = self.order("plan", steps=steps, host=host)
        if self._settings.json:
            from poolwarden_collector.cli.as_json import as_object, print_json

            print_json(as_object(reply.drill))
            return
        from poolwarden_collector.cli.layout import show
        from poolwarden_collector.cli.pages.drills import plan_page

        show(plan_page(reply.drill, self._pool), self._settings)

    def begin(self, steps: list[str], host: str) -> None:
        """Begin it, once the person has seen what it would do."""
        if not self._yes:
            self.plan(steps, host)
            if not click.confirm("Begin this drill? Each step is asked for again", err=True):
                raise AnswerIsNo("no drill was begun")
        self.order("begin", steps=steps, host=host)

    def through(self) -> None:
        """Walk until the drill is over, then show what it came to. Exit status 1 unless all of it has passed."""
        drill_id, outcome = "", ""
        while (drill := self._open()) is not None:
            drill_id = drill.id
            if drill.state == "waiting":
                self._next(drill)
            else:
                self._watch(drill)
                time.sleep(LOOK_S)
        if not drill_id:
            raise AnswerIsNo(f"no drill is open in {self._pool}", f"poolwarden drill {self._pool} --plan")
        outcome = self._result(drill_id)
        if outcome != "passed":
            raise AnswerIsNo(f"the drill is over: {outcome}", f"poolwarden history {self._pool} --drills")

    # ------------------------------------------------------------------------------------------------ looking

    def _open(self) -> "api.DrillStatus | None":
        """The open drill. A collector that is not reached goes on by itself, or is started again: it is asked again."""
        from poolwarden_collector.cli.names import the_pool

        until = time.monotonic() + UNREACHED_S
        while True:
            try:
                status = the_pool(self._collector.status(self._pool), self._pool)
                return status.drill if status.HasField("drill") else None
            except (Unreachable, CollectorFault) as error:
                if time.monotonic() > until:
                    step = f"a step that was begun goes on there; poolwarden drill {self._pool} --resume"
                    raise Unreachable(error.sentence, step) from error
                self._say("the collector is not reached; a step that was begun goes on there")
                time.sleep(LOOK_S)

    def _watch(self, drill: "api.DrillStatus") -> None:
        from poolwarden_collector.cli.pages.drills import progress

        running = next((step for step in drill.steps if step.state == "running"), None)
        if running is not None:
            self._say(progress(running))

    def _say(self, text: str) -> None:
        """A line of progress, once."""
        if text != self._told and not self._settings.json:
            from poolwarden_collector.cli.layout import printable

            print(f"{time.strftime('%H:%M:%S')}  {printable(text)}", flush=True)
        self._told = text

    def _result(self, drill_id: str) -> str:
        """Show the drill's last entry; its outcome."""
        from poolwarden.v1 import operator_pb2

        wanted = operator_pb2.HistoryRequest(pool=self._pool, kinds=["drill-ended"], limit=5)
        found_entries = [each for each in self._collector.history(wanted).entries if each.kind == "drill-ended"]
        entries = [(each, json.loads(each.data)) for each in found_entries]
        found = next(((entry, data) for entry, data in reversed(entries) if data.get("drill") == drill_id), None)
        if found is None:
            raise CollectorFault("the drill is over, and its result is not in the journal")
        entry, data = found
        if self._settings.json:
            from poolwarden_collector.cli.as_json import print_json

            print_json({"pool": entry.pool_name, "at": entry.at, **data})
        else:
            from poolwarden_collector.cli.layout import show
            from poolwarden_collector.cli.pages.drills import result_page

            show(result_page(data, entry.pool_name or self._pool, entry.at), self._settings)
        return str(data.get("outcome"))

    # ------------------------------------------------------------------------------------------------ the next step

    def _next(self, drill: "api.DrillStatus") -> None:
        """Announce the next step, and begin it, pass it over or abandon the drill, as the person says."""
        step = next((step for step in drill.steps if step.state == "planned"), None)
        if step is None:
            time.sleep(LOOK_S)  # it ends by itself
            return
        if self._yes:
            self._scripted(step)
            return
        from poolwarden_collector.cli.layout import as_text
        from poolwarden_collector.cli.pages.drills import announcement

        click.echo(f"\n{as_text(announcement(step))}", err=True)
        answer = click.prompt(
            "b: begin it, s: pass it over, a: abandon the drill",
            type=click.Choice(("b", "s", "a")),
            show_choices=False,
            err=True,
        )
        try:
            if answer == "a":
                self.order("abandon")
            elif answer == "s":
                self.order("skip", step=step.number, why=click.prompt("Why", default="", err=True))
            else:
                self.order("step", step=step.number, typed_name=self._typed(step))
        except AnswerIsNo as no:
            click.echo(f"refused: {no.sentence}", err=True)
            if no.next_step:
                click.echo(f"  {no.next_step}", err=True)

    def _typed(self, step: "api.DrillStep") -> str:
        """The name of a host that is switched off, as the person types it; the collector compares it."""
        if not step.power:
            return ""
        # safety: a name that is spelt out says which host was looked at; no key alone switches a machine off.
        return str(click.prompt(f"{step.host_name} is switched off at once. Type its name", err=True)).strip()

    def _scripted(self, step: "api.DrillStep") -> None:
        """Begin it; what is refused for good is passed over, with its reason in the result."""
        typed = step.host_name if step.host_name in self._names else ""
        until, why = time.monotonic() + AGAIN_S, ""
        if step.power and not typed:
            why = f"--name {step.host_name} was not given: nobody has said that it may be switched off"
        while not why:
            try:
                self.order("step", step=step.number, typed_name=typed)
                return
            except AnswerIsNo as no:
                if no.code not in PASSING or time.monotonic() > until:
                    why = no.sentence
                else:
                    self._say(f"step {step.number}, {step.part} of {step.host_name}, waits: {no.sentence}")
                    time.sleep(LOOK_S)
        self.order("skip", step=step.number, why=why)
