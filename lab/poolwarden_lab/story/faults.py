"""What can befall hosts, xapi, agents, fence devices, the network and the collector."""

from __future__ import annotations

from poolwarden_lab.simulation.bmc import BmcMode
from poolwarden_lab.simulation.streams import COLLECTOR
from poolwarden_lab.story.grammar import Lexicon
from poolwarden_lab.story.stage import Stage, StoryFailed

FAULTS = Lexicon("command", "Faults")

# ------------------------------------------------------------------------------------------------ hosts


@FAULTS.form("power off HOSTS...", "The plug is pulled: nothing is flushed, nobody is told.")
def power_off(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.power_off(stage.index(host))


@FAULTS.form("power on HOSTS...", "Switched on: 30 s of boot, then xapi and the agent.")
def power_on(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.power_on(stage.index(host))


@FAULTS.form("boot takes TIME", "How long a host needs from now on from its power-on to the start of xapi (30 s).")
def boot_takes(stage: Stage, ms: int) -> None:
    stage.world.pool.boot_ms = ms


@FAULTS.form("stall HOSTS... [for TIME]", "dom0 stands still (xapi and agent); its VMs and its power do not.")
def stall(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.freeze(stage.index(host))
    if ms is not None:
        stage.later(ms, lambda: resume(stage, hosts))


@FAULTS.form("resume HOSTS...", "A stalled dom0 goes on; what had arrived is read now.")
def resume(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        if stage.world.pool.hosts[host].frozen:
            stage.world.thaw(stage.index(host))


@FAULTS.form("reboot HOSTS...", "Power off, and on again after two seconds.")
def reboot(stage: Stage, hosts: list[str]) -> None:
    power_off(stage, hosts)
    stage.later(2_000, lambda: power_on(stage, hosts))


# ------------------------------------------------------------------------------------------------ xapi and its disk


@FAULTS.form("xapi crash HOSTS...", "xapi is killed; systemd starts another.")
def xapi_crash(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.crash_xapi(stage.index(host))


@FAULTS.form("xapi hang HOSTS... [for TIME]", "xapi accepts connections and never answers.")
def xapi_hang(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.hang_xapi(stage.index(host))
    if ms is not None:
        stage.later(ms, lambda: xapi_unhang(stage, hosts))


@FAULTS.form("xapi unhang HOSTS...", "It answers again.")
def xapi_unhang(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.hang_xapi(stage.index(host), hung=False)


@FAULTS.form("xapi stop HOSTS...", "systemctl stop xapi: a clean end, nobody starts it again.")
def xapi_stop(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.pool.stop_xapi(host)


@FAULTS.form("xapi restart HOSTS...", "An administrator's xe-toolstack-restart.")
def xapi_restart(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.pool.restart_xapi(host)


@FAULTS.form("xapi deaf HOSTS...", "Transitions are answered with OK and its present process never restarts.")
def xapi_deaf(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.pool.wet_fuse(host)


@FAULTS.form("root full HOSTS...", "No room is left on / of dom0.")
def root_full(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.pool.hosts[host].disk.full = True


@FAULTS.form("root ok HOSTS...", "There is room again.")
def root_ok(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.pool.hosts[host].disk.full = False


# ------------------------------------------------------------------------------------------------ agents


@FAULTS.form("agent crash HOSTS... [for TIME]", "The agent is killed; systemd starts it again after a second, or TIME.")
def agent_crash(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.crash_agent(stage.index(host), 1_000 if ms is None else ms)


# ------------------------------------------------------------------------------------------------ network


def _cut(stage: Stage, one: str, other: str) -> None:
    stage.world.cut_both(one, other)


@FAULTS.form("cut NODE - NODE [for TIME]", "No message passes between two nodes (host, collector, fence device).")
def cut(stage: Stage, one: str, other: str, ms: int | None) -> None:
    stage.world.cut_both(one, other)
    if ms is not None:
        stage.later(ms, lambda: stage.world.heal(one, other))


@FAULTS.form("cut NODE -> NODE [for TIME]", "One direction only.")
def cut_one_way(stage: Stage, source: str, target: str, ms: int | None) -> None:
    stage.world.cut(source, target)
    if ms is not None:
        stage.later(ms, lambda: stage.world.heal(source, target))


@FAULTS.form("heal NODE - NODE", "Both directions are whole again.")
def heal(stage: Stage, one: str, other: str) -> None:
    stage.world.heal(one, other)


@FAULTS.form("isolate HOSTS... [for TIME]", "Cut off from everybody, but not from its BMC.")
def isolate(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.isolate(stage.index(host))
    if ms is not None:
        stage.later(ms, lambda: rejoin(stage, hosts))


@FAULTS.form("rejoin HOSTS...", "All links of a host are whole again.")
def rejoin(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.rejoin(stage.index(host))


@FAULTS.form(
    "partition NODE... | NODE... [for TIME]", "Nodes of one side reach none of the other; within a side all is well."
)
def partition(stage: Stage, left: list[str], right: list[str], ms: int | None) -> None:
    for one in left:
        for other in right:
            stage.world.cut_both(one, other)
    if ms is not None:
        stage.later(ms, lambda: heal_between(stage, left, right))


def heal_between(stage: Stage, left: list[str], right: list[str]) -> None:
    for one in left:
        for other in right:
            stage.world.heal(one, other)


@FAULTS.form("heal all", "Every link is whole, in all directions.")
def heal_all(stage: Stage) -> None:
    world = stage.world
    for source, target in sorted(world.pool.cut_links):
        world.heal(source, target)


@FAULTS.form("flap NODE - NODE every TIME for TIME", "The link goes down, after half the period up again, and so on.")
def flap(stage: Stage, one: str, other: str, period: int, ms: int) -> None:
    world, ends = stage.world, stage.world.now + ms

    def down() -> None:
        if world.now < ends:
            world.cut_both(one, other)
            stage.later(period // 2, up)

    def up() -> None:
        world.heal(one, other)
        stage.later(period - period // 2, down)

    down()


@FAULTS.form(
    "delay NODE - NODE TIME", "Messages between agent and collector take that much longer, both ways (0s: as usual)."
)
def delay(stage: Stage, one: str, other: str, ms: int) -> None:
    stage.world.network.delays[(one, other)] = ms
    stage.world.network.delays[(other, one)] = ms


@FAULTS.form("anchors lost", "None of the collector's network anchors answers.", exact=True)
def anchors_lost(stage: Stage) -> None:
    _anchors(stage, False)


@FAULTS.form("anchors back", "They answer again.", exact=True)
def anchors_back(stage: Stage) -> None:
    _anchors(stage, True)


def _anchors(stage: Stage, answer: bool) -> None:
    if stage.world.shell is not None:
        stage.world.shell.anchors = (answer, answer)


# ------------------------------------------------------------------------------------------------ fence devices


_MODES = "|".join(mode.value for mode in BmcMode)


@FAULTS.form(
    f"device DEVICE {{{_MODES}}}", "How a fence device behaves from now on; `true` is as it should.", exact=True
)
def device(stage: Stage, name: str, mode: str) -> None:
    stage.world.bmc(name).mode = BmcMode(mode)


# ------------------------------------------------------------------------------------------------ collector


@FAULTS.form("kill collector [for TIME]", "SIGKILL, right there. Without TIME it stays away.", exact=True)
def kill_collector(stage: Stage, ms: int | None) -> None:
    if not _runs(stage):
        raise StoryFailed("the collector does not run")
    stage.world.kill_collector()
    if ms is not None:
        stage.later(ms, lambda: None if _runs(stage) else stage.world.start_collector())


def _runs(stage: Stage) -> bool:
    return stage.world.shell is not None and stage.world.shell.alive


@FAULTS.form("start collector", "Started again, on the same journal.")
def start_collector(stage: Stage) -> None:
    if _runs(stage):
        raise StoryFailed("the collector runs already")
    stage.world.start_collector()


@FAULTS.form("collector disk full", "Nothing can be made durable.", exact=True)
def disk_full(stage: Stage) -> None:
    stage.world.ledger.full = True


@FAULTS.form("collector disk ok", "It can again.", exact=True)
def disk_ok(stage: Stage) -> None:
    stage.world.ledger.full = False


@FAULTS.form("cut collector [for TIME]", "The collector's uplink: it reaches no host, no fence device and no anchor.")
def cut_collector(stage: Stage, ms: int | None) -> None:
    others = _everybody(stage)
    for other in others:
        stage.world.cut_both(COLLECTOR, other)
    _anchors(stage, False)
    if ms is not None:
        stage.later(ms, lambda: heal_collector(stage))


@FAULTS.form("heal collector", "Its uplink is back.")
def heal_collector(stage: Stage) -> None:
    for other in _everybody(stage):
        stage.world.heal(COLLECTOR, other)
    _anchors(stage, True)


def _everybody(stage: Stage) -> list[str]:
    devices = [device.name for each in stage.world.settings.devices.values() for device in each]
    return [*stage.world.names, *devices]


# ------------------------------------------------------------------------------------------------ the end of all faults


@FAULTS.form(
    "repair everything",
    "Links, devices, disks and processes are as they should be; what is off is switched on, what stands still goes on, "
    "a paused pool is resumed. Pending moments are forgotten.",
)
def repair_everything(stage: Stage) -> None:
    world = stage.world
    stage.forget_moments()
    heal_all(stage)
    world.network.delays.clear()
    world.ledger.full = False
    for host in world.names:
        if world.pool.hosts[host].frozen:
            resume(stage, [host])
        world.pool.hosts[host].disk.full = False
        xapi_unhang(stage, [host])
        power_on(stage, [host])
    for each in world.settings.devices.values():
        for one in each:
            world.bmc(one.name).mode = BmcMode.TRUE
    if not _runs(stage):
        world.start_collector()
    _anchors(stage, True)
    if stage.record.paused is not None:
        stage.say("resume", "", {})
