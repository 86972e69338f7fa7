"""Why xapi does not start, or does not come up: from the end of its log and a few facts of the host. Pure; for people.

Rules
-----
* A wrong cause is worse than none: a rule matches one of xapi's own sentences, or the exception that ended the process,
  and never a word that may stand in any line. What no rule knows is ``unknown``, with the last errors.
* The exception that ended the process is the cause, whatever was said before it: xapi catches most others and goes on.
  Where there is none (xapi waits, retries, or was ended from outside) its own sentences count: a root cause before a
  consequence (nothing reaches the master *because* there is no address), the latest first.
* A process's lines are those from its ``(Re)starting xapi, pid: N`` on: what an earlier start failed for says nothing
  of a later one, and what was said before a start was through says nothing of an end after that.
* A process that was told to end has no trouble.
* A start that has ended before it wrote to its log (a library is not there) is known by the start script and systemd
  alone; what earlier processes said is then no word on it.
* The kernel's word is about one process: its number has to be that of a xapi of this log that has not said itself what
  ended it, and after which none has.

Sources: xapi is xapi-project/xen-api, each rule names its file; forms of whole lines are those of public reports
(the trackers of xcp-ng/xcp and xapi-project/xen-api; tests/agent/test_xapi_trouble.py).
"""

import re
from typing import Iterable, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from poolwarden.xapi_causes import CAUSES, NO_TROUBLE, UNKNOWN, Trouble
from poolwarden_agent.core.log_lines import Line, parse, shown, stamp_s

MOST_LINES = 5
LONGEST_SENTENCE = 200
MOST_STARTS = 3  # processes of the log that are looked at
KILLED_BEFORE_S = 120  # a kernel's word of a process that this log does not name is this near to its last line


class Around(NamedTuple):
    """What the host itself shows at the same moment. Defaults: nothing of it is wrong, or it is not known."""

    running: bool = False  # a xapi process is there now, and its start or its answers are what is asked about
    ended_pid: int = 0  # of the process whose end is asked about; 0: not known
    pid: int = 0  # of the one that is there; 0: not known
    root_full: bool = False
    root_read_only: bool = False
    blocked: bool = False  # /etc/xensource/xapi_block_startup holds this boot's first start back
    foreign_pid: int = 0  # xapi.pid names a living process that is no xapi, and the lock of a running xapi lies there
    no_interface: bool = False  # the inventory names no management interface
    stopped: Tuple[str, ...] = ()  # services that xapi needs and that do not run
    certificates: Tuple[str, ...] = ()  # files of its certificates that are empty
    no_bundle: bool = False  # it is to verify other hosts, and what it verifies them with is not there
    year: int = 0  # by this host's clock; 0: not known


# ``steps``: the exception means that only in these steps of the start, or where the step is not known.
Rule = NamedTuple("Rule", [("cause", str), ("pattern", Pattern[str]), ("steps", Optional[Pattern[str]])])


def _rules(*given: Tuple[str, ...]) -> Tuple[Rule, ...]:
    return tuple(Rule(each[0], re.compile(each[1]), re.compile(each[2]) if len(each) > 2 else None) for each in given)


