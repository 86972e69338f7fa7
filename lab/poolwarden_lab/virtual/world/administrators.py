"""People who work on a pool beside Poolwarden, by xe, XenCenter or a root shell.

Calls go through the modelled xapi's own verbs, in a session on a host's socket. Their answers come later, into the log.
"""

from __future__ import annotations

from poolwarden_agent.core.start_wish import TAG
from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.virtual.world.ground import Ground, HostName, NoSuchThing
from poolwarden_lab.virtual.world.guarded import GuardedPool
from poolwarden_lab.xapi.actions import Answer, Fault, PeerResult
from poolwarden_lab.xapi.database import write_local
from poolwarden_lab.xapi.trees import uuid_of

FULL, LOCAL = "session.login_with_password", "session.slave_local_login_with_password"


class Administrators(Ground):
    """What people do by hand. Raises NoSuchThing where xapi lets nobody in, or nobody is master."""

    def master_of(self, pool: GuardedPool) -> str:
        """The one serving master; a host that was ejected serves a pool of its own. Raises NoSuchThing."""
        masters = [name for name in pool.masters() if name not in pool.outcasts]
        if len(masters) != 1:
            raise NoSuchThing(f"there is not one serving master: {', '.join(masters) or 'nobody serves'}")
        return masters[0]

    def xe(self, host: HostName, method: str, *params: object) -> None:
        """A call in an administrator's session on a host's socket; a member's is good for what needs no database."""
        place = self.find(host)
        pool = place.pool.pool
        session = self._session(place.pool, place.name)

        def told(answer: PeerResult) -> None:
            if isinstance(answer, Fault):
                self.happened("xe", f"{place.name}: {method} refused: {answer.code} {' '.join(answer.params)}".rstrip())

        pool.call(place.name, "unix", method, (session, *params), told)

    def _session(self, pool: GuardedPool, name: str) -> str:
        login = FULL if name in pool.masters() else LOCAL
        session = pool.pool.call_now(name, "unix", login, ("root", "", "1.0", "xe"))
        if not isinstance(session, Answer):
            raise NoSuchThing(f"xapi on {name} lets nobody in: {session}")
        return str(session.value)

    def _ref(self, pool: GuardedPool, kind: str, uuid: str) -> str:
        """What the serving master calls a thing. Raises NoSuchThing."""
        model = pool.pool.hosts[self.master_of(pool)].model
        ref = model.database.find(kind, uuid) if model is not None and model.database is not None else None
        if ref is None:
            raise NoSuchThing(f"the master knows no {kind} {uuid}")
        return ref

    # ------------------------------------------------------------------------------------------ the role

    def admin_restart(self, host: HostName) -> None:
        """xe-toolstack-restart: on an orphaned member port 443 stays closed from then on."""
        place = self.find(host)
        place.pool.pool.restart_toolstack(place.name)

    def stop_xapi(self, host: HostName) -> None:
        """systemctl stop xapi: a clean end; nobody starts it again before the next boot."""
        place = self.find(host)
        place.pool.pool.stop_xapi(place.name)

    def start_xapi(self, host: HostName) -> None:
        """systemctl start xapi."""
        place = self.find(host)
        if place.pool.pool.hosts[place.name].model is None:
            place.pool.pool.restart_xapi(place.name)

    def ha(self, what: str, pool: str = "") -> None:
        """``arm`` or ``disarm`` xapi's HA on every running host. Raises NoSuchThing for another word."""
        if what not in ("arm", "disarm"):
            raise NoSuchThing(f"HA is armed or disarmed, not {what}")
        powered = [host for host in self.of(pool).pool.hosts.values() if host.power]
        if any(host.disk.full or host.disk.read_only for host in powered):
            raise NoSuchThing("local.db cannot be written on every host")
        for host in powered:
            write_local(host.disk, **{"ha.armed": "true" if what == "arm" else "false"})
        self.happened("xe", f"HA is {what}ed")

    def designate(self, to: HostName) -> None:
        """pool-designate-new-master on the serving master."""
        place = self.find(to)
        ref = self._ref(place.pool, "host", place.uuid)
        self.xe(self.master_of(place.pool), "pool.designate_new_master", ref)

    def promote_by_hand(self, host: HostName) -> None:
        """pool-emergency-transition-to-master there, without asking anybody."""
        place = self.find(host)
        place.pool.invariants.by_hand.append(place.name)
        self.xe(host, "pool.emergency_transition_to_master")

    def repoint_by_hand(self, host: HostName, to: HostName) -> None:
        """pool-emergency-reset-master there."""
        target = self.find(to)
        self.xe(host, "pool.emergency_reset_master", target.pool.pool.hosts[target.name].address)

    def sync_by_hand(self, pool: str = "") -> None:
        """pool-sync-database."""
        self.xe(self.master_of(self.of(pool)), "pool.sync_database")

    def enable_host(self, host: HostName, enabled: bool = True) -> None:
        """host-enable, host-disable."""
        place = self.find(host)
        verb = "host.enable" if enabled else "host.disable"
        self.xe(self.master_of(place.pool), verb, self._ref(place.pool, "host", place.uuid))

    def busy_task(self, name: str = "VM.export", pool: str = "") -> None:
        """A task of this name that goes on and on on the serving master."""
        self.xe(self.master_of(self.of(pool)), "lab.task_create", name)

    def upgrade_pool(self, under_way: bool = True, pool: str = "") -> None:
        """A rolling pool upgrade begins (or ends)."""
        guarded = self.of(pool)
        model = guarded.pool.hosts[self.master_of(guarded)].model
        assert model is not None and model.database is not None
        value = "(('rolling_upgrade_in_progress' 'true'))" if under_way else "()"
        model.database.set("pool", model.database.pool_ref(), "other_config", value)
        self.happened("xe", f"the rolling upgrade of {guarded.name} {'begins' if under_way else 'ends'}")

    # ------------------------------------------------------------------------------------------ VMs

    def vm_uuid(self, name: str, pool: str = "") -> str:
        """A VM by its name, wherever it runs or is on record. Raises NoSuchThing."""
        for guarded in [self.of(pool)] if pool else self.pools.values():
            for host in guarded.pool.hosts.values():
                for uuid, label in host.domains.domains().items():
                    if label == name:
                        return uuid
                if host.model is not None and host.model.database is not None:
                    for row in host.model.database.table("VM").values():
                        if row.get("name__label") == name:
                            return row["uuid"]
        raise NoSuchThing(f"there is no VM {name}")

    def migrate(self, vm: str, to: HostName) -> None:
        """A running VM goes to another host, at once."""
        place = self.find(to)
        self.xe(self.master_of(place.pool), "lab.vm_migrate", self.vm_uuid(vm, place.pool.name), place.uuid)

    def start_vm(self, vm: str, host: HostName) -> None:
        """A VM is started there; one that does not exist is made."""
        place = self.find(host)
        try:
            uuid = self.vm_uuid(vm, place.pool.name)
        except NoSuchThing:
            uuid = uuid_of(place.pool.name, "VM", vm)
        self.xe(self.master_of(place.pool), "lab.vm_start", uuid, vm, place.uuid)
        place.pool.invariants.own_starts.begun(uuid)

    def start_halted(self, vm: str, host: HostName) -> None:
        """vm-start on=: xapi refuses one that is not halted, or being started."""
        place = self.find(host)
        refs = self._ref(place.pool, "VM", self.vm_uuid(vm, place.pool.name)), self._ref(place.pool, "host", place.uuid)
        self.xe(self.master_of(place.pool), "VM.start_on", *refs, False, False)

    def stop_vm(self, vm: str, pool: str = "") -> None:
        """vm-shutdown force=true."""
        guarded = self.of(pool)
        ref = self._ref(guarded, "VM", self.vm_uuid(vm, guarded.name))
        self.xe(self.master_of(guarded), "VM.hard_shutdown", ref)

    def tag_vm(self, vm: str, wished: bool, pool: str = "") -> None:
        """vm-param-add, vm-param-remove: the tag by which its owner wishes it to be started by itself."""
        guarded = self.of(pool)
        ref = self._ref(guarded, "VM", self.vm_uuid(vm, guarded.name))
        self.xe(self.master_of(guarded), "VM.set_tags", ref, [TAG] if wished else [])
        if not wished:
            guarded.invariants.own_starts.untagged(self.vm_uuid(vm, guarded.name))

    def vm_hosts(self, vm: str, pool: str = "") -> list[str]:
        """Where a VM of this name runs now."""
        wanted = [self.of(pool)] if pool else list(self.pools.values())
        hosts = [host for guarded in wanted for host in guarded.pool.hosts.values()]
        return [host.name for host in hosts if vm in host.domains.domains().values()]

    def end_domain(self, vm: str) -> None:
        """The guest shuts down by itself. Raises NoSuchThing: it does not run."""
        where = self.vm_hosts(vm)
        if not where:
            raise NoSuchThing(f"{vm} does not run")
        for name in where:
            place = self.find(name)
            domains = place.pool.pool.hosts[place.name].domains
            uuid = next(uuid for uuid, label in domains.domains().items() if label == vm)
            domains.end(uuid)
            place.pool.invariants.own_starts.halted(uuid)

    def move_domain(self, vm: str, to: HostName) -> None:
        """Its domain runs on this host from now on, and on no other. Raises NoSuchThing where it has no power."""
        place = self.find(to)
        host = place.pool.pool.hosts[place.name]
        if not host.power:
            raise NoSuchThing(f"{place.name} has no power")
        uuid = self.vm_uuid(vm, place.pool.name)
        for each in place.pool.pool.hosts.values():
            each.domains.end(uuid)
        host.domains.create(uuid, vm)
        place.pool.invariants.own_starts.begun(uuid)
        place.pool.invariants.kills.moved(uuid)

    # ------------------------------------------------------------------------------------------ the pool's members

    def eject(self, host: HostName) -> None:
        """pool-eject of a member: it leaves the pool's database, and its disk becomes that of a pool of its own.

        Raises NoSuchThing for the master, or where nobody serves.
        """
        place = self.find(host)
        master = self.master_of(place.pool)
        if master == place.name:
            raise NoSuchThing(f"{place.name} is the master: xapi ejects members only")
        ref = self._ref(place.pool, "host", place.uuid)
        model = place.pool.pool.hosts[master].model
        assert model is not None and model.database is not None
        database = model.database
        for kind in ("PBD", "host_metrics"):
            gone = [key for key, row in database.table(kind).items() if row.get("host") == ref]
            for key in gone:
                del database.table(kind)[key]
        database.table("VM").pop(database.get("host", ref, "control_domain"), None)
        database.table("host_metrics").pop(database.get("host", ref, "metrics"), None)
        del database.table("host")[ref]
        for row in database.table("VM").values():
            if row.get("resident_on") == ref:
                row.update(power_state="Halted", resident_on=NULL_REF)
        database.touch()
        self.happened("xe", f"{place.name} is ejected")
        place.pool.outcasts.add(place.name)
        place.pool.set_apart(place.name)

    def join(self, host: HostName) -> None:
        """pool-join of a host that was ejected before: it is added to the database and follows the master."""
        place = self.find(host)
        master = self.master_of(place.pool)
        model = place.pool.pool.hosts[master].model
        assert model is not None and model.database is not None
        place.pool.take_back(place.name, model.database)
        self.happened("xe", f"{place.name} joins")
