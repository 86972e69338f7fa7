"""`poolwarden`: entry point, and the one place where an error becomes a line on standard error and an exit status."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from poolwarden_collector.cli import (
    act,
    advise,
    alerts,
    answer,
    audit,
    check,
    cluster,
    completing,
    drill,
    enrolment,
    fence,
    hook,
    plugin,
    pool,
    see,
    switch,
    watch,
)
from poolwarden_collector.cli.commands import Commands, Elsewhere, Lab
from poolwarden_collector.cli.errors import OK, CollectorFault, CommandError
from poolwarden_collector.cli.settings import Settings, common_options

INTERRUPTED = 130  # 128 + SIGINT, as shells report it

EPILOG = """\b
Exit status:
  0  done, or all is well
  1  the answer is no: no verified master, refused, not healthy (--check)
  2  wrong usage or bad input, e.g. an unknown or ambiguous name
  3  the collector cannot be reached
  4  the collector, or its answer, is at fault
(check has those of monitoring: poolwarden check --help)

HOST is a UUID, pool/host, or a unique name; POOL a UUID or a unique name,
and not needed where the collector guards one pool only.
The collector: --collector, or POOLWARDEN_COLLECTOR, or the addresses in
/etc/poolwarden/operator/collectors, or unix:/run/poolwarden/collector.sock.
Of several (A,B,C) the first one that answers is asked.
"""


def version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("poolwarden")
    except PackageNotFoundError:
        return "not installed"


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"poolwarden {version()}")
        context.exit(OK)


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say which.")
@common_options
@click.pass_context
def poolwarden(context: click.Context) -> None:
    """Guards XenServer and XCP-ng pools against losing their master."""
    context.ensure_object(Settings)


for _command in (see.status, see.readiness, see.plan, see.hosts, see.disks, see.host, see.master):
    poolwarden.add_command(_command)
for _command in (watch.watch, see.explain, see.history, see.capsules, alerts.alerts, alerts.test_alerts):
    poolwarden.add_command(_command)
poolwarden.add_command(advise.advise)
see.host.add_command(switch.host_enable)
see.host.add_command(switch.host_why)
for _command in (switch.failover, switch.designate, switch.declare_dead, switch.start_lost, switch.recover_members):
    poolwarden.add_command(_command)
poolwarden.add_command(drill.drill)
for _command in (answer.approve, answer.deny, answer.acknowledge, answer.second, audit.audit):
    poolwarden.add_command(_command)
for _command in (act.confirm_fenced, act.restart_xapi, act.release, act.pause, act.resume):
    poolwarden.add_command(_command)
poolwarden.add_command(fence.fence)
for _group in (enrolment.token, enrolment.enrolment, enrolment.certificate, pool.pool):
    poolwarden.add_command(_group)
for _command in (cluster.collectors, cluster.move, cluster.drain):
    poolwarden.add_command(_command)
poolwarden.add_command(hook.hook)
poolwarden.add_command(check.check)
_DOCTOR = "The collector's own condition: clock, disk, journal, ports, ..."
poolwarden.add_command(Elsewhere("doctor", "poolwarden_collector.doctor", _DOCTOR))
_QUERY = "Ask the collector's records by SQL, on its machine."
poolwarden.add_command(Elsewhere("query", "poolwarden_collector.query.command", _QUERY))
_EXPORT = "All that is known of a failover in one archive."
poolwarden.add_command(Elsewhere("export", "poolwarden_collector.export.command", _EXPORT))
_REPLAY = "Make a stored decision again, offline."
poolwarden.add_command(Elsewhere("replay", "poolwarden_collector.replay", _REPLAY))
poolwarden.add_command(completing.completion)
completing.complete_names(poolwarden)
poolwarden.add_command(Lab("lab", short_help="A simulated world to play in (where it is installed)."))


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one call; the exit status. Errors go to standard error as one line, then what to do next."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if plugin.is_asked_for(given):
        return plugin.guarded(lambda: _invoke(given), "--json" in given)
    try:
        return _invoke(given)
    except CommandError as error:
        return _fail(error.sentence, error.next_step, error.exit_status)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.NoSuchOption as error:
        path = error.ctx.command_path if error.ctx else "poolwarden"
        meant = " or ".join((error.possibilities or ())[:2])
        return _fail(error.message, f"did you mean {meant}?" if meant else f"{path} --help", error.exit_code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "poolwarden"
        return _fail(error.format_message(), f"{path} --help", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), "", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; nothing was asked for that had not been sent", "", INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if os.environ.get("POOLWARDEN_DEBUG"):
            raise
        hint = "POOLWARDEN_DEBUG=1 shows where; please report it"
        return _fail(f"internal error: {type(error).__name__}: {error}", hint, CollectorFault.exit_status)


def _invoke(arguments: list[str]) -> int:
    """Let click parse and call. Not its `main`, which would turn a closed pipe into the answer "no"."""
    if completing.VARIABLE in os.environ:  # shell completion, which lives in click's own `main`
        with contextlib.suppress(Exception):  # whoever presses Tab sees names or nothing
            poolwarden.main(args=arguments, prog_name="poolwarden")
        return OK
    try:
        with poolwarden.make_context("poolwarden", arguments) as context:
            result: Any = poolwarden.invoke(context)
    except click.exceptions.Exit as asked:
        return asked.exit_code
    return result if isinstance(result, int) else OK


def _fail(sentence: str, next_step: str, status: int) -> int:
    from poolwarden_collector.cli.layout import printable

    print(f"poolwarden: {printable(sentence.rstrip('.'))}", file=sys.stderr)
    if next_step:
        print(f"  {printable(next_step)}", file=sys.stderr)
    return status


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    sys.exit(run())


if __name__ == "__main__":
    main()
