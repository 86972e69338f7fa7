"""What can befall hosts: their power, their kernel, their xapi, their disk, their agent, their clock."""

from __future__ import annotations

from functools import partial

from poolwarden_lab.story.grammar import Lexicon
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.virtual.agent.agent import RESTART_MS
from poolwarden_lab.virtual.agent.slot import SlotFault

HOSTS = Lexicon("command", "Hosts")
XAPI = Lexicon("command", "xapi and its disk")
FILES = Lexicon("command", "xapi's files")
ROOT = Lexicon("command", "An operator on the host itself")
GUESTS = Lexicon("command", "Guests, without xapi")
AGENTS = Lexicon("command", "Agents, their slots and clocks")
BOOT_MS = 2_000

# ------------------------------------------------------------------------------------------------ power and kernel


@HOSTS.form("power off HOSTS...", "Somebody holds the button: nothing is flushed, nobody is told.")
def power_off(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.power_off(host)


@HOSTS.form(
    "power on HOSTS...", "Switched on, with its feeds in order: 30 s of boot, then xapi; the agent a little before."
)
def power_on(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.power_on(host)


@HOSTS.form("lose psu {a|b} HOSTS...", "One of two power supplies dies; its PDU outlet still reads ON.")
def lose_psu(stage: Stage, feed: str, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.lose_psu(host, feed)


@HOSTS.form("restore psu {a|b} HOSTS...", "It is whole again.")
def restore_psu(stage: Stage, feed: str, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.restore_psu(host, feed)


@HOSTS.form("lose outlet {a|b} HOSTS...", "Somebody switches a PDU outlet off.")
def lose_outlet(stage: Stage, feed: str, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.lose_feed(host, feed)


@HOSTS.form("lose power and bmc HOSTS...", "A shared power supply dies: the host and its BMC stop; outlets read ON.")
def lose_power_and_bmc(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.power_loss_with_bmc(host)


@HOSTS.form("boot takes TIME [on HOSTS...]", "How long it takes from now on from power-on to the start of xapi (30 s).")
def boot_takes(stage: Stage, ms: int, hosts: list[str] | None) -> None:
    for host in hosts if hosts is not None else stage.world.hosts():
        stage.world.slow_boot(host, ms)


@HOSTS.form("stall HOSTS... [for TIME]", "dom0 stands still (xapi and agent); its VMs and its power do not.")
def stall(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.freeze(host)
    if ms is not None:
        stage.later(ms, lambda: resume(stage, hosts))


@HOSTS.form("resume HOSTS...", "A stalled dom0 goes on; what had arrived is read now.")
def resume(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.thaw(host)


@HOSTS.form(
    "kernel hang HOSTS...", "dom0's kernel stands still for ever, its NIC answers pings: only a power cycle helps."
)
def kernel_hang(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.kernel_hang(host)


@HOSTS.form("out of memory HOSTS...", "dom0's kernel kills xapi and the agent; systemd starts both again.")
def out_of_memory(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.oom(host)


@HOSTS.form("reboot HOSTS...", "An orderly reboot: the agent says so, xapi flushes; the power stays on.")
def reboot(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.reboot(host)


@HOSTS.form("reset HOSTS...", "A reboot without a word.")
def reset(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.reboot(host, clean=False)


@HOSTS.form("shut down HOSTS...", "An orderly shutdown: the agent says so, xapi flushes, then the board switches off.")
def shut_down(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.shutdown(host)


@HOSTS.form(
    "clone HOST of HOST", "The first was installed from a copy of the second's disk: its agent says it is that one."
)
def clone(stage: Stage, host: str, of: str) -> None:
    stage.world.clone_uuid(host, of)


@HOSTS.form("unclone HOST", "It has an identity of its own again.")
def unclone(stage: Stage, host: str) -> None:
    stage.world.no_clone(host)


@HOSTS.form("address of HOST is WORD", "Its management interface gets another address.")
def address(stage: Stage, host: str, to: str) -> None:
    stage.world.change_address(host, to)
    stage.names.addresses[to] = host


# ------------------------------------------------------------------------------------------------ xapi


@XAPI.form("xapi crash HOSTS...", "xapi is killed; systemd starts another.")
def xapi_crash(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.crash_xapi(host)


@XAPI.form("xapi crash loop HOSTS... for TIME", "Each new xapi dies after five seconds.")
def xapi_crash_loop(stage: Stage, hosts: list[str], ms: int) -> None:
    for at in range(0, ms, 5_000):
        stage.later(at, lambda: xapi_crash(stage, hosts))


@XAPI.form("xapi hang HOSTS... [for TIME]", "xapi accepts connections and never answers.")
def xapi_hang(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.hang_xapi(host)
    if ms is not None:
        stage.later(ms, lambda: xapi_unhang(stage, hosts))


@XAPI.form(
    "xapi wedge HOSTS...",
    "It stands still, and is stopped by SIGKILL alone, 90 s after its stop began: it flushes nothing.",
)
def xapi_wedge(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.wedge_xapi(host)


@XAPI.form("xapi unhang HOSTS...", "It answers again.")
def xapi_unhang(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.unhang_xapi(host)


@XAPI.form("xapi slow HOSTS... by TIME", "xapi answers everybody so much later, its own agent included (0s: as usual).")
def xapi_slow(stage: Stage, hosts: list[str], ms: int) -> None:
    for host in hosts:
        stage.world.slow_db(host, ms)


@XAPI.form(
    "xapi stuck HOSTS...", "Its process serves on and no signal ends it: a toolstack fence does not take effect."
)
def xapi_stuck(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.stick_xapi(host)


@XAPI.form("xapi unstuck HOSTS...", "Signals end it again.")
def xapi_unstuck(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.stick_xapi(host, False)


@XAPI.form("xapi deaf HOSTS...", "Transitions are answered with OK, and its present process never restarts.")
def xapi_deaf(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.wet_fuse(host)


@XAPI.form("xapi stop HOSTS...", "systemctl stop xapi: a clean end; nobody starts it before the next boot.")
def xapi_stop(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.stop_xapi(host)


@XAPI.form("xapi start HOSTS...", "systemctl start xapi.")
def xapi_start(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.start_xapi(host)


@XAPI.form("xapi restart HOSTS...", "An administrator's xe-toolstack-restart; on an orphan port 443 stays closed then.")
def xapi_restart(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.admin_restart(host)


@XAPI.form("role broken HOSTS...", "A designate failed half-way there: pool.conf says broken.")
def role_broken(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.role_broken(host)


@XAPI.form("storage {lost|back} HOSTS...", "The host's path to the shared storage: its PBD is unplugged.")
def storage(stage: Stage, how: str, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.lose_storage(host, lost=how == "lost")


@XAPI.form(
    "memory of HOST NUMBER [falling by NUMBER for TIME]",
    "So many MiB of its dom0's 4096 are available; each minute so many fewer, for so long.",
)
def memory(stage: Stage, host: str, left: int, by: int | None, ms: int | None) -> None:
    stage.world.memory(host, left)
    if by is not None and ms is not None:
        for at in range(60_000, ms + 1, 60_000):
            stage.later(at, partial(stage.world.memory, host, max(0, left - at // 60_000 * by)))


@XAPI.form("xapi log HOST TEXT", "The log of its xapi ends with this: a sentence or an exception, as xapi writes it.")
def xapi_log(stage: Stage, host: str, text: str) -> None:
    stage.world.log_xapi(host, text)


@XAPI.form(
    "mount {hangs|answers} HOSTS...",
    "The server of the shared storage: its mount there is not answered. What waits for it hangs by a line of its own.",
)
def mount(stage: Stage, how: str, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.hang_mount(host, how == "hangs")


@XAPI.form("root full HOSTS...", "No room is left on / of dom0.")
def root_full(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.root_full(host)


@XAPI.form("root read-only HOSTS...", "/ of dom0 was remounted read-only.")
def root_read_only(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.root_read_only(host)


@XAPI.form("root ok HOSTS...", "There is room, and it can be written.")
def root_ok(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.root_ok(host)


# ------------------------------------------------------------------------------------------------ xapi's files


@FILES.form(
    "{state.db|restore_db|pool.conf} of HOST {truncated|empty|zeros|missing}",
    "The file is cut short, has no byte, only NULs (a power cut on ext4), or is gone. Its generation file stays "
    "as it is; a restore_db that is not there is made of state.db. Running processes do not notice.",
)
def damage(stage: Stage, file: str, host: str, how: str) -> None:
    stage.world.damage(host, file, how)


@FILES.form(
    "{state.db|restore_db} of HOST unloadable",
    "Every parser reads it, and xapi's start fails: a row names one that is missing.",
)
def unloadable(stage: Stage, file: str, host: str) -> None:
    stage.world.unloadable(host, file)


@FILES.form(
    "{state.db|restore_db} of HOST newer by NUMBER",
    "The content of its state.db at a generation higher by so much.",
)
def newer(stage: Stage, file: str, host: str, by: int) -> None:
    stage.world.raise_generation(host, file, by)


@FILES.form(
    "{state.db|restore_db} of HOST of another pool [newer by NUMBER]",
    "Another pool's database at this file's generation, or one higher by so much: the wrong backup was restored.",
)
def of_another_pool(stage: Stage, file: str, host: str, by: int | None) -> None:
    stage.world.foreign(host, file, by or 0)


@FILES.form("state.db of HOST copied from HOST", "The file of the second, with its generation, takes its place.")
def copied_from(stage: Stage, host: str, of: str) -> None:
    stage.world.copy_database(host, of)


@FILES.form("state.db of HOST backed up", "Somebody keeps a copy of the file as it is on disk now.")
def backed_up(stage: Stage, host: str) -> None:
    stage.world.back_up_database(host)


@FILES.form("state.db of HOST rolled back", "The copy is back, with its generation.")
def rolled_back(stage: Stage, host: str) -> None:
    stage.world.restore_database(host)


@FILES.form("pool.conf of HOST says TEXT", 'Local root writes it; xapi reads it at its next start: "master" ...')
def pool_conf_says(stage: Stage, host: str, text: str) -> None:
    stage.world.write_pool_conf(host, text)


@FILES.form("pool.conf of HOST names HOST", "The same: a member of the second one.")
def pool_conf_names(stage: Stage, host: str, master: str) -> None:
    place = stage.world.find(master)
    stage.world.write_pool_conf(host, f"slave:{place.pool.pool.hosts[place.name].address}")


# ------------------------------------------------------------------------------------------------ local root


@ROOT.form("root on HOST gate open", "`poolwarden-agent gate open`: xapi may start in this boot.")
def gate_open(stage: Stage, host: str) -> None:
    stage.world.gate_open(host)


@ROOT.form("root on HOST gate release", "`poolwarden-agent gate release`: a held toolstack starts as pool.conf says.")
def gate_release(stage: Stage, host: str) -> None:
    stage.world.gate_release(host)


@ROOT.form("root on HOST gate release as member of HOST", "The same, or a tombstone ends, and it follows that host.")
def gate_follow(stage: Stage, host: str, master: str) -> None:
    stage.world.gate_follow(host, master)


# ------------------------------------------------------------------------------------------------ guests


@GUESTS.form("vm VM stops", "The guest ends by itself; no database is told before its host's xapi starts anew.")
def vm_stops(stage: Stage, vm: str) -> None:
    stage.world.end_domain(vm)


@GUESTS.form("vm VM appears on HOST", "Its domain runs there (and where it ran before no more): no master is asked.")
def vm_appears(stage: Stage, vm: str, host: str) -> None:
    stage.world.move_domain(vm, host)


# ------------------------------------------------------------------------------------------------ agents


@AGENTS.form("agent crash HOSTS... [for TIME]", "The agent is killed; systemd starts it again after a second, or TIME.")
def agent_crash(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.crash_agent(host, RESTART_MS if ms is None else ms)


@AGENTS.form("agent hang HOSTS... [for TIME]", "SIGSTOP of the agent alone; xapi goes on.")
def agent_hang(stage: Stage, hosts: list[str], ms: int | None) -> None:
    for host in hosts:
        stage.world.hang_agent(host)
    if ms is not None:
        stage.later(ms, lambda: agent_resume(stage, hosts))


@AGENTS.form("agent resume HOSTS...", "It goes on.")
def agent_resume(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.resume_agent(host)


@AGENTS.form("agent stop HOSTS...", "systemctl stop: it says goodbye, and stays away.")
def agent_stop(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.stop_agent(host)


@AGENTS.form("agent start HOSTS...", "systemctl start.")
def agent_start(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.start_agent(host)


@AGENTS.form(
    "agent upgrade HOSTS... [to WORD]", "It says goodbye and comes back with another version that can do everything."
)
def agent_upgrade(stage: Stage, hosts: list[str], version: str | None) -> None:
    for host in hosts:
        stage.world.upgrade_agent(host, version or "0.2.0")


@AGENTS.form(
    "agent old HOSTS... without WORD...",
    "An older agent takes its place that cannot do these orders (toolstack_fence, place_database ...).",
)
def agent_old(stage: Stage, hosts: list[str], missing: list[str]) -> None:
    for host in hosts:
        stage.world.old_version(host, tuple(missing))


@AGENTS.form("agent remove HOSTS...", "It is uninstalled, without a word.")
def agent_remove(stage: Stage, hosts: list[str]) -> None:
    for host in hosts:
        stage.world.absent(host)


@AGENTS.form("agent HOST claims pool WORD", "It says that its host belongs to another pool (a name, or any UUID).")
def agent_claims(stage: Stage, host: str, pool: str) -> None:
    stage.world.wrong_pool(host, pool)


@AGENTS.form("agent HOST claims its own pool", "It says so no more.")
def agent_claims_no_more(stage: Stage, host: str) -> None:
    stage.world.right_pool(host)


@AGENTS.form(
    "assumption HOST ASSUMPTION {fails|holds|unseen} [TEXT]",
    "The agent sees this of what is assumed of its host (poolwarden/assumptions.py), or tells nothing of it any more.",
)
def assumption(stage: Stage, host: str, id: str, finding: str, evidence: str | None) -> None:
    stage.world.show(host, id, finding, evidence or "seen otherwise")


@AGENTS.form("software of HOST is WORD", "It is updated: its agent starts anew and reports this release.")
def software(stage: Stage, host: str, release: str) -> None:
    stage.world.update(host, release)


_SLOTS = "|".join(fault.value for fault in SlotFault)


@AGENTS.form(f"slot of HOST {{{_SLOTS}}}", "How the agent's durable slot behaves from now on (torn: its next write).")
def slot(stage: Stage, host: str, fault: str) -> None:
    stage.world.slot_fault(host, fault)


@AGENTS.form("slot of HOST backed up", "A copy of the slot is taken.")
def slot_backed_up(stage: Stage, host: str) -> None:
    stage.world.snapshot_slot(host)


@AGENTS.form("slot of HOST rolled back", "The slot is that of the last copy; the agent starts anew on it.")
def slot_rolled_back(stage: Stage, host: str) -> None:
    stage.world.restore_slot(host)


@AGENTS.form("clock of HOST {fast|slow} by NUMBER", "Its clock runs so many millionths too fast or too slow.")
def clock(stage: Stage, host: str, way: str, ppm: int) -> None:
    stage.world.drift(host, ppm if way == "fast" else -ppm)


@AGENTS.form("uptime of HOST begins at TIME", "From its next boot on: two hosts' monotonic clocks never agree anyway.")
def uptime(stage: Stage, host: str, ms: int) -> None:
    stage.world.offset(host, ms)
