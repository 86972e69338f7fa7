"""What can be asked of the stage: ``closed``, ``verdict Healthy``, ``vm web on h1``. So or not, and what is so instead.

The same signs serve `run until [not] SIGN`, `expect SIGN` and `expect not SIGN`. A sign is a state where it can be one
(``closed``: there was a failover and none is open), so that waiting for what is already so does not wait.

A sign is asked of one pool: of the one that its host, device or VM belongs to, or that stands behind ``in``. Where none
is named and there are several, it is so if it is so in every pool, and it is not so if it is so in none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.story.grammar import Cast, Form, Lexicon, Misfit, Unreadable
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import Word
from poolwarden_lab.virtual.world.guarded import GuardedPool

SIGNS = Lexicon("sign", "Signs")


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether it is so, and what was found."""

    so: bool
    found: str


@dataclass(frozen=True)
class _One:
    """A sign with its arguments, the pools it is asked of (None: all), and whether it looks back to the mark only."""

    form: Form
    args: list[Any]
    pools: list[str] | None
    since_mark: bool = False

    def ask(self, stage: Stage, negated: bool) -> Seen:
        """Is it so (not so) in every pool concerned? With what was found in the first one where it is not."""
        with stage.looking_back(self.since_mark):
            return self._ask(stage, negated)

    def _ask(self, stage: Stage, negated: bool) -> Seen:
        names = self.pools if self.pools is not None else list(stage.world.pools)
        for name in names:
            seen: Seen = self.form.act(stage, stage.world.pools[name], *self.args)
            if seen.so is negated:
                where = f"in {name} " if len(stage.world.pools) > 1 else ""
                return Seen(False, where + seen.found)
        return Seen(True, "")


@dataclass(frozen=True)
class Query:
    """One sign, or several with ``or`` between them: one of them is so, or (negated) none is."""

    signs: tuple[_One, ...]

    def ask(self, stage: Stage, negated: bool = False) -> Seen:
        """Is it so (not so)? With what was found where it is not."""
        seen = [each.ask(stage, negated) for each in self.signs]
        wrong = [each.found for each in seen if not each.so]
        so = not wrong if negated else len(wrong) < len(seen)
        return Seen(so, "" if so else "; ".join(dict.fromkeys(wrong)))


def read_query(cast: Cast, words: list[Word]) -> Query:
    """Signs as they were written. Raises Misfit."""
    parts: list[list[Word]] = [[]]
    for word in words:
        if word.text == "or" and not word.quoted:
            parts.append([])
        else:
            parts[-1].append(word)
    if any(not part for part in parts):
        raise Misfit("write a sign on both sides of `or`")
    return Query(tuple(_read_one(cast, part) for part in parts))


def _read_one(cast: Cast, words: list[Word]) -> _One:
    since = len(words) > 2 and [word.text for word in words[-2:] if not word.quoted] == ["since", "mark"]
    if since:
        words = words[:-2]
        if not cast.marked:
            raise Misfit("`since mark`: the story has not said `mark` before this")
    pools: list[str] | None = None
    if len(words) > 2 and words[-2].text == "in" and not words[-2].quoted and words[-1].text in cast.pools:
        words, pools = words[:-2], [words[-1].text]
    try:
        form, args = SIGNS.fit(words, cast)
    except Unreadable as error:
        raise Misfit(str(error)) from None
    if since and not form.looks_back:
        raise Misfit(f"`{form.form}` is a state, it does not look back: leave `since mark` out")
    return _One(form, args, pools or _concerned(cast, args), since)


def _concerned(cast: Cast, args: list[Any]) -> list[str] | None:
    """The pools of the hosts and devices among a sign's arguments."""
    for arg in args:
        for each in arg if isinstance(arg, list) else [arg]:
            host = next((host for host in cast.hosts if each == host or str(each).endswith(f"-{host}")), None)
            if host is not None:
                return [cast.hosts[host]]
    return None


def _masters(pool: GuardedPool) -> list[str]:
    """Hosts that serve as this pool's master."""
    return [name for name in pool.masters() if name not in pool.outcasts]


def _joined(items: list[str], none: str = "nobody") -> str:
    return ", ".join(items) or none


