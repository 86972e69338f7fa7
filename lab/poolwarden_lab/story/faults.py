"""What can befall the network, fence devices and collectors; and the end of all faults."""

from __future__ import annotations

from poolwarden_lab.story.grammar import Cast, Lexicon
from poolwarden_lab.story.stage import Stage, StoryFailed
from poolwarden_lab.virtual.agent.slot import SlotFault
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.guarded import GuardedPool

NETWORK = Lexicon("command", "Network")
DEVICES = Lexicon("command", "Fence devices")
COLLECTORS = Lexicon("command", "Collectors")

# ------------------------------------------------------------------------------------------------ network


@NETWORK.form("cut NODE - NODE [for TIME]", "No message passes between two nodes (host, collector, fence device).")
def cut(stage: Stage, one: str, other: str, ms: int | None) -> None:
    stage.world.cut_both(one, other)
    if ms is not None:
        stage.later(ms, lambda: stage.world.heal(one, other))


@NETWORK.form("cut NODE -> NODE [for TIME]", "One direction only.")
def cut_one_way(stage: Stage, source: str, target: str, ms: int | None) -> None:
    stage.world.cut(source, target)
    if ms is not None:
        stage.later(ms, lambda: stage.world.heal(source, target))


@NETWORK.form("heal NODE - NODE", "Both directions are whole again.")
def heal(stage: Stage, one: str, other: str) -> None:
    stage.world.heal(one, other)