# In these steps xapi reads its database; others parse XML too, such as what storage drivers print (xapi: startup.ml).
_DATABASE_STEPS = r"database|DB configuration"
# The exception that ended a process; both ways in which OCaml and xapi write one (Printexc, ExnHelper).
_ENDED = _rules(
    ("disk-full", r"\bENOSPC\b|No space left on device"),  # Unix_error, Sys_error
    ("disk-read-only", r"\bEROFS\b|Read-only file system"),
    ("disk-error", r"\bUnix\.EIO\b|Input/output error"),
    ("memory", r"\bOut_of_memory\b|\bENOMEM\b|Cannot allocate memory"),
    ("open-files", r"\bEMFILE\b|\bENFILE\b|Too many open files"),
    ("port-80", r"Repeatedly failed to bind: INET|\bEADDRINUSE\b|Address already in use"),  # http_svr.ml, bind_retry
    # No column is ever deleted (db_xml.ml, deser_row), so whoever has one that is not known is newer.
    ("database-newer", r"Unexpected column in table "),
    # db_exn.ml, schema.ml, db_cache_types.ml; an unreadable or empty file: db_xml.ml and the XML reader
    ("database", r'DBCache_NotFound ?\(" ?missing (column|table|row|field)'),
    ("database", r"Xmlm\.Error|Unmarshall_error\(", _DATABASE_STEPS),
    ("database", r"Uniqueness_constraint_violation\(|Duplicate_key\(", _DATABASE_STEPS),
    ("inventory", r"Missing_inventory_key"),  # inventory.ml
    ("xenstored", r"Could_not_find_xenstore"),  # xs_transport.ml
    ("message-switch", r"communication failure with message-switch|from the message-switch"),  # protocol_unix.ml
    ("ha-statefile", r"Mtc_exit_can_not_access_statefile|HA_LOST_STATEFILE"),  # xapi_ha.ml
    ("certificate", r"certificate has expired|Stunnel_verify_error"),  # stunnel.ml
    ("clock", r"certificate is not yet valid"),  # openssl x509_txt.c, X509_V_ERR_CERT_NOT_YET_VALID
    ("permission", r"\bEACCES\b|\bUnix\.EPERM\b|Permission denied|Operation not permitted"),
)  # fmt: skip
# xapi's own sentences, root causes: what they say is wrong is wrong in itself.
_ROOTS = _rules(
    ("another-master", r"Detected another master in my database of known hosts"),  # xapi.ml, check_no_other_masters
    ("another-master", r"Could not transition to slave '.*xapi will abort completely and not start"),
    ("ha-statefile", r"ha_start_daemon failed with MTC_EXIT_CAN_NOT_ACCESS_STATEFILE"),  # xapi_ha.ml
    ("ha-daemon", r"ha_start_daemon failed with unexpected (error|exception)"),
    ("ha-disarmed", r"we cannot join an HA-enabled Pool after being locally disarmed"),  # xapi.ml
    ("version", r"Xapi startup in pool member .* is blocked as its xapi version"),  # xapi.ml
    ("pool-secret", r"Master did not recognise our pool secret"),  # xapi.ml
    ("unknown-to-master", r"Master claims he has no record of us being a slave"),
    ("talk-back", r"Master claims he cannot talk back to us on IP"),
    ("own-member", r"Realised that I am my own slave"),
    ("broken-role", r"This node is broken; moving straight to emergency mode"),
    ("management-ip", r"Failed to acquire a management IP address"),  # xapi.ml, bring_up_management_if
    ("port-80", r"Caught exception bringing up management interface: .*Repeatedly failed to bind: INET"),
    ("clock", r"CERT: Pre-verification error: certificate is not yet valid"),  # stunnel_log_scanner.ml
    # Expired, self-signed, of an issuer that is not known, another's (the same; stunnel: verify.c)
    ("certificate", r"CERT: (?:Pre-verification error: |Subject checks failed)"),
    ("certificate", r"stunnel: .*Failed to initialize TLS context"),
    ("message-switch", r"communication failure with message-switch"),
)  # fmt: skip
# What such a cause brings about, and what is left if none of them is found.
_CONSEQUENCES = _rules(
    ("stunnel", r"Xapi_stunnel_server\.restart: failed to restart stunnel"),  # xapi_stunnel_server.ml
    # master_connection.ml
    ("master-unreachable", r"Connection to master died\. I will continue to retry indefinitely"),
    ("master-unreachable", r"Exceeded timeout for retrying master connection: "),
)  # fmt: skip
# What takes such sentences back (xapi.ml, xapi_mgmt_iface.ml, startup.ml): what they told of is tried again and again,
# and the start goes on once it has succeeded.
_OVER = tuple(
    (frozenset(causes.split()), re.compile(pattern))
    for causes, pattern in (
        ("management-ip", r"Acquired management IP address: |Management IP address is: "),
        (
            "master-unreachable talk-back unknown-to-master pool-secret version own-member certificate clock",
            r"\AStartup successful\Z",
        ),
        ("ha-statefile ha-daemon certificate clock message-switch", r"\Atask \["),
    )
)
# Said whatever kept a member from taking part, a master that does not answer or anything else (xapi.ml).
_GAVE_UP_AS_MEMBER = "Failure in slave dbsync; slave will pause and then restart"
_BY_CERTIFICATES = ("stunnel", "certificate")
_BY_BUNDLE = ("certificate", "master-unreachable")
_OURS = re.compile(r" (?:xapi|stunnel)(?:\[\d{1,10}\])?: ")
# A start waits for its management address, and for a link below it (xapi.ml, wait_for_management_ip_address;
# xapi_mgmt_iface.ml, wait_for_ip, which waits for a cluster's address with the same words).
_ASKS_FOR_ADDRESS = "Attempting to acquire a management IP address"
_HAS_ADDRESS = "Acquired management IP address: "
_NO_ADDRESS = re.compile(r"\Await_for_ip \(IP=(?P<address>\S*), connected:(?:true|false)\), waiting")
_START = re.compile(r"\(Re\)starting xapi, pid: (\d{1,9})")  # xapi.ml, print_server_starting_message
_STEP = re.compile(r"task \[(?:starting thread )?(.{1,100})\]\Z")  # startup.ml
_FINISHED = "startup: startup sequence finished"
_FATAL = re.compile(
    r"(?:xapi top-level caught (?:exception|Unix_error): "  # xapi.ml, server_init
    r"|(?:server_init D:[0-9a-f]+|Xapi\.watchdog) failed with exception "  # debug.ml, with_thread_associated
    r"|Caught exception at toplevel: )(?P<exception>.*)\Z"  # releases before 7.0
)
_TOLD_TO_END = re.compile(
    r"Executing cleanup handler|light_fuse_and_\w+: calling flush and exit|\Acleanup handler exiting"
)
_KILLED = re.compile(r"(?:Out of memory|Memory cgroup out of memory): Kill(?:ed)? process (\d{1,9}) ?\((?:\()?xapi\)|"
                     r"Killed process (\d{1,9}) \(xapi\)")  # linux: mm/oom_kill.c  # fmt: skip