# ------------------------------------------------------------------------------------------------ verdict and failover


@SIGNS.form("verdict VERDICT", "The pool's verdict at this moment.")
def verdict(stage: Stage, pool: GuardedPool, word: str) -> Seen:
    return Seen(pool.verdict == word, f"the verdict is {pool.verdict}")


@SIGNS.form("seen VERDICT", "The pool had this verdict at some time since the log began.", looks_back=True)
def seen_verdict(stage: Stage, pool: GuardedPool, word: str) -> Seen:
    words = list(dict.fromkeys(str(entry.data["verdict"]) for entry in stage.entries(pool, Kind.VERDICT)))
    return Seen(word in words, f"the verdicts were {_joined(words, 'none')}")


def _step(pool: GuardedPool) -> str:
    failover = pool.record.failover
    if failover is None:
        return "there is no failover"
    blocked = f", {failover.standstill.blocker}: {failover.standstill.why}" if failover.standstill.blocker else ""
    return f"the failover is {failover.step.value}{blocked}"


@SIGNS.form("failover open", "A failover is decided and not over.")
def failover_open(stage: Stage, pool: GuardedPool) -> Seen:
    failover = pool.record.failover
    return Seen(failover is not None and failover.open, _step(pool))


@SIGNS.form("failover", "A failover was decided since the log began.", looks_back=True)
def failover(stage: Stage, pool: GuardedPool) -> Seen:
    return Seen(bool(stage.entries(pool, Kind.DECIDED)), _step(pool))


@SIGNS.form("failovers NUMBER", "So many were decided since the log began.", looks_back=True)
def failovers(stage: Stage, pool: GuardedPool, number: int) -> Seen:
    found = len(stage.entries(pool, Kind.DECIDED))
    return Seen(found == number, f"{found} were decided")


def _limit(found: int, how: str, number: int) -> bool:
    return found <= number if how == "most" else found >= number


@SIGNS.form("failovers at {most|least} NUMBER", "So many, or fewer (more), were decided.", looks_back=True)
def failovers_within(stage: Stage, pool: GuardedPool, how: str, number: int) -> Seen:
    found = len(stage.entries(pool, Kind.DECIDED))
    return Seen(_limit(found, how, number), f"{found} were decided")


@SIGNS.form("{closed|aborted|superseded}", "The last failover ended like this.")
def ended(stage: Stage, pool: GuardedPool, how: str) -> Seen:
    last = pool.record.failover
    return Seen(last is not None and last.step.value == how.upper(), _step(pool))


@SIGNS.form("blocked [WORD]", "The open failover names a blocker (BLOCKED_... or its end, e.g. NEEDS_HUMAN).")
def blocked(stage: Stage, pool: GuardedPool, code: str | None) -> Seen:
    last = pool.record.failover
    found = (last.standstill.blocker or "") if last is not None and last.open else ""
    return Seen(bool(found) and (code is None or found in (code, f"BLOCKED_{code}")), _step(pool))


@SIGNS.form("proof WORD", "The last failover's proof: power, human, toolstack, rebooted or roles.")
def proof(stage: Stage, pool: GuardedPool, kind: str) -> Seen:
    last = pool.record.failover
    found = last.proof.kind.word if last is not None and last.proof is not None else "none"
    return Seen(found == kind, f"the proof is {found}")


@SIGNS.form("healed", "One master serves, everybody with power follows it, no failover is open, nothing is starting.")
def healed(stage: Stage, pool: GuardedPool) -> Seen:
    masters = _masters(pool)
    so = len(masters) == 1 and pool.healed(masters[0])
    return Seen(so, f"master: {_joined(masters)}; {_step(pool)}")


@SIGNS.form("recovered", "Healthy: one master serves, every host with power follows it, no failover is open.")
def recovered(stage: Stage, pool: GuardedPool) -> Seen:
    masters, record = _masters(pool), pool.record
    over = record.failover is None or not record.failover.open
    follow = len(masters) == 1 and all(
        pool.pool.pool_conf(host.name) == f"slave:{pool.pool.hosts[masters[0]].address}"
        for host in pool.pool.hosts.values()
        if host.power and host.name != masters[0] and host.name not in pool.outcasts
    )
    so = over and follow and pool.verdict == "Healthy"
    return Seen(so, f"{pool.verdict}; master: {_joined(masters)}; {_step(pool)}")


