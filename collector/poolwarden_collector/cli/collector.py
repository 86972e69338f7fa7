"""The client of the collector's operator API: one channel, hard time limits, gRPC's errors turned into sentences.

Rules:
 * An address is `unix:PATH` (the kernel tells the collector who connects) or `HOST:PORT` (mutual TLS, always: there is
   no plaintext over a network). On TLS the collector's certificate must be for the DNS name "collector".
 * Of several addresses the first one is asked at which a collector answers; all of one call are asked there.
 * A command is sent once, under an id; what came of one whose answer was lost is asked for by that.
 * A call that gets no answer within its limit counts as unreachable: nothing may be concluded from it.
 * NOT_FOUND, INVALID_ARGUMENT and FAILED_PRECONDITION carry the collector's own sentence and are the caller's to mend.
"""

import contextlib
import os
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolwarden_collector.cli.errors import AnswerIsNo, BadInput, CannotTell, CollectorFault, CommandError, Unreachable
from poolwarden_collector.cli.settings import Settings

if TYPE_CHECKING:
    from poolwarden.v1 import enrolment_pb2 as enrolment
    from poolwarden.v1 import operator_pb2 as api

CALL_LIMIT_S = 10.0  # a status of 1,000 hosts takes well under a second
PAGE = 10_000  # entries that a collector gives at a time
PAGE_POOLS = 100  # that are asked for at a time
COMMAND_LIMIT_S = 15.0  # the collector itself answers after 10 s at the latest, if only that it does not know
FIND_LIMIT_S = 30.0  # with an agent's metadata
TRIAL_LIMIT_S = 75.0  # a channel is given up after 60 s
CAPSULE_LIMIT_S = 60.0
DOCTOR_LIMIT_S = 60.0  # a journal's check is given up after 20 s; another doctor may be before us
_RUNS = 4  # of a fence agent, for one trial
ANSWER_S = 2.0  # of several collectors each has so long to answer at all
OUTCOME_LIMIT_S = 6.0  # for what came of a command whose answer was lost
WHETHER = "before it is given again: poolwarden history POOL"
UNIX_PATH_LIMIT = 107  # bytes; struct sockaddr_un.sun_path less its terminator
START_HINT = "is it running? systemctl status poolwarden-collector; another address: --collector unix:PATH or HOST:PORT"