_GAVE_UP = re.compile(r"[Ss]tart request repeated too quickly(?: for xapi\.service)?")  # systemd: unit start limits
_ABOUT_XAPI = re.compile(r"(?<![\w@.-])xapi\.service\b|XenAPI server")  # and not stunnel@xapi.service
_STARTED = re.compile(r"\AStart(?:ed|ing) ")
_EXIT = re.compile(r"(?<![\w@.-])xapi\.service: [Mm]ain process exited, code=(\w+), status=(\S{1,20})")
_CONFIG_SAID = re.compile(r"\ACannot access /|\APlease either add to /etc/xapi\.conf")  # xcp_service.ml
_CONFIG = re.compile(r"\A(?:Fatal error: exception Failure\(\")?(?:bool|int|float)_of_string\"?\)?\Z")  # xcp_service.ml
# ld.so(8), and bash of the start script
_NO_PROGRAM = re.compile(
    r"error while loading shared libraries: |symbol lookup error: |/bin/xapi: (?:No such file or directory|cannot exec)"
)
_OCAML = re.compile(r"\AFatal error: exception (?P<exception>.*)\Z")
_SERVICES = (
    ("xenstored.service", "xenstored"),
    ("forkexecd.service", "forkexecd"),
    ("message-switch.service", "message-switch"),
    ("xenopsd-xc.service", "xenopsd"),
    ("xcp-networkd.service", "networkd"),
    ("squeezed.service", "squeezed"),
)  # the order in which they need each other
NEEDED = tuple(service for service, _ in _SERVICES)
OLDEST_YEAR = 2024  # no dom0 that runs this agent was installed before