@SIGNS.form("explained", "Recovered, or an alert is open that says what stands in the way.")
def explained(stage: Stage, pool: GuardedPool) -> Seen:
    seen: Seen = recovered(stage, pool)
    return Seen(seen.so or bool(pool.record.open_alerts), f"{seen.found}; no alert is open")


@SIGNS.form("settled", "Healthy, nothing owed, out of quiet time, every device bound, every member live and enabled.")
def settled(stage: Stage, pool: GuardedPool) -> Seen:
    return Seen(pool.settled(), f"the verdict is {pool.verdict}; {_step(pool)}")


@SIGNS.form("paused", "An operator has paused the pool.")
def paused(stage: Stage, pool: GuardedPool) -> Seen:
    return Seen(pool.record.paused is not None, f"paused: {pool.record.paused}")


@SIGNS.form("term NUMBER", "The pool's term.")
def term(stage: Stage, pool: GuardedPool, number: int) -> Seen:
    return Seen(pool.record.term == number, f"the term is {pool.record.term}")


# ------------------------------------------------------------------------------------------------ hosts and VMs


@SIGNS.form("master HOST", "This host, and no other of its pool, serves as master: the truth, not anybody's opinion.")
def master(stage: Stage, pool: GuardedPool, host: str) -> Seen:
    masters = _masters(pool)
    return Seen(masters == [host], f"serving: {_joined(masters)}")


@SIGNS.form("nobody serves", "No xapi serves as master.")
def no_master(stage: Stage, pool: GuardedPool) -> Seen:
    masters = _masters(pool)
    return Seen(not masters, f"serving: {_joined(masters)}")


@SIGNS.form("member HOST of HOST", "pool.conf of the first says member of the second.")
def follows(stage: Stage, pool: GuardedPool, host: str, master: str) -> Seen:
    said = pool.pool.pool_conf(host)
    return Seen(said == f"slave:{pool.pool.hosts[master].address}", f"pool.conf of {host}: {said}")


@SIGNS.form("promotion", "A xapi was told to become master.", looks_back=True)
def promotion(stage: Stage, pool: GuardedPool) -> Seen:
    return Seen(bool(stage.promotions(pool)), f"promoted: {_joined(stage.promotions(pool))}")


@SIGNS.form("promotions HOSTS...", "Exactly these were told so, in this order.", looks_back=True)
def promotions(stage: Stage, pool: GuardedPool, hosts: list[str]) -> Seen:
    return Seen(stage.promotions(pool) == hosts, f"promoted: {_joined(stage.promotions(pool))}")


@SIGNS.form("promotion within TIME", "The order to become master was sent so soon after the log began.")
def promotion_within(stage: Stage, pool: GuardedPool, ms: int) -> Seen:
    events = pool.pool.events("promote-call", since_ms=stage.book.zero)
    first = events[0].ms - stage.book.zero if events else None
    return Seen(first is not None and first <= ms, "never" if first is None else f"after {first / 1000:.1f} s")


@SIGNS.form("power HOST {on|off}", "The machine's power.")
def power(stage: Stage, pool: GuardedPool, host: str, state: str) -> Seen:
    found = "on" if pool.pool.hosts[host].power else "off"
    return Seen(found == state, f"the power of {host} is {found}")


@SIGNS.form("xapi HOST {running|stopped}", "Is there a xapi process?")
def xapi(stage: Stage, pool: GuardedPool, host: str, state: str) -> Seen:
    found = "running" if pool.pool.hosts[host].model is not None else "stopped"
    return Seen(found == state, f"xapi on {host} is {found}")


@SIGNS.form("tombstone HOST", "The agent of this host has stored a tombstone.")
def tombstone(stage: Stage, pool: GuardedPool, host: str) -> Seen:
    side = pool.agents[host].side
    marked = side is not None and side.executor.state.tombstone is not None
    return Seen(marked, f"{host} has {'a' if marked else 'no'} tombstone")


