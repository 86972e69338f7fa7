"""What a pool's master says of its hosts, and what each host is: asked by ssh before anything is changed.

Nothing of an answer becomes a command: UUIDs and addresses are checked, names are only shown. A master's list is one
host's word: whatever it lists is held against what that host's own xapi says.
"""

import re
import uuid
from dataclasses import dataclass, field
from ipaddress import ip_address

from poolwarden_collector.cli.errors import AnswerIsNo, CommandError
from poolwarden_collector.cli.pools.ssh import Logins

ROOM_KB = 100 * 1024  # on /: the package is 5 MB, 17 MB installed, and a dom0 below this has other worries
BRANDS = ("XCP-ng", "XenServer", "Citrix Hypervisor")
_FIELD = re.compile(r"\s*([a-z-]+) \( ?R[OW]\)\s*: ?(.*)")
_POOL = "PATH=$PATH:/opt/xensource/bin; xe pool-list params=uuid,name-label,master"
_HOSTS = "xe host-list params=uuid,name-label,address"

# Prints NAME<tab>VALUE lines; changes nothing. $1 $2: where hosts enrol.
SURVEY = r"""
PATH=$PATH:/usr/sbin:/sbin
say() { printf '%s\t%s\n' "$1" "$2"; }
value() { sed -n "s/^$1='\([^']*\)'.*/\1/p" /etc/xensource-inventory 2>/dev/null | head -n 1; }
say uuid "$(value INSTALLATION_UUID)"
say brand "$(value PRODUCT_BRAND)"
say version "$(value PRODUCT_VERSION)"
say machine "$(uname -m)"
say user "$(id -u)"
say python "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
say openssl "$(command -v openssl)"
say room "$(python3 -c 'import os; disk = os.statvfs("/"); print(disk.f_bavail * disk.f_frsize // 1024)' 2>/dev/null)"
package=$(rpm -q --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' poolwarden-agent 2>/dev/null) && say package "$package"
test -s /etc/poolwarden/tls/cert.pem && say enrolled yes
say agent "$(systemctl is-active poolwarden-agent 2>/dev/null | head -n 1)"
say pool "$(PATH=$PATH:/opt/xensource/bin timeout 20 xe pool-list --minimal 2>/dev/null | grep -Ex '[0-9a-f-]{36}')"
say firewall "$(systemctl is-active firewalld 2>/dev/null | head -n 1)"
say latch "$(head -c 64 /var/lib/poolwarden/latch 2>/dev/null | tr -d '\000' | head -n 1)"
if [ -n "$1" ]; then
  python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' "$1" "$2" 2>/dev/null &&
    say reaches yes
fi
exit 0
"""


@dataclass(frozen=True)
class Member:
    """A host as its pool's master lists it; ``at``: where ssh goes."""

    uuid: str
    name: str
    address: str
    at: str
    master: bool