class Collector:
    """One collector's operator API. Use as a context manager. Every method raises CommandError on failure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address, self._channel = _first_that_answers(settings)
        from poolwarden.v1 import enrolment_pb2_grpc, operator_pb2_grpc

        self._stub = operator_pb2_grpc.OperatorStub(self._channel)
        self._enrolments = enrolment_pb2_grpc.EnrolmentsStub(self._channel)

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def status(self, pool: str = "", limit_s: float | None = None) -> "api.StatusReply":
        """One pool by UUID or unique name, or all, page by page."""
        from poolwarden.v1 import operator_pb2

        if pool:
            return self.status_of(operator_pb2.StatusRequest(pool=pool), limit_s)
        return self.all_pages(operator_pb2.StatusRequest(), limit_s)

    def status_of(self, request: "api.StatusRequest", limit_s: float | None = None) -> "api.StatusReply":
        """What this asks for, in one call. A collector of an older version tells all pools whole."""
        reply: api.StatusReply = self._call(self._stub.Status, request, limit_s)
        return reply

    def all_pages(self, request: "api.StatusRequest", limit_s: float | None = None) -> "api.StatusReply":
        """Every pool that this asks for, in as many pages as it takes."""
        from poolwarden.v1 import operator_pb2

        asked, whole = operator_pb2.StatusRequest(), None
        asked.CopyFrom(request)
        asked.limit = PAGE_POOLS
        while True:
            page = self.status_of(asked, limit_s)
            if whole is None:
                whole = page
            else:
                whole.pools.extend(page.pools)
                whole.stood_down.extend(page.stood_down)
            if page.next <= asked.after:
                whole.next = ""
                return whole
            asked.after = page.next

    def overview(self, few: int = 0, limit: int = 0, limit_s: float | None = None) -> "api.StatusReply":
        """How all pools stand together, a line of each or of the ``limit`` worst; ``few`` of them whole as well."""
        from poolwarden.v1 import operator_pb2
        from poolwarden_collector.cli.many import overviewed

        request = operator_pb2.StatusRequest(overview=True, few=few, limit=limit)
        return overviewed(self.status_of(request, limit_s), request)

    def waiting(self) -> "list[api.PoolStatus]":
        """The pools in which nothing goes on before a person answers or acts."""
        reply = self.overview(few=PAGE_POOLS)
        if reply.pools:
            return list(reply.pools)
        return [pool for line in reply.overview.lines if line.waiting for pool in self.status(line.pool_uuid).pools]

    def explain(self, pool: str) -> "api.ExplainReply":
        """Verdict, evidence, permissions and refusals of one pool."""
        from poolwarden.v1 import operator_pb2

        reply: api.ExplainReply = self._call(self._stub.Explain, operator_pb2.ExplainRequest(pool=pool))
        return reply

    def readiness(self, pool: str = "") -> "api.ReadinessReply":
        """Reasons why a pool, or any, would not survive losing its master now."""
        from poolwarden.v1 import operator_pb2

        reply: api.ReadinessReply = self._call(self._stub.Readiness, operator_pb2.ReadinessRequest(pool=pool))
        return reply

    def plan(self, pool: str) -> "api.PlanReply":
        """What would happen if this pool's master died now."""
        from poolwarden.v1 import operator_pb2

        reply: api.PlanReply = self._call(self._stub.Plan, operator_pb2.PlanRequest(pool=pool))
        return reply

    def advise(self, pool: str, host: str, *, as_master: bool = False) -> "api.AdviseReply":
        """May this host be rebuilt (``as_master``: take the role), or (of a pool) where could its VMs run?"""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.AdviseRequest(pool=pool, host=host, as_master=as_master)
        reply: api.AdviseReply = self._call(self._stub.Advise, request)
        return reply

    def command(self, request: "api.CommandRequest", limit_s: float = COMMAND_LIMIT_S) -> "api.CommandReply":
        """Ask for an act; a refusal is a reply, not an error."""
        request.id, sent = str(uuid.uuid4()), time.monotonic()
        try:
            reply: api.CommandReply = self._call(self._stub.Command, request, limit_s)
        except CannotTell:
            raise
        except Unreachable as lost:
            return self._came_of(request.id, sent, lost)
        return reply

    def _came_of(self, wanted: str, sent: float, lost: Unreachable) -> "api.CommandReply":
        """What came of a command whose answer was lost. Raises ``lost``, or what is known of it."""
        ends = time.monotonic() + OUTCOME_LIMIT_S
        for address in (self._address, *(each for each in self._settings.addresses if each != self._address)):
            told = _outcome_at(self._settings, address, wanted, ends)
            if told is None:
                continue
            if told.state == "done":
                return told.reply
            if told.state == "unknown" and len(self._settings.addresses) == 1 and told.remembers_ms >= _ms_since(sent):
                raise Unreachable(f"nothing was done: {lost.sentence}", "give the command again")
        if len(self._settings.addresses) == 1:
            raise lost
        raise Unreachable(f"{lost.sentence}; whether the command was obeyed is not known", WHETHER) from lost

    def collectors(self) -> "api.CollectorsReply":
        """The collectors that share one etcd."""
        from poolwarden.v1 import operator_pb2

        reply: api.CollectorsReply = self._call(self._stub.Collectors, operator_pb2.CollectorsRequest())
        return reply

    def history(self, request: "api.HistoryRequest") -> "api.HistoryReply":
        """Journal entries, oldest first, in as many pages as it takes."""
        from poolwarden.v1 import operator_pb2

        pages, left = [], request.limit
        asked = operator_pb2.HistoryRequest()
        asked.CopyFrom(request)
        while True:
            page: api.HistoryReply = self._call(self._stub.History, asked)
            pages.append(page)
            left -= len(page.entries)
            if left <= 0 or len(page.entries) < PAGE:
                break
            asked.limit = left
            _before(asked, page)
        return operator_pb2.HistoryReply(entries=[entry for page in reversed(pages) for entry in page.entries])

    def follow(self, request: "api.HistoryRequest") -> Iterator["api.HistoryEntry"]:
        """Journal entries as they are committed, until the collector ends the stream."""
        with self._errors_as_sentences():
            yield from self._stub.Follow(request)

    def alerts(self, request: "api.AlertsRequest") -> "api.AlertsReply":
        """Alerts with their deliveries."""
        reply: api.AlertsReply = self._call(self._stub.Alerts, request)
        return reply

    def audit(self, request: "api.AuditRequest") -> "api.AuditReply":
        """Recorded calls, oldest first."""
        reply: api.AuditReply = self._call(self._stub.Audit, request)
        return reply

    def late(self, host: str, samples: bool, limit: int) -> "api.LateReply":
        """What a host kept while no collector listened."""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.LateRequest(host=host, samples=samples, limit=limit)
        reply: api.LateReply = self._call(self._stub.Late, request)
        return reply

    def capsules(self, request: "api.ListCapsulesRequest") -> "api.ListCapsulesReply":
        """Evidence capsules that hosts have handed over, the oldest first."""
        reply: api.ListCapsulesReply = self._call(self._stub.ListCapsules, request)
        return reply

    def capsule(self, host: str, wanted: str) -> Iterator[bytes]:
        """One of them, a piece at a time."""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.ReadCapsuleRequest(host_uuid=host, id=wanted)
        with self._errors_as_sentences(CAPSULE_LIMIT_S):
            for piece in self._stub.ReadCapsule(request, timeout=CAPSULE_LIMIT_S):
                yield piece.data

    def decision(self, wanted: str, collector: str = "") -> "api.DecisionReply":
        """A decision's stored input; ``collector``: of several, in whose journal, empty: whichever has it."""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.DecisionRequest(id=wanted, collector=collector)
        reply: api.DecisionReply = self._call(self._stub.Decision, request)
        return reply

    def find_fence(self, host: str, address: str) -> "api.FindFenceReply":
        """What answers at a host's BMC."""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.FindFenceRequest(host=host, address=address)
        reply: api.FindFenceReply = self._call(self._stub.FindFence, request, FIND_LIMIT_S)
        return reply

    def try_fence(self, host: str, agent: str, parameters: Mapping[str, str], limit_ms: int) -> "api.TryFenceReply":
        """Whether a proposed fence device is this host's."""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.TryFenceRequest(host=host, agent=agent, parameters=parameters, limit_ms=limit_ms)
        reply: api.TryFenceReply = self._call(self._stub.TryFence, request, _RUNS * limit_ms / 1000 + FIND_LIMIT_S)
        return reply

    def doctor(self) -> "api.DoctorReply":
        """The collector's own condition."""
        from poolwarden.v1 import operator_pb2

        reply: api.DoctorReply = self._call(self._stub.Doctor, operator_pb2.DoctorRequest(), DOCTOR_LIMIT_S)
        return reply

    def create_token(self, request: "enrolment.CreateTokenRequest") -> "enrolment.CreateTokenReply":
        """A token, told once."""
        reply: enrolment.CreateTokenReply = self._call(self._enrolments.CreateToken, request)
        return reply

    def tokens(self, pool: str) -> "enrolment.ListTokensReply":
        """Those of a pool by UUID or unique name, or all."""
        from poolwarden.v1 import enrolment_pb2

        request = enrolment_pb2.ListTokensRequest(pool=pool)
        reply: enrolment.ListTokensReply = self._call(self._enrolments.ListTokens, request)
        return reply

    def revoke_token(self, request: "enrolment.RevokeTokenRequest") -> "enrolment.EnrolmentReply":
        """A refusal is a reply, not an error; so it is below."""
        reply: enrolment.EnrolmentReply = self._call(self._enrolments.RevokeToken, request)
        return reply

    def keys(self, pool: str) -> "enrolment.ListKeysReply":
        """Keys of hosts: of a pool by UUID or unique name, or all."""
        from poolwarden.v1 import enrolment_pb2

        reply: enrolment.ListKeysReply = self._call(self._enrolments.ListKeys, enrolment_pb2.ListKeysRequest(pool=pool))
        return reply

    def decide_key(self, request: "enrolment.DecideKeyRequest") -> "enrolment.EnrolmentReply":
        """Accept or refuse a key that waits."""
        reply: enrolment.EnrolmentReply = self._call(self._enrolments.DecideKey, request)
        return reply

    def deny_certificate(self, request: "enrolment.DenyCertificateRequest") -> "enrolment.EnrolmentReply":
        """End a certificate, or all of a host."""
        reply: enrolment.EnrolmentReply = self._call(self._enrolments.DenyCertificate, request)
        return reply

    def test_alerts(self, channel: str, actor: str, reason: str = "") -> "api.TestAlertsReply":
        """A sample through each channel of alerts, or one of them."""
        from poolwarden.v1 import operator_pb2

        request = operator_pb2.TestAlertsRequest(channel=channel, actor=actor, reason=reason)
        reply: api.TestAlertsReply = self._call(self._stub.TestAlerts, request, TRIAL_LIMIT_S)
        return reply

    def authority(self, pool: str) -> "enrolment.AuthorityReply":
        """What a host of this pool has to be told before it enrols."""
        from poolwarden.v1 import enrolment_pb2

        request = enrolment_pb2.AuthorityRequest(pool=pool)
        reply: enrolment.AuthorityReply = self._call(self._enrolments.Authority, request)
        return reply

    def _call(self, method: Any, request: Any, limit_s: float | None = None) -> Any:
        limit_s = limit_s or CALL_LIMIT_S
        with self._errors_as_sentences(limit_s):
            return method(request, timeout=limit_s)

    @contextlib.contextmanager
    def _errors_as_sentences(self, limit_s: float = CALL_LIMIT_S) -> Iterator[None]:
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            raise sentence_of(self._address, error.code().name, error.details() or "", limit_s) from None


