"""What can befall several collectors and their etcd, and what persons do with them."""

from __future__ import annotations

from poolwarden_lab.story.grammar import Lexicon
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.virtual.collector.process import Still

SEVERAL = Lexicon("command", "Several collectors")


# ------------------------------------------------------------------------------------------------ their processes


@SEVERAL.form(
    "suspend COLLECTOR for TIME",
    "Its machine sleeps (`freeze`: its process alone is stopped): nothing runs, and of its clocks CLOCK_BOOTTIME alone "
    "goes on.",
    exact=True,
)
def suspend(stage: Stage, node: str, ms: int) -> None:
    stage.world.stand_still(node, Still.SUSPENDED, ms)


@SEVERAL.form(
    "hypervisor pauses COLLECTOR for TIME",
    "Its machine is a VM that is paused: nothing runs, and no clock of it goes on.",
    exact=True,
)
def pause(stage: Stage, node: str, ms: int) -> None:
    stage.world.stand_still(node, Still.PAUSED, ms)


# ------------------------------------------------------------------------------------------------ etcd


@SEVERAL.form("etcd changes its leader", "Another member leads, in 2 s, in which nothing is carried out.", exact=True)
def change_leader(stage: Stage) -> None:
    stage.world.etcd.change_leader()


@SEVERAL.form("etcd is away [for TIME]", "All of its members are gone; leases have their whole time again afterwards.")
def away(stage: Stage, ms: int | None) -> None:
    stage.world.etcd_down()
    if ms is not None:
        stage.later(ms, lambda: stage.world.etcd_down(False))


@SEVERAL.form("etcd is back", "Every member of it runs.")
def back(stage: Stage) -> None:
    stage.world.etcd_down(False)


@SEVERAL.form("etcd loses NUMBER members [for TIME]", "So many of its three members are gone.")
def loses_members(stage: Stage, count: int, ms: int | None) -> None:
    stage.world.etcd_down(True, count)
    if ms is not None:
        stage.later(ms, lambda: stage.world.etcd_down(False))


@SEVERAL.form("etcd is slow by TIME [for TIME]", "Each write takes so much longer (0s: as usual).", exact=True)
def slow(stage: Stage, ms: int, during: int | None) -> None:
    stage.world.etcd.disk_ms = ms
    if during is not None:
        stage.later(during, lambda: setattr(stage.world.etcd, "disk_ms", 0))


@SEVERAL.form(
    "etcd carries out NUMBER of COLLECTOR unanswered",
    "Its next transactions are carried out, and it hears nothing of that.",
    exact=True,
)
def lose_answers(stage: Stage, count: int, node: str) -> None:
    stage.world.etcd.lose(node, count)


@SEVERAL.form(
    "etcd drops NUMBER of COLLECTOR", "Its next transactions are not carried out and not answered.", exact=True
)
def drop(stage: Stage, count: int, node: str) -> None:
    stage.world.etcd.drop(node, count)


@SEVERAL.form(
    "etcd holds one of COLLECTOR for TIME",
    "Its next transaction is not answered, and carried out so much later.",
    exact=True,
)
def linger(stage: Stage, node: str, ms: int) -> None:
    stage.world.etcd.linger(node, ms)


@SEVERAL.form(
    "etcd leaves COLLECTOR with a stuck leader",
    "The leader is none any more and does not know that; this collector reaches it alone, and it answers renewals.",
)
def stuck_leader(stage: Stage, node: str) -> None:
    stage.world.stuck_leader(node)


@SEVERAL.form("etcd lets the lease of COLLECTOR go", "Before its time is over, by a fault of etcd's.", exact=True)
def let_go(stage: Stage, node: str) -> None:
    stage.world.let_lease_go(node)


@SEVERAL.form("etcd {saved|restored}", "A backup is taken, or etcd stands as the last one says.")
def backup(stage: Stage, how: str) -> None:
    if how == "saved":
        stage.world.back_etcd_up()
    else:
        stage.world.restore_etcd()


# ------------------------------------------------------------------------------------------------ persons


@SEVERAL.form("generation raised", "A person's command, after etcd was restored: every pool is claimed anew.")
def raise_generation(stage: Stage) -> None:
    stage.world.collectors.raise_generation()


@SEVERAL.form("move POOL to COLLECTOR", "A person's command: the pool goes there as soon as nothing goes on in it.")
def move(stage: Stage, pool: str, to: str) -> None:
    stage.world.move_pool(pool, to)


@SEVERAL.form("drain COLLECTOR [{on|off}]", "A person's command: it gives its pools up and takes none (off: no more).")
def drain(stage: Stage, node: str, how: str | None) -> None:
    stage.world.drain(node, how != "off")


@SEVERAL.form("stop COLLECTOR", "SIGTERM: it hands over what may be moved, gives its lease up, and ends.", exact=True)
def stop(stage: Stage, node: str) -> None:
    stage.world.process(node).stop()
