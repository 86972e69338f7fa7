"""Alerts as mail: one message for the beginning, each reminder and the end, all of them one thread.

Rules
-----
* STARTTLS and TLS are verified, certificate and name; a server that does not offer STARTTLS gets nothing.
* ``Message-ID`` is made of the alert's key: the same for each attempt, so that a repetition is the same message, and
  known in advance, so that what follows names the beginning in ``References`` (RFC 5322, 3.6.4).
* ``Auto-Submitted: auto-generated`` (RFC 3834, 5): no vacation program answers.
* A header takes one line: control characters are taken out before (wording.py), and the library refuses the others. It
  also reads encoded words (RFC 2047) in what it is given and writes what they hold, line feeds too (CVE-2024-6923): a
  name that looks like one is taken apart.
* It is taken when the server has taken it for one recipient; whom it refused is logged.
"""

from __future__ import annotations

import contextlib
import email.policy
import email.utils
import hashlib
import logging
import smtplib
import socket
import ssl
from email.message import EmailMessage

from poolwarden_collector.shell.alerts.channels.limits import Limit
from poolwarden_collector.shell.alerts.channels.wording import heading, text
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Mail
from poolwarden_collector.shell.redaction import hidden
from poolwarden_collector.shell.store.journal import Parcel

STEP_LIMIT_S = 10.0  # for each step of the exchange
LIMIT_S = 30.0  # for all of it

_log = logging.getLogger(__name__)


class MailSink:
    """One mail per parcel, over a connection of its own."""

    def __init__(self, mail: Mail, step_limit_s: float = STEP_LIMIT_S, limit_s: float = LIMIT_S) -> None:
        self.name = mail.channel
        self._mail = mail
        self._step_limit_s = step_limit_s
        self._limit_s = limit_s

    def deliver(self, parcel: Parcel) -> None:
        limit = Limit(self._limit_s)
        try:
            client = self._client()
            with limit.over(lambda: client.sock):
                refused = self._send(client, message(self._mail, parcel))
        except ssl.SSLCertVerificationError as error:
            raise SinkError(f"the mail server's certificate is not accepted: {error.verify_message}") from None
        except (OSError, ValueError) as error:  # smtplib's errors are OSErrors
            why = f"not done within {self._limit_s:g} s" if limit.reached else self._reason(error)
            raise SinkError(f"the mail server has not taken it: {why}") from None
        if refused:
            _log.warning("mail to %s was refused for %s", self.name, ", ".join(sorted(refused)))

    def _client(self) -> smtplib.SMTP:
        # The name of this machine as it calls itself: the library would ask the DNS for it, without a limit.
        here = socket.gethostname() or "localhost"
        if self._mail.security == "tls":
            return smtplib.SMTP_SSL(local_hostname=here, timeout=self._step_limit_s, context=self._context())
        return smtplib.SMTP(local_hostname=here, timeout=self._step_limit_s)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._mail.ca) if self._mail.ca else None)

    def _send(self, client: smtplib.SMTP, mail: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """The recipients that were refused."""
        try:
            # For the check of the certificate's name; the constructor sets it only where it connects by itself.
            client._host = self._mail.server  # type: ignore[attr-defined]
            code, answer = client.connect(self._mail.server, self._mail.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, answer)
            if self._mail.security == "starttls":
                client.starttls(context=self._context())
            if self._mail.user:
                client.login(self._mail.user, self._mail.password)
            refused = client.send_message(mail, self._mail.sender, self._mail.to)
            with contextlib.suppress(OSError):  # it is taken, whatever becomes of the farewell
                client.quit()
            return refused
        finally:
            client.close()

    def _reason(self, error: Exception) -> str:
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            code, said = next(iter(error.recipients.values()))
            return self._clean(f"all recipients refused, {code} {_decoded(said)}")
        if isinstance(error, smtplib.SMTPResponseException):
            return self._clean(f"{error.smtp_code} {_decoded(error.smtp_error)}")
        return self._clean(str(error) or type(error).__name__)

    def _clean(self, said: str) -> str:
        """One line, without what it logs in with: a server may quote it."""
        return " ".join(hidden(said, (self._mail.password, self._mail.user)).split())[:200]


def message(mail: Mail, parcel: Parcel) -> EmailMessage:
    """The mail for a parcel."""
    made = EmailMessage(email.policy.SMTP)
    domain = mail.sender.rpartition("@")[2]
    begin = _id(f"{parcel.key}/{parcel.occurrence}/firing", domain)
    made["From"] = mail.sender
    made["To"] = ", ".join(mail.to)
    # safety: a host's or pool's name must not begin another header, or the text.
    made["Subject"] = heading(parcel).replace("=?", "= ?")
    made["Date"] = email.utils.formatdate(localtime=False)
    made["Message-ID"] = _id(parcel.delivery_key, domain)
    if made["Message-ID"] != begin:
        made["In-Reply-To"] = made["References"] = begin
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text(parcel), cte="quoted-printable")  # no line is too long, no server needs 8BITMIME
    return made


def _id(key: str, domain: str) -> str:
    """Unique in the world as far as the key is: it holds the pool's UUID (RFC 5322, 3.6.4)."""
    return f"<{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:32]}.poolwarden@{domain}>"


def _decoded(said: bytes | str) -> str:
    return said if isinstance(said, str) else said.decode(errors="replace")