def _before(asked: "api.HistoryRequest", page: "api.HistoryReply") -> None:
    """Ask for the page before this one; of several collectors each has numbers of its own."""
    if not page.asked:
        asked.before_seq = page.entries[0].seq
        return
    ends = {position.collector: position.seq for position in asked.before}
    ends |= {entry.collector: entry.seq for entry in reversed(page.entries)}
    del asked.before[:]
    for collector, seq in ends.items():
        asked.before.add(collector=collector, seq=seq)


def _names_of(details: str) -> str:
    """Which command lists the names of which ``details`` knows one not."""
    if details.startswith("no open alert"):
        return "open alerts and their keys: poolwarden alerts"
    if "channel of alerts" in details:
        return "channels and how they are: poolwarden doctor"
    return "names: poolwarden status"


def sentence_of(address: str, code: str, details: str, limit_s: float) -> CommandError:
    """The error of a gRPC status, named by its code (`UNAVAILABLE`, ...); `limit_s` is what the call was given.

    What stands in ``details`` after an empty line is the collector's own next step.
    """
    details, _, step = (" ".join(part.split()) for part in details.partition("\n\n"))
    if code in ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"):
        return BadInput(details or f"the collector refused the request ({code})", step or _names_of(details))
    if code == "ABORTED":  # of several collectors one that matters does not answer
        return CannotTell(details, step)
    if code == "UNAVAILABLE" and not address.startswith("unix:") and (trouble := _handshake(details)):
        return Unreachable(f"{address}: {trouble}", "certificates are made by: poolwarden-collector issue-operator")
    if code == "UNAVAILABLE":
        return Unreachable(f"no collector answers at {address}", START_HINT)
    if code == "DEADLINE_EXCEEDED":
        return Unreachable(f"the collector at {address} did not answer within {limit_s:g} s", START_HINT)
    if code == "PERMISSION_DENIED" and "needs the role" in details:
        return AnswerIsNo(f"refused: {details}", "who has which role: [[operators]] of the collector's configuration")
    if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return CollectorFault(f"the collector at {address} does not accept you: {details or code}")
    if code == "UNIMPLEMENTED":
        return CollectorFault(f"the collector at {address} does not know this command", "is it of an older version?")
    return CollectorFault(f"the collector at {address} failed: {details or code}", "see its log")


