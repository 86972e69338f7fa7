"""`poolwarden collectors`, `move` and `drain`: several collectors on one etcd."""

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.errors import AnswerIsNo
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option


@click.command(short_help="The collectors: which pools each owns, how etcd is.")
@click.option("--check", is_flag=True, help="Exit with 1 unless each answers and may act, and every pool has an owner.")
@common_options
@click.pass_obj
def collectors(settings: Settings, check: bool) -> None:
    """The collectors that share one etcd: who is there, what each owns and where it runs; how etcd is; who assigns.

    LAG: how long ago arrived what its engine took in last. RIGHT: until its right to act ends, unless its lease is
    renewed. Where there is one collector alone that is said.
    """
    with connect(settings) as collector:
        reply = collector.collectors()
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
    else:
        from poolwarden_collector.cli.layout import show
        from poolwarden_collector.cli.pages.collectors import collectors_page

        show(collectors_page(reply), settings)
    if check and reply.several and reply.next_step:
        raise AnswerIsNo(reply.text, reply.next_step)


@click.command(short_help="Give POOL to another collector.")
@click.argument("pool")
@click.argument("collector_name", metavar="COLLECTOR")
@reason_option
@common_options
@click.pass_obj
def move(settings: Settings, pool: str, collector_name: str) -> None:
    """Have POOL owned by COLLECTOR, with several collectors on one etcd.

    Only a pool that is healthy, and in which nothing goes on, is given up; else it says what does. The pool stays where
    it is moved, unless a collector comes to have many more than its share. Nothing is done on any host.
    """
    from poolwarden.v1 import operator_pb2

    wanted = operator_pb2.Move(pool=pool, collector=collector_name)
    with connect(settings) as collector:
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), move=wanted), settings)
    say(reply, settings)


@click.command(short_help="Have COLLECTOR give its pools up, before it is stopped.")
@click.argument("collector_name", metavar="COLLECTOR")
@click.option("--end", is_flag=True, help="Let it take pools again.")
@reason_option
@common_options
@click.pass_obj
def drain(settings: Settings, collector_name: str, end: bool) -> None:
    """Have COLLECTOR give its pools to the others, a few a second, and take none, until --end or until it is restarted.

    A pool in which something goes on stays until that is over. `poolwarden collectors` shows how far it is; one that
    owns none can be stopped without a pool being without an owner.
    """
    from poolwarden.v1 import operator_pb2

    wanted = operator_pb2.Drain(collector=collector_name, end=end)
    with connect(settings) as collector:
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), drain=wanted), settings)
    say(reply, settings)