class _Start(object):
    """What one process of xapi has written."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.lines: List[Line] = []

    @property
    def step(self) -> str:
        """The step of its start that it came to last."""
        for line in reversed(self.lines):
            found = _STEP.match(line.text)
            if found is not None:
                return found.group(1)
        return ""

    @property
    def finished(self) -> bool:
        return any(_FINISHED in line.text for line in self.lines)

    @property
    def no_address(self) -> Optional[Tuple[str, Line]]:
        """The cause for which it waits for its management interface, and the line that says so; None: it does not."""
        latest = None
        for line in reversed(self.lines):
            found = _NO_ADDRESS.match(line.text)
            if found is not None and latest is None:
                latest = "management-link" if found.group("address") else "management-ip", line
            if line.text.startswith((_HAS_ADDRESS, _ASKS_FOR_ADDRESS)):
                return latest if line.text.startswith(_ASKS_FOR_ADDRESS) else None
        return None

    @property
    def gave_up_as_member(self) -> bool:
        return any(line.text.startswith(_GAVE_UP_AS_MEMBER) for line in self.lines)

    @property
    def fatal(self) -> Optional[Tuple[str, Line]]:
        """The exception that ended it, and the line that says so."""
        for line in reversed(self.lines):
            found = _FATAL.match(line.text) if line.program == "xapi" else None
            if found is not None:
                return found.group("exception"), line
        return None

    @property
    def told_to_end(self) -> bool:
        return any(_TOLD_TO_END.search(line.text) for line in self.lines[-400:])


def judge(log: Sequence[str], others: Sequence[str], around: Around) -> Trouble:
    """Why xapi is not there, or not up.

    ``log``: lines of xensource.log, oldest first; ``others``: of daemon.log and kern.log.
    """
    starts = _starts(log)
    other = [parse(line) for line in others]
    for found in (_state(around), _kernel(starts, other, log, around)):
        if found is not None:
            return found
    asked = [] if _ended_unheard(starts, other, around) else _asked(starts, around)
    for start in asked:
        found = _of_start(start, around)
        if found is not None:
            return found
    return _unread(starts) or _outside(other, around) or _left(asked, other, around)


def _starts(log: Sequence[str]) -> List[_Start]:
    """The processes of the log, oldest first; what stands before the first start is of one whose pid is not known."""
    starts = [_Start(0)]
    for raw in log:
        if _OURS.search(raw[:400]) is None:
            continue  # most lines are of other programs: taking each apart would cost more than all of this
        line = parse(raw)
        begins = _START.search(line.text) if line.program == "xapi" else None
        if begins is not None:
            starts.append(_Start(int(begins.group(1))))
        starts[-1].lines.append(line)
    return [start for start in starts if start.lines]


def _asked(starts: List[_Start], around: Around) -> List[_Start]:
    """The processes that are asked about, the likeliest first."""
    if around.running:
        own = [start for start in starts if around.pid and start.pid == around.pid]
        # One whose start is in no line has begun before all that was read, or has not said anything yet.
        unsaid = around.pid and any(start.pid for start in starts)
        return own[-1:] if own or unsaid else starts[-1:]
    named = [start for start in starts if around.ended_pid and start.pid == around.ended_pid]
    if named:
        return named[-1:]
    # Between its end and this look systemd may have begun another one, which has said little yet.
    newest = starts[::-1][:MOST_STARTS]
    return newest[:1] if newest and (newest[0].finished or newest[0].told_to_end) else newest


def _ended_unheard(starts: List[_Start], others: List[Line], around: Around) -> bool:
    """Did the last start end without a line in xapi's log? Known where the start script began it after all of them."""
    begun = [at for at, line in enumerate(others) if _begins(line)]
    if around.running or not begun:
        return False
    ended = any(line.program == "systemd" and _EXIT.search(line.text) for line in others[begun[-1] :])
    since = stamp_s(others[begun[-1]].whole)
    last = stamp_s(starts[-1].lines[-1].whole) if starts else 0
    return ended and since is not None and last is not None and since > last


def _begins(line: Line) -> bool:
    return line.program == "xapi-init" and line.text.startswith("Starting xapi")


def _found(word: str, lines: Iterable[Line], detail: str = "", also: str = "") -> Trouble:
    cause = CAUSES[word]
    sentence = cause.sentence + (": %s" % shown(detail, 120).rstrip(" ,") if detail else "") + also
    told = tuple(shown(line.whole) for line in lines)[-MOST_LINES:]
    return Trouble(word, shown(sentence, LONGEST_SENTENCE), cause.help, told)