def _handshake(details: str) -> str:
    """What gRPC's words about a TLS handshake mean; empty if they are of something else."""
    if "Hostname Verification" in details or "Peer name" in details:
        return "the certificate there is not a collector's (its name is not: collector)"
    if "andshake failed" in details:
        return "the certificate there is not of the authority in your ca.pem, or not valid today"
    if "Socket closed" in details:
        return "it ended the handshake: your cert.pem is of another authority, or no collector listens at that port"
    return ""


def _ms_since(instant: float) -> float:
    return (time.monotonic() - instant) * 1000


def _outcome_at(settings: Settings, address: str, wanted: str, ends: float) -> "api.OutcomeReply | None":
    """What a collector says of a command; None: nothing."""
    import grpc

    from poolwarden.v1 import operator_pb2, operator_pb2_grpc

    with contextlib.suppress(CommandError, grpc.RpcError), _open_channel(settings, address) as channel:
        stub = operator_pb2_grpc.OperatorStub(channel)
        while (left := ends - time.monotonic()) > 0:
            told: api.OutcomeReply = stub.Outcome(operator_pb2.OutcomeRequest(id=wanted), timeout=min(left, ANSWER_S))
            if told.state != "running":
                return told
            time.sleep(0.2)
    return None


def _first_that_answers(settings: Settings) -> tuple[str, Any]:
    """The first address at which a collector answers, and the way there. Raises CommandError."""
    import grpc

    addresses = settings.addresses
    if len(addresses) == 1:
        return addresses[0], _open_channel(settings, addresses[0])
    said = []
    for address in addresses:
        try:
            channel = _open_channel(settings, address)
        except Unreachable as error:
            said.append(error.sentence)
            continue
        try:
            grpc.channel_ready_future(channel).result(ANSWER_S)
            return address, channel
        except grpc.FutureTimeoutError:
            channel.close()
            said.append(f"no collector answers at {address}")
    raise Unreachable(f"none of {len(addresses)} collectors can be asked: {'; '.join(said)}", START_HINT)


