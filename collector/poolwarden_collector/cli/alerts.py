"""`poolwarden alerts`: lists them; with one of its own commands, says who is not told of one, or who sees to it."""

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.commands import ListingOrCommand
from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.layout import Piece, Table, show
from poolwarden_collector.cli.see import alerts as listing
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option

_COMMANDS = """\b
Commands:
  silence TOPIC --for 2h   No channel is told of it for a while.
  unsilence TOPIC          End that.
  ack TOPIC                Say that you see to it.

TOPIC is an alert's key, a part of it that no other open alert has, or the
name of its section in the runbook, e.g. host-down.
"""


listing.epilog = _COMMANDS
alerts = ListingOrCommand("alerts", listing)


@alerts.command(short_help="No channel is told of TOPIC for a while.")
@click.argument("topic")
@click.option("--for", "lasting", metavar="DURATION", required=True, help="For how long, e.g. 2h or 30m; 31d at most.")
@click.option("--reason", default="", help="Shown with the alert, and kept in the history.")
@common_options
@click.pass_obj
def silence(settings: Settings, topic: str, lasting: str, reason: str) -> None:
    """No channel is told of TOPIC for so long, or until it is unsilenced; never longer.

    TOPIC: an alert's key, a part of it, or e.g. host-down; `poolwarden alerts` lists them.

    It stays open, is listed, and counts for status --check. Who has not been told of it is told when the silence ends
    and it is still open. An alert about two masters is never silenced.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.times import duration_ms

    for_ms = duration_ms(lasting)
    if not for_ms:
        raise BadInput("a silence of no time is none", "for example --for 2h")
    command = operator_pb2.SilenceAlert(topic=topic, for_ms=for_ms, reason=reason)
    with connect(settings) as collector:
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), silence_alert=command), settings)
    say(reply, settings)


@alerts.command(short_help="End the silence of TOPIC.")
@click.argument("topic")
@click.option("--reason", default="", help="Kept in the history.")
@common_options
@click.pass_obj
def unsilence(settings: Settings, topic: str, reason: str) -> None:
    """End the silence of TOPIC: who has not been told of it is told now."""
    from poolwarden.v1 import operator_pb2

    command = operator_pb2.UnsilenceAlert(topic=topic, reason=reason)
    with connect(settings) as collector:
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), unsilence_alert=command), settings)
    say(reply, settings)


@alerts.command(short_help="Say that you see to TOPIC.")
@click.argument("topic")
@click.option("--reason", default="", help="What you do about it; shown with the alert.")
@common_options
@click.pass_obj
def ack(settings: Settings, topic: str, reason: str) -> None:
    """Say that you see to TOPIC, so that nobody else has to: it is shown with your name.

    It is delivered as before and stays open. When it is over and comes again, it is nobody's again.
    """
    from poolwarden.v1 import operator_pb2

    command = operator_pb2.AcknowledgeAlert(topic=topic, reason=reason)
    with connect(settings) as collector:
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), acknowledge_alert=command), settings)
    say(reply, settings)


@click.command("test-alerts", short_help="Send a test through each channel of alerts.")
@click.option("--channel", default="", metavar="CHANNEL", help="One only, e.g. webhook:duty or duty.")
@reason_option
@common_options
@click.pass_obj
def test_alerts(settings: Settings, channel: str) -> None:
    """Send a sample through each channel of alerts as it is, its beginning and its end, and tell what came of it.

    It is marked TEST, and has the least severity that the channel is told. Who asked is kept in the history. Exit
    status 1 if a channel did not take it.
    """
    with connect(settings) as collector:
        reply = collector.test_alerts(channel, actor(), settings.reason)
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
    else:
        rows = [
            (
                each.channel,
                Piece("taken", "good") if each.taken else Piece("NOT TAKEN", "bad"),
                f"{each.took_ms / 1000:.1f} s",
                each.text,
            )
            for each in reply.channels
        ]
        show([Table(("CHANNEL", "RESULT", "TOOK", "WHAT CAME OF IT"), rows)], settings)
    failed = [each.channel for each in reply.channels if not each.taken]
    if failed:
        raise AnswerIsNo(f"not taken by {', '.join(failed)}", "its table in collector.toml; docs/alerts.md")