@SIGNS.form("vm VM on HOST", "The VM runs there.")
def vm_on(stage: Stage, pool: GuardedPool, vm: str, host: str) -> Seen:
    where = stage.world.vm_hosts(vm)
    return Seen(where == [host], f"{vm} runs on {_joined(where)}")


@SIGNS.form("vm VM down", "The VM runs nowhere.")
def vm_down(stage: Stage, pool: GuardedPool, vm: str) -> Seen:
    where = stage.world.vm_hosts(vm)
    return Seen(not where, f"{vm} runs on {_joined(where)}")


@SIGNS.form("killed VM...", "Exactly these VMs were terminated by a xapi.", looks_back=True)
def killed(stage: Stage, pool: GuardedPool, vms: list[str]) -> Seen:
    return Seen(sorted(stage.killed(pool)) == sorted(vms), f"killed: {_joined(stage.killed(pool))}")


@SIGNS.form("kill", "A xapi has terminated some VM.", looks_back=True)
def kill(stage: Stage, pool: GuardedPool) -> Seen:
    return Seen(bool(stage.killed(pool)), f"killed: {_joined(stage.killed(pool))}")


@SIGNS.form("shot [DEVICE]", "A fence device was asked to switch off (this one).", looks_back=True)
def shot(stage: Stage, pool: GuardedPool, name: str | None) -> Seen:
    shots = stage.shots(pool)
    return Seen(bool(shots) if name is None else name in shots, f"asked to switch off: {_joined(shots)}")


@SIGNS.form("shots NUMBER", "So many times a fence device was asked to switch off.", looks_back=True)
def shots(stage: Stage, pool: GuardedPool, number: int) -> Seen:
    found = stage.shots(pool)
    return Seen(len(found) == number, f"asked to switch off: {_joined(found)}")


@SIGNS.form("shots at {most|least} NUMBER", "So many times, or fewer (more) times.", looks_back=True)
def shots_within(stage: Stage, pool: GuardedPool, how: str, number: int) -> Seen:
    found = stage.shots(pool)
    return Seen(_limit(len(found), how, number), f"asked to switch off: {_joined(found)}")


# ---------------------------------------------------------------------------------------- journal, alerts, words


def _title(said: str) -> str:
    return said.partition("\n")[0]


def _matching(stage: Stage, pool: GuardedPool, kind: Kind, text: str | None) -> list[str]:
    said = [stage.names.of(entry.text) for entry in stage.entries(pool, kind)]
    return [each for each in said if text is None or text in each]


@SIGNS.form(
    "journal KIND [TEXT]", "Such an entry was written since the log began (with this in its sentence).", looks_back=True
)
def journal(stage: Stage, pool: GuardedPool, kind: Kind, text: str | None) -> Seen:
    found = _matching(stage, pool, kind, None)
    return Seen(bool(_matching(stage, pool, kind, text)), f"{len(found)} entries: {_joined(found[-2:], 'none')}")


@SIGNS.form("count KIND NUMBER", "So many such entries were written since the log began.", looks_back=True)
def count(stage: Stage, pool: GuardedPool, kind: Kind, number: int) -> Seen:
    found = len(_matching(stage, pool, kind, None))
    return Seen(found == number, f"there are {found}")


@SIGNS.form(
    "count KIND at {most|least} NUMBER [TEXT]",
    "So many such entries, or fewer (more), were written (with this in their sentences).",
    looks_back=True,
)
def count_within(stage: Stage, pool: GuardedPool, kind: Kind, how: str, number: int, text: str | None) -> Seen:
    found = len(_matching(stage, pool, kind, text))
    return Seen(_limit(found, how, number), f"there are {found}")


@SIGNS.form(
    "alert [TEXT]", "An alert was raised since the log began (with this in its title or body).", looks_back=True
)
def alert(stage: Stage, pool: GuardedPool, text: str | None) -> Seen:
    said = [stage.names.of(f"{each.title}\n{each.body}") for each in stage.alerts(pool)]
    so = any(text is None or text in each for each in said)
    return Seen(so, f"alerts: {_joined([_title(each) for each in said], 'none')}")