def _open_channel(settings: Settings, address: str) -> Any:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # an error is ours to word, once, on one line
    import grpc

    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    if address.startswith("unix:"):
        path = _checked_socket(address.removeprefix("unix:"))
        return grpc.insecure_channel(f"unix:{path}", options=[*options, ("grpc.default_authority", "localhost")])
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"{address!r} is no collector's address", "give unix:PATH or HOST:PORT")
    credentials = grpc.ssl_channel_credentials(**_tls_files(Path(settings.tls_folder)))
    return grpc.secure_channel(address, credentials, options=[*options, ("grpc.ssl_target_name_override", "collector")])


def _checked_socket(path: str) -> str:
    """The path, if a socket that we may use is there; gRPC itself would only say "unavailable"."""
    if not path:
        raise BadInput("unix: needs a path", "e.g. --collector unix:/run/poolwarden/collector.sock")
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
        raise BadInput(f"{path} is too long for a Unix socket ({UNIX_PATH_LIMIT} bytes at most)")
    try:
        mode = Path(path).stat().st_mode
    except PermissionError:
        raise Unreachable(f"you may not look at {path}", "become root or a member of the socket's group") from None
    except OSError:
        raise Unreachable(f"no collector listens at unix:{path}: there is no such socket", START_HINT) from None
    if not stat.S_ISSOCK(mode):
        raise BadInput(f"{path} is not a socket", START_HINT)
    if not os.access(path, os.R_OK | os.W_OK):
        raise Unreachable(f"you may not use {path}", "become root or a member of the socket's group")
    return path


def _tls_files(folder: Path) -> dict[str, bytes]:
    names = {"root_certificates": "ca.pem", "certificate_chain": "cert.pem", "private_key": "key.pem"}
    try:
        return {argument: (folder / name).read_bytes() for argument, name in names.items()}
    except OSError as error:
        hint = "HOST:PORT needs ca.pem, cert.pem and key.pem there; another folder: --tls DIR"
        raise BadInput(f"cannot read {error.filename}: {error.strerror}", hint) from None