@dataclass(frozen=True)
class Pool:
    """A pool as its master describes it; members first, the master last, as they are gone through."""

    uuid: str
    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Host:
    """What a host says of itself. ``room_kb`` on /; ``abi`` of its python3; empty: not there."""

    member: Member
    said: dict[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str:
        return f"{self.said.get('brand', '')} {self.said.get('version', '')}".strip() or "?"

    @property
    def abi(self) -> str:
        return self.said.get("python", "")

    @property
    def room_kb(self) -> int:
        return int(self.said["room"]) if self.said.get("room", "").isdigit() else 0

    @property
    def package(self) -> str:
        return self.said.get("package", "")

    @property
    def enrolled(self) -> bool:
        return self.said.get("enrolled") == "yes"

    @property
    def running(self) -> bool:
        return self.said.get("agent") == "active"

    @property
    def firewalld(self) -> bool:
        """Does firewalld run there (XenServer 9, XCP-ng 9)?"""
        return self.said.get("firewall") == "active"

    @property
    def held(self) -> bool:
        """Does a hold or a tombstone keep its toolstack?"""
        return self.said.get("latch", "").split(" ")[0] in ("hold", "tombstone")

    def of_another(self, pool: str) -> str:
        """Of which other pool its own xapi says that it is; empty: of none, or it says nothing."""
        said = self.said.get("pool", "")
        return f"it is of pool {said}, as its own xapi says" if said and said != pool else ""

    def unfit(self, pool: str) -> str:
        """Why no agent of this pool can be put there; empty: it can."""
        if self.said.get("uuid") != self.member.uuid:
            return f"{self.member.at} is another host (INSTALLATION_UUID {self.said.get('uuid') or 'missing'})"
        if other := self.of_another(pool):
            return other
        if self.said.get("user") != "0":
            return "the login is not root's"
        if self.said.get("brand") not in BRANDS:
            return f"{self.release} is not one of {', '.join(BRANDS)}"
        if self.said.get("machine") != "x86_64":
            return f"its machine is {self.said.get('machine') or 'unknown'}; the agent's package is for x86_64"
        if not self.abi:
            return "it has no python3"
        if not self.said.get("openssl"):
            return "it has no openssl"
        if self.room_kb < ROOM_KB:
            return f"/ has {self.room_kb // 1024} MiB free, {ROOM_KB // 1024} are wanted (poolwarden-agent disk, or df)"
        return ""


def blocks(text: str) -> list[dict[str, str]]:
    """Records of ``xe ...-list params=...``: each begins with its uuid (xe's cli_printer)."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        if said := _FIELD.fullmatch(line):
            if said[1] == "uuid":
                found.append({})
            if found:
                found[-1].setdefault(said[1], said[2].strip())
    return found


def of_pool(logins: Logins, at: str) -> Pool:
    """The pool whose master (or member) answers at this address. Raises CommandError."""
    done = logins.script(
        at, f"set -e\n{_POOL}\necho\n{_HOSTS}\nsed -n 's/^INSTALLATION_UUID=/own /p' /etc/xensource-inventory\n"
    )
    if done.status:
        hint = "is it the pool's master, with its toolstack running? (xe host-list there)"
        raise CommandError(f"{at}: xe does not list the pool: {done.said or 'no reason given'}", hint)
    own = re.search(r"^own '?([0-9a-f-]{36})", done.out, re.MULTILINE)
    records = blocks(done.out)
    pools = [record for record in records if "master" in record]
    if len(pools) != 1 or own is None:
        raise CommandError(f"{at}: that is no host of a pool, as far as xe and its inventory say", "")
    members = [_member(record, pools[0]["master"], own[1], at) for record in records if "address" in record]
    if not any(member.master for member in members):
        raise CommandError(f"{at}: xe lists no master of that pool", "")
    return Pool(_uuid(pools[0]["uuid"], at), pools[0].get("name-label", ""), _in_order(members))


def _member(record: dict[str, str], master: str, own: str, at: str) -> Member:
    host = _uuid(record["uuid"], at)
    try:
        address = str(ip_address(record["address"]))
    except ValueError:
        raise CommandError(f"{at}: xe lists host {host} without an address", "") from None
    return Member(host, record.get("name-label") or host, address, at if host == own else address, host == master)


def _in_order(members: list[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: (member.master, member.name, member.uuid)))


def _uuid(text: str, at: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise CommandError(f"{at}: xe answers with {text[:60]!r} for a UUID", "") from None


def of_host(logins: Logins, member: Member, enrol_at: tuple[str, int] | None = None) -> Host:
    """What this host says of itself. Raises CommandError where it cannot be asked."""
    done = logins.script(member.at, SURVEY, *((enrol_at[0], str(enrol_at[1])) if enrol_at else ("", "")))
    if done.status:
        raise CommandError(f"{member.name} ({member.at}) cannot be looked at: {done.said}", "")
    pairs = [line.partition("\t") for line in done.out.splitlines() if "\t" in line]
    return Host(member, {name: value.strip()[:200] for name, _, value in pairs})


def all_fit(hosts: list[Host], pool: str) -> None:
    """Raises AnswerIsNo, naming each host where no agent can be put and why."""
    unfit = [f"{host.member.name}: {why}" for host in hosts if (why := host.unfit(pool))]
    if unfit:
        raise AnswerIsNo(f"nothing was changed; {'; '.join(unfit)}", "see to it, then again")