@SIGNS.form(
    "alerts at {most|least} NUMBER [TEXT]",
    "So many alerts, or fewer (more), were raised (with this in title or body).",
    looks_back=True,
)
def alerts_within(stage: Stage, pool: GuardedPool, how: str, number: int, text: str | None) -> Seen:
    said = [stage.names.of(f"{each.title}\n{each.body}") for each in stage.alerts(pool)]
    found = [each for each in said if text is None or text in each]
    return Seen(_limit(len(found), how, number), f"there are {len(found)}: {_joined([_title(each) for each in found])}")


@SIGNS.form(
    "delivered [TEXT]", "An alert was delivered since the log began (with this in title or body).", looks_back=True
)
def delivered(stage: Stage, pool: GuardedPool, text: str | None) -> Seen:
    told = [stage.names.of(said) for _, _, said in stage.world.delivered[stage.since.delivered :]]
    so = any(text is None or text in said for said in told)
    return Seen(so, f"delivered: {_joined([_title(said) for said in told[-3:]], 'none')}")


@SIGNS.form("open alert [TEXT]", "Such an alert is not over.")
def open_alert(stage: Stage, pool: GuardedPool, text: str | None) -> Seen:
    said = [stage.names.of(f"{each.title}\n{each.body}") for each in stage.open_alerts(pool)]
    so = any(text is None or text in each for each in said)
    return Seen(so, f"open alerts: {_joined([_title(each) for each in said], 'none')}")


@SIGNS.form("asked [TEXT]", "An operator was asked something (with this in the question).", looks_back=True)
def asked(stage: Stage, pool: GuardedPool, text: str | None) -> Seen:
    return journal(stage, pool, Kind.ASKED, text)  # type: ignore[no-any-return]


@SIGNS.form("owed [HOST]", "Work is owed (to this host).")
def owed(stage: Stage, pool: GuardedPool, host: str | None) -> Seen:
    items = [f"{item.what} to {pool.name_of(item.host)}" for item in pool.record.owed]
    so = any(host is None or item.endswith(f" to {host}") for item in items)
    return Seen(so, f"owed: {_joined(items, 'nothing')}")


@SIGNS.form(
    "answer {yes|no} [TEXT]",
    "The last operator's command was accepted or refused (with this in the answer).",
    looks_back=True,
)
def answer(stage: Stage, pool: GuardedPool, word: str, text: str | None) -> Seen:
    reply = stage.last_reply
    if reply is None or len(stage.world.replied) <= stage.since.replies:
        return Seen(False, "there is no answer yet")
    said = stage.names.of(f"{reply.code} {reply.text} {reply.next_step}")
    so = reply.accepted == (word == "yes") and (text is None or text in said)
    return Seen(so, f"the answer was {'yes' if reply.accepted else 'no'}: {said.strip()}")


@SIGNS.form("status TEXT", "`poolwarden status` shows this now (blanks and line ends count as one blank).")
def status(stage: Stage, pool: GuardedPool, text: str) -> Seen:
    shown = " ".join(" ".join(stage.status(pool)).split())
    return Seen(text in shown, f"the status is: {shown}")


@SIGNS.form("log TEXT", "A line of the log contains this.", looks_back=True)
def log(stage: Stage, pool: GuardedPool, text: str) -> Seen:
    lines = stage.book.lines()[stage.since.lines :]
    return Seen(any(text in line for line in lines), "it is not in the log")


@SIGNS.form("owner COLLECTOR", "Of several collectors this one guards the pool.")
def owner(stage: Stage, pool: GuardedPool, node: str) -> Seen:
    shell = pool.shell
    found = shell.node if shell is not None else "nobody"
    return Seen(found == node, f"{found} guards it")


@SIGNS.form("no owner", "Of several collectors none guards the pool.")
def no_owner(stage: Stage, pool: GuardedPool) -> Seen:
    shell = pool.shell
    return Seen(shell is None, f"{shell.node if shell is not None else 'nobody'} guards it")


@SIGNS.form("COLLECTOR {running|dead}", "A collector's process.")
def collector(stage: Stage, pool: GuardedPool, node: str, state: str) -> Seen:
    found = "running" if stage.world.stations[node].runs else "dead"
    return Seen(found == state, f"{node} is {found}")