def _state(around: Around) -> Optional[Trouble]:
    """What keeps a start back whatever a log says, as the host shows it."""
    if around.running:
        return None
    if around.blocked:
        return _found("start-blocked", ())  # scripts/xapi-init
    if around.foreign_pid:
        return _found("stale-pid", (), "process %d" % around.foreign_pid)  # scripts/xapi-init
    return None


def _kernel(starts: List[_Start], others: List[Line], log: Sequence[str], around: Around) -> Optional[Trouble]:
    """Killed for want of memory: the kernel's word, about a process of this log."""
    pids = _without_word(starts, around.ended_pid)
    for line in reversed(others):
        found = _KILLED.search(line.text)
        if found is None:
            continue
        pid = int(found.group(1) or found.group(2))
        if around.running:
            return None
        if pid in pids or (not around.ended_pid and not any(start.pid for start in starts) and _near(line.whole, log)):
            return _found("oom-killed", [line])
        return None
    return None


def _without_word(starts: List[_Start], ended_pid: int) -> Set[int]:
    """The last processes, back to the one that is asked about, as far as none of them has said what ended it."""
    last, known = starts[::-1][:MOST_STARTS], ended_pid in {start.pid for start in starts} - {0}
    pids: Set[int] = set() if known else {ended_pid}
    for start in last:
        if start.fatal is None:
            pids.add(start.pid)
        elif not known:
            break
        if start.pid == ended_pid != 0:
            break
    return pids - {0}


def _near(raw: str, log: Sequence[str]) -> bool:
    """Was this written when the log ended?"""
    at = stamp_s(raw)
    last = next((stamp_s(line) for line in reversed(log) if _OURS.search(line[:400])), None)
    return at is not None and last is not None and abs(at - last) <= KILLED_BEFORE_S


def _of_start(start: _Start, around: Around) -> Optional[Trouble]:
    """What one process has said of its own end, or of what it waits for."""
    fatal = start.fatal
    if fatal is not None and not around.running:
        return _ended(fatal[0], [fatal[1]], start.step, around)
    if start.finished or not (start.pid or around.running):
        return None  # what is left of its log may be of days before its end
    waits = start.no_address
    if waits is not None:
        return _found(waits[0], [waits[1]])
    said = _said(start, _ROOTS) or _said(start, _CONSEQUENCES)
    if said is None:
        return None
    rule, line = said
    if rule.cause in _BY_BUNDLE and around.no_bundle:
        return _found("pool-bundle", [line])
    if rule.cause in _BY_CERTIFICATES and around.certificates:
        return _found("certificate", [line], "%s is empty" % ", ".join(around.certificates))
    return _found(rule.cause, [line])


def _said(start: _Start, rules: Sequence[Rule]) -> Optional[Tuple[Rule, Line]]:
    """The latest of its lines that one of these rules knows, and that nothing has taken back since."""
    over: Set[str] = set()
    for line in reversed(start.lines):
        over.update(cause for causes, pattern in _OVER if pattern.search(line.text) for cause in causes)
        for rule in rules:
            if rule.cause not in over and rule.pattern.search(line.text):
                return rule, line
    return None


def _ended(exception: str, lines: List[Line], step: str, around: Around) -> Trouble:
    """By the exception that ended it."""
    for rule in _ENDED:
        meant = rule.steps is None or not step or rule.steps.search(step)
        if meant and rule.pattern.search(exception):
            also = "; its disk is full, too" if around.root_full and rule.cause.startswith("database") else ""
            return _found(rule.cause, lines, _plain(exception), also)
    if around.root_full:
        return _found("disk-full", lines)
    if around.root_read_only:
        return _found("disk-read-only", lines)
    named = " in its step '%s'" % step if step else ""
    unknown = CAUSES[UNKNOWN]
    sentence = "it ended%s: %s" % (named, _plain(exception))
    return Trouble(UNKNOWN, shown(sentence, LONGEST_SENTENCE), unknown.help, tuple(shown(each.whole) for each in lines))