@NETWORK.form("isolate HOSTS... [for TIME]", "Cut off from everybody, but not from its fence devices.")
def isolate(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.isolate(host)
    if ms is not None:
        stage.later(ms, lambda: rejoin(stage, hosts))


@NETWORK.form("rejoin HOSTS...", "All links of a host are whole again.")
def rejoin(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.rejoin(host)


@NETWORK.form("partition NODES... | NODES... [| NODES...] [for TIME]", "Nodes of one side reach none of the others.")
def partition(stage: Stage, left: list[str], right: list[str], third: list[str] | None, ms: int | None) -> None:
    sides = [left, right, *([third] if third else [])]
    stage.world.partition(*sides)
    if ms is not None:
        stage.later(ms, lambda: stage.world.heal_partition(*sides))


@NETWORK.form(
    "port {80|443} of HOST {closed|filtered|open} [to HOSTS...]",
    "Connects to this port of its xapi from other hosts are refused, dropped, or let through; pings and agent go on.",
    exact=True,
)
def port(stage: Stage, number: str, host: str, how: str, sources: list[str] | None) -> None:
    stage.world.set_port(host, int(number), how, sources)


@NETWORK.form("heal all", "Every link is whole, and nothing is delayed, lost, doubled or shuffled.")
def heal_all(stage: Stage) -> None:
    stage.world.heal_all()


@NETWORK.form("flap NODE - NODE every TIME for TIME", "The link goes down, after half the period up again, and so on.")
def flap(stage: Stage, one: str, other: str, period: int, ms: int) -> None:
    for at in range(0, ms, period):
        stage.later(at, lambda: stage.world.cut_both(one, other))
        stage.later(at + period // 2, lambda: stage.world.heal(one, other))


@NETWORK.form("delay NODE - NODE by TIME", "What goes between them takes so much longer, up to 2m (0s: as usual).")
def delay(stage: Stage, one: str, other: str, ms: int) -> None:
    stage.world.delay(one, other, ms)


@NETWORK.form("delay NODE -> NODE by TIME", "One direction only.")
def delay_one_way(stage: Stage, one: str, other: str, ms: int) -> None:
    stage.world.delay(one, other, ms, both=False)


@NETWORK.form("duplicate NODE - NODE {on|off}", "Every message between them arrives twice.")
def duplicate(stage: Stage, one: str, other: str, how: str) -> None:
    stage.world.duplicate(one, other, how == "on")


@NETWORK.form(
    "reorder NODE - NODE by TIME", "Each message arrives up to so much later: later ones overtake (0s: none)."
)
def reorder(stage: Stage, one: str, other: str, ms: int) -> None:
    stage.world.reorder(one, other, ms)


@NETWORK.form("lose NUMBER percent NODE - NODE", "This share of the probes between them is lost (streams retransmit).")
def loss(stage: Stage, percent: int, one: str, other: str) -> None:
    stage.world.loss(one, other, percent)


@NETWORK.form("half-open HOST - COLLECTOR {on|off}", "The stream stands, pings are answered, and no report arrives.")
def half_open(stage: Stage, host: str, collector: str, how: str) -> None:
    stage.world.half_open(host, collector, how == "on")


@NETWORK.form("cut COLLECTOR [for TIME]", "Its uplink dies: it reaches no host, no fence device and no anchor.")
def cut_uplink(stage: Stage, collector: str, ms: int | None) -> None:
    stage.world.cut_uplink(collector)
    if ms is not None:
        stage.later(ms, lambda: stage.world.heal_uplink(collector))


@NETWORK.form("heal COLLECTOR", "Its uplink is back.")
def heal_uplink(stage: Stage, collector: str) -> None:
    stage.world.heal_uplink(collector)


@NETWORK.form(
    "webhook {lost|back}", "Alerts reach nobody, or again; what was raised meanwhile is tried until then.", exact=True
)
def webhook(stage: Stage, how: str) -> None:
    stage.world.webhook.reachable = how == "back"


@NETWORK.form("anchors {lost|back}", "The collector's network anchors answer no more, or again.", exact=True)
def anchors(stage: Stage, how: str) -> None:
    stage.world.anchors(how == "back")


# ------------------------------------------------------------------------------------------------ fence devices

_MODES = "|".join(mode.value for mode in BmcMode if mode not in (BmcMode.SLOW, BmcMode.WRONG_HOST))


@DEVICES.form(
    f"device DEVICE {{{_MODES}}}", "How a fence device behaves from now on; `true` is as it should.", exact=True
)
def device(stage: Stage, name: str, mode: str) -> None:
    stage.world.set_bmc(name, mode)


@DEVICES.form("device DEVICE slow by TIME", "Right, but it takes so long.", exact=True)
def device_slow(stage: Stage, name: str, ms: int) -> None:
    stage.world.set_bmc(name, BmcMode.SLOW, ms)


@DEVICES.form("device DEVICE {tells|mute}", "It tells which machine it switches, or not any more.", exact=True)
def device_tells(stage: Stage, name: str, how: str) -> None:
    stage.world.bmc(name).mute = how == "mute"


@DEVICES.form(
    "device DEVICE wired to HOST", "It reads and switches another host's machine (an outlet: its outlet).", exact=True
)
def device_wired(stage: Stage, name: str, host: str) -> None:
    stage.world.set_bmc(name, BmcMode.WRONG_HOST, other=host)


# ------------------------------------------------------------------------------------------------ collectors


@COLLECTORS.form("kill COLLECTOR [for TIME]", "SIGKILL, right there. Without TIME it stays away.", exact=True)
def kill(stage: Stage, node: str, ms: int | None) -> None:
    if not stage.world.stations[node].runs:
        raise StoryFailed(f"{node} does not run")
    stage.world.kill_collector(None, node)
    if ms is not None:
        stage.later(ms, lambda: None if stage.world.stations[node].runs else stage.world.start_collector(node))


@COLLECTORS.form("start COLLECTOR", "Started again, on its journal as it is.")
def start_again(stage: Stage, node: str) -> None:
    if stage.world.stations[node].runs:
        raise StoryFailed(f"{node} runs already")
    stage.world.start_collector(node)


@COLLECTORS.form(
    "freeze COLLECTOR [for TIME]",
    "SIGSTOP, or its machine is suspended: nothing runs, then time has jumped. Before a journal entry: right after it.",
    exact=True,
)
def freeze(stage: Stage, node: str, ms: int | None) -> None:
    stage.world.freeze_collector(node)
    if ms is not None:
        stage.later(ms, lambda: stage.world.thaw_collector(node))


@COLLECTORS.form("thaw COLLECTOR", "It goes on.")
def thaw(stage: Stage, node: str) -> None:
    stage.world.thaw_collector(node)


@COLLECTORS.form("disk of COLLECTOR {full|ok}", "Nothing can be made durable, or again.", exact=True)
def disk(stage: Stage, node: str, how: str) -> None:
    stage.world.collector_disk_full(how == "full", node)


@COLLECTORS.form("disk of COLLECTOR slow by TIME", "Each transaction takes so long (0s: as usual).", exact=True)
def disk_slow(stage: Stage, node: str, ms: int) -> None:
    stage.world.collector_disk_slow(ms, node)


@COLLECTORS.form("journal of COLLECTOR backed up", "A backup is taken.", exact=True)
def backed_up(stage: Stage, node: str) -> None:
    stage.world.snapshot_journal(node)


@COLLECTORS.form(
    "journal of COLLECTOR {restored|lost|short}",
    "What its disk holds (killed before): the last backup; nothing; all but the last commit.",
)
def journal(stage: Stage, node: str, how: str) -> None:
    if stage.world.stations[node].runs:
        raise StoryFailed(f"kill {node} first")
    if how == "lost":
        stage.world.lose_journal(node)
    elif how == "restored":
        if not stage.world.stations[node].ledger.snapshots:
            raise StoryFailed(f"no backup of {node} was taken")
        stage.world.restore_journal(node=node)
    else:
        stage.world.lose_last_commit(node)


def _cast_second(cast: Cast, *_: object) -> None:
    cast.collectors.append(f"collector-{len(cast.collectors) + 1}")


@COLLECTORS.form(
    "second collector {copied|empty} [for HOSTS...]",
    "By mistake another one runs, collector-2 ..., on a copy of the first's journal or on none; these agents (or all) "
    "dial it.",
    declare=_cast_second,
)
def second(stage: Stage, how: str, hosts: list[str] | None) -> None:
    node = stage.world.second_collector(how == "copied", list(hosts) if hosts else None, start=False)
    stage.watch_collectors()
    stage.skip_copied(node)
    stage.world.start_collector(node)


@COLLECTORS.form("attach HOSTS... to COLLECTOR", "These agents dial that collector from now on.")
def attach(stage: Stage, hosts: list[str], node: str) -> None:
    for host in hosts:
        stage.world.attach(host, node)


# ------------------------------------------------------------------------------------------------ the end of all faults


@COLLECTORS.form(
    "repair everything",
    "Links, devices, disks and processes are as they should be; what is off is switched on, what stands still goes on, "
    "a paused pool is resumed. What was arranged for later is forgotten.",
)
def repair_everything(stage: Stage) -> None:
    stage.forget_moments()
    stage.world.heal_all()
    for pool in stage.world.pools.values():
        for host in pool.names:
            _repair_host(stage, pool, host)
        for name, bmc in pool.bmcs.items():
            stage.world.set_bmc(name, BmcMode.TRUE)
            bmc.mute = False
    for node, station in stage.world.stations.items():
        stage.world.anchors(True, node)
        station.ledger.full = False
        station.ledger.slow_ms = 0
        if station.runs:
            stage.world.thaw_collector(node)
        elif node == "collector" or stage.world.cluster is not None:
            stage.world.start_collector(node)
    if stage.world.cluster is not None:
        stage.world.etcd_is_well()
    for pool in stage.world.pools.values():
        if pool.record.paused is not None:
            stage.say("resume", "", pool.name, {})


def _repair_host(stage: Stage, pool: GuardedPool, host: str) -> None:
    world, machine = stage.world, pool.machine(host)
    if machine.hung:
        world.power_off(host)
    world.power_on(host)
    world.thaw(host)
    world.root_ok(host)
    world.unhang_xapi(host)
    world.slow_db(host, 0)
    world.stick_xapi(host, False)
    world.lose_storage(host, lost=False)
    world.hang_mount(host, False)
    agent = pool.agents[host]
    agent.slot.fault = SlotFault.NONE
    agent.mend()
    if agent.stopped:
        world.resume_agent(host)
    world.start_agent(host)
    if pool.pool.hosts[host].model is None:
        world.start_xapi(host)
