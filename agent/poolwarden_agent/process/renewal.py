"""This host's next certificate, asked for on the stream that runs: new key, request and signature by a child process.

Rules
-----
* A thread of its own makes and writes; the loop only sends what is ready and hands over what came.
* The new key is kept before it is asked for (dom0/identity/tls_files.py): a host side that ends meanwhile asks for the
  same key again. The old key and its certificate stand until all new files are there.
* Nothing of this ends a stream: the one that runs goes on with the certificate that it began with, the next one begins
  with the new files. What is refused or not answered is said in the log and asked again later, ever more rarely.
* Only what enrolment issued is renewed: who has certificates of his own renews them himself.
"""

import random
import threading
import time
from typing import Callable, Optional

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import renewal_rules
from poolwarden_agent.dom0.identity import openssl
from poolwarden_agent.dom0.identity.openssl import OpensslError
from poolwarden_agent.dom0.identity.tls_files import CA, CERTIFICATE, KEY, Terms, TlsError, TlsFiles
from poolwarden_agent.process import log

LOOK_EVERY_S = 30.0
ANSWER_WITHIN_S = 120.0  # a collector whose authority is slow, or was restarted, is asked again


class Renewals(object):
    """Drives `TlsFiles`; ``wake`` wakes the loop, ``renewed`` is called before files are replaced."""

    def __init__(self, files: TlsFiles, wake: Callable[[], None], renewed: Callable[[], None]) -> None:
        self._files = files
        self._wake = wake
        self._renewed = renewed
        self._signal = threading.Event()
        self._streaming = False
        self._answer: Optional[pb.Renewal] = None
        self._request: Optional[pb.RenewalRequest] = None
        self._asked_s = 0.0  # monotonic; 0: nothing is asked
        self._failures = 0
        self._not_before_s = 0.0  # monotonic

    # ------------------------------------------------------------------------------------------ the loop's

    def stream(self, up: bool) -> None:
        """A stream is up, or is not."""
        self._streaming = up
        self._signal.set()

    def take(self) -> Optional[pb.RenewalRequest]:
        """What is to be sent now, once."""
        request, self._request = self._request, None
        return request

    def heard(self, answer: pb.Renewal) -> None:
        self._answer = answer
        self._signal.set()

    # ------------------------------------------------------------------------------------------ the thread's

    def run(self) -> None:
        """For ever, in a thread of its own."""
        while True:
            self._signal.wait(LOOK_EVERY_S)
            self._signal.clear()
            now_s = time.monotonic()
            try:
                self.turn(now_s)
            except (TlsError, OpensslError) as error:
                self._failed(now_s, "this host's certificate is not renewed: %s" % error)
            except Exception as error:  # whatever it is: the stream goes on, and it is tried again
                self._failed(now_s, "this host's certificate is not renewed: %s: %s" % (type(error).__name__, error))

    def turn(self, now_s: float) -> None:
        """One look. :raises TlsError, OpensslError: it did not work, and what was there stands."""
        answer, self._answer = self._answer, None
        if answer is not None:
            if self._asked_s:
                self._take_in(now_s, answer)
            return
        if self._asked_s:
            if now_s - self._asked_s >= ANSWER_WITHIN_S or not self._streaming:
                self._failed(now_s, "the collector has not answered the request for this host's next certificate")
            return
        if self._streaming and now_s >= self._not_before_s and self._due():
            self._ask(now_s)

    def _due(self) -> bool:
        terms = self._files.terms()
        if terms is None:
            return False
        part = renewal_rules.share(self._files.read(CERTIFICATE))
        return renewal_rules.left_s(terms.issued_s, terms.renew_after_s, part, time.time()) == 0

    def _ask(self, now_s: float) -> None:
        path = self._files.next_key(openssl.new_key)
        request = openssl.request(path)
        signed = openssl.signature(self._files.path(KEY), request)
        self._asked_s = now_s
        self._request = pb.RenewalRequest(csr_pem=request.decode("ascii", "replace"), signature=signed)
        self._wake()

    def _take_in(self, now_s: float, answer: pb.Renewal) -> None:
        self._asked_s = 0.0
        if not answer.certificate_pem:
            why = answer.refusal or "no reason given"
            self._failed(now_s, "the collector does not renew this host's certificate: %s" % why)
            return
        ca = answer.ca_pem.encode("ascii", "replace") or self._files.read(CA)
        terms = Terms(time.time(), float(answer.renew_after_s or renewal_rules.LEAST_S))
        self._files.install(answer.certificate_pem.encode("ascii", "replace"), ca, terms, taking=self._renewed)
        self._failures, self._not_before_s = 0, 0.0
        log.say("this host's certificate has been renewed; the next stream begins with it", "renewal")

    def _failed(self, now_s: float, text: str) -> None:
        self._asked_s, self._request = 0.0, None
        self._failures += 1
        pause_s = renewal_rules.pause_s(self._failures, random.uniform(renewal_rules.LEAST_SHARE, 1.0))
        self._not_before_s = now_s + pause_s
        log.say("%s; asked again in %d s" % (text, pause_s), "renewal")