def _plain(exception: str) -> str:
    """An exception without the frame that xapi's API puts around it."""
    found = re.match(r"INTERNAL_ERROR: \[ (.*) \]\Z", exception)
    return found.group(1) if found is not None else exception


def _unread(starts: List[_Start]) -> Optional[Trouble]:
    """A configuration that cannot be used ends xapi before it says that it starts: these are its last lines."""
    last = starts[-1].lines[-10:] if starts else []
    lines = [line for line in last if _CONFIG_SAID.search(line.text)]
    return _found("config", lines) if lines else None


def _outside(others: List[Line], around: Around) -> Optional[Trouble]:
    """What systemd and the start script say of a xapi that has not come to its own log."""
    if around.running:
        return _waits(around)
    for line in reversed(_last_init(others)):
        if _CONFIG.match(line.text.strip()):
            return _found("config", [line])
        if _NO_PROGRAM.search(line.text):
            return _found("program", [line])
        fatal = _OCAML.match(line.text.strip())
        if fatal is not None:
            return _ended(fatal.group("exception"), [line], "", around)
    return _waits(around)


def _last_init(others: List[Line]) -> List[Line]:
    """What the start script and xapi have printed since the last start."""
    own = [line for line in others if line.program in ("xapi-init", "xapi")]
    begun = [at for at, line in enumerate(own) if _begins(line)]
    return own[begun[-1] :][:20] if begun else own[-20:]


def _waits(around: Around) -> Optional[Trouble]:
    """By what the host shows where the log has no word: xapi waits for a service without saying so."""
    for service, word in _SERVICES:
        if service in around.stopped:
            return _found(word, ())
    if around.root_full:
        return _found("disk-full", ())
    if around.root_read_only:
        return _found("disk-read-only", ())
    if around.year and around.year < OLDEST_YEAR:
        return _found("clock", (), "it says %d" % around.year)
    if around.certificates:
        return _found("certificate", (), "%s is empty" % ", ".join(around.certificates))
    return _found("no-management-interface", ()) if around.no_interface else None


def _left(asked: List[_Start], others: List[Line], around: Around) -> Trouble:
    """Nothing is known: how it ended as far as systemd says, and its last errors."""
    if asked and (asked[0].finished if around.running else asked[0].told_to_end):
        return NO_TROUBLE
    lines = [line for start in asked[:1] for line in start.lines if line.priority in ("error", "warn")][-MOST_LINES:]
    if not asked and not around.running:
        lines = [line for line in _last_init(others) if not _begins(line)][-MOST_LINES:]
    gave_up = _gave_up(others)
    if gave_up is not None and not around.running:
        return _found("start-limit", [*lines[-(MOST_LINES - 1) :], gave_up])
    step = asked[0].step if asked and not asked[0].finished else ""
    if asked and not asked[0].finished and asked[0].gave_up_as_member:
        sentence = "its start as a member gave up on its master's database; why is not known"
    elif around.running:
        sentence = "its start stands in the step '%s'" % step if step else CAUSES[UNKNOWN].sentence
    else:
        sentence = "it has ended%s%s; why is not known" % (" in its step '%s'" % step if step else "", _exit(others))
    told = tuple(shown(line.whole) for line in lines)
    return Trouble(UNKNOWN, shown(sentence, LONGEST_SENTENCE), CAUSES[UNKNOWN].help, told)


def _gave_up(others: List[Line]) -> Optional[Line]:
    """systemd's word that it starts xapi no more, unless it has started it since."""
    for line in reversed(others):
        if line.program == "systemd" and _ABOUT_XAPI.search(line.text):
            if _GAVE_UP.search(line.text):
                return line
            if _STARTED.search(line.text):
                return None
    return None


def _exit(others: List[Line]) -> str:
    """How the last process ended, as systemd says."""
    for line in reversed(others):
        found = _EXIT.search(line.text) if line.program == "systemd" else None
        if found is not None:
            return ", %s %s" % ("status" if found.group(1) == "exited" else "by signal", found.group(2))
    return ""
