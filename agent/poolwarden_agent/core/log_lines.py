"""Lines of a dom0's logs: taken apart, and as they may be shown to people: one line, bounded, without secrets.

A line of xapi's is ``Apr 30 20:26:40 h1 xapi: [error||0 |server_init D:ab12|startup] text``: priority, host name (older
ones), thread, task, module (xapi: ocaml/libs/log/debug.ml, format). Others are syslog lines of another program.

What is taken out: whatever stands behind a word like password, secret, token or cookie, references of sessions, the
user's part of a URL, the parameters of a login, and long runs of base64 or of UUIDs: xapi's pool secret is three UUIDs
joined by slashes (xapi: ocaml/xapi/helpers.ml, PoolSecret). A reference is kept only where it names a row of the
database.
"""

import re
from typing import List, NamedTuple, Optional, Tuple

LONGEST_LINE = 300
LONGEST_READ = 2000  # of one line: xapi can log a whole request in one
_SYSLOG = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[0-9:.+Z-]{8,30}) (?:\S{1,255} )?"
    r"(?P<program>[A-Za-z0-9_./@-]{1,40})(?:\[\d{1,10}\])?: (?P<text>.*)\Z",
    re.DOTALL,
)
_XAPI = re.compile(
    r"\[ *(?P<priority>[a-z]{4,8})\|[^|\]]*\|\d[^|]*\|(?P<task>[^|]*)\|[^\]|]*\] ?(?P<text>.*)\Z",
    re.DOTALL,
)
_STAMP = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) ")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# A row that is missing is looked for by its reference; anywhere else a reference may be that of a session.
_OF_A_ROW = re.compile("DBCache_NotFound|missing row|Unmarshall_error")
_REFERENCE = re.compile(r"OpaqueRef:[A-Za-z0-9-]{4,}")
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_NAMED = (
    r"(?:pass(?:word|wd|phrase)?|pwd|psk|secret|ptoken|token|cookie|credentials?|chapuser|community|authorization|"
    r"(?:api|access|private|secret)[_-]?key)"
)
_QUOTE = r"\\*['\"]?"
_VALUE = r"(?:\\+\"[^\"]*\"?|'[^']*'?|\"(?:\\.|[^\"\\])*\"?|[<({\[]?[^\s,;\])<&}>]+)"
_TAG = r"\s*</[a-z]{1,20}>\s*(?:<[a-z]{1,20}>\s*){1,4}"
_SECRETS = (
    (r"(?s)-----BEGIN [A-Z ]{0,40}-----.*", "(a key or certificate)"),
    # The parameters of a login stand behind its name, in whatever form.
    (
        r"(?s)(login_with_password|slave_local_login|slave_login|change_password)(?=" + _QUOTE + r"\s*[,(\[<]).*",
        r"\1 ...",
    ),
    (r"(?i)(trackid=|session_id=|session: ?|session_ref=)[A-Za-z0-9:-]{4,}", r"\1..."),
    (r"(?i)\b(basic|bearer|digest)\s+[A-Za-z0-9+/=._-]{6,}", r"\1 ..."),
    (r"//[^\s/@:'\"]{1,100}:[^\s@'\"]{1,200}@", "//...@"),
    (r"//[^\s/'\"]{1,200}@", "//...@"),
    (r"[0-9a-fA-F-]{36}(?:/[0-9a-fA-F-]{36})+", "..."),
    # "-n NAME.password -v X", as words or as a list of them
    (r"(?i)(%s%s,?\s+%s--?v(?:alue)?%s[,\s]\s*)%s" % (_NAMED, _QUOTE, _QUOTE, _QUOTE, _VALUE), r"\1..."),
    (r"(?i)((?:^|[\s'\"\[])--?[a-z-]{0,30}%s%s[\s,]\s*)(?!-)%s" % (_NAMED, _QUOTE, _VALUE), r"\1..."),
    (r"((?:^|[\s'\"\[])-[pP]%s[\s,]\s*)['\"]?[^\s'\",:/\]-][^\s'\",:/\]]*(?=['\",\s\]]|\Z)" % _QUOTE, r"\1..."),
    (r"(?i)(\((?:[a-z_]{0,30}_)?%s\s+)[^\s()]+(?=\s*\))" % _NAMED, r"\1..."),
    (r"(?i)\b(password (?:is|was) |pool_secret )(?![:=-])\S+", r"\1..."),
    (r"(?i)(<[a-z_]{0,30}%s>)[^<]+" % _NAMED, r"\1..."),
    (
        r"(?i)\b([a-z0-9_.-]{0,40}%s)" % _NAMED
        + r"(%s\s*(?:=>|-->|->|[:=,;]|%%3d|&gt;)\s*|['\"]\s+(?=['\"])|%s)" % (_QUOTE, _TAG)
        + r"(?!we must be pointing)"
        + _VALUE,
        r"\1\2...",
    ),
    (r"\b[A-Za-z0-9+/]{64,}={0,2}", "..."),
)
_compiled: List[Tuple["re.Pattern[str]", str]] = []  # when they are needed first: most hosts have nothing to show

Line = NamedTuple(
    "Line",
    [
        ("program", str),  # "xapi", "stunnel", "systemd"; empty: not of this form
        ("priority", str),  # "error", "warn", "info", "debug"; empty: not said
        ("task", str),
        ("text", str),
        ("whole", str),
    ],
)


def parse(raw: str) -> Line:
    """One line. What is not of a known form is a line of an unknown program, and all of it is its text."""
    raw = raw[:LONGEST_READ]
    found = _SYSLOG.match(raw)
    if found is None:
        return Line("", "", "", raw, raw)
    own = _XAPI.match(found.group("text"))
    if own is None:
        return Line(found.group("program"), "", "", found.group("text"), raw)
    return Line(found.group("program"), own.group("priority"), own.group("task").strip(), own.group("text"), raw)


def lines_of(data: bytes, whole: bool) -> List[str]:
    """The lines of a piece of a file; ``whole``: it begins with the beginning of a line.

    A log that was written to as the power was lost has zeros before the first line of the next boot.
    """
    lines = data.decode("utf-8", "replace").split("\n")
    if not whole:
        lines = lines[1:]
    return [line for line in (line.strip("\0").rstrip("\r") for line in lines) if line.strip()]


def stamp_s(raw: str) -> Optional[int]:
    """When a syslog line was written, in seconds since the year's begin (as if every month had 31 days); None: no word.

    The year is not written; two stamps of one file are compared with each other alone.
    """
    found = _STAMP.match(raw)
    if found is None or found.group(1) not in _MONTHS:
        return None
    day = _MONTHS.index(found.group(1)) * 31 + int(found.group(2))
    return ((day * 24 + int(found.group(3))) * 60 + int(found.group(4))) * 60 + int(found.group(5))


def shown(raw: str, longest: int = LONGEST_LINE) -> str:
    """A line as it may be shown: bounded, printable, without secrets."""
    text = raw[:LONGEST_READ]
    # safety: secrets go before the cut: what is left of one behind a cut would not be known as one.
    for pattern, kept in _patterns():
        text = pattern.sub(kept, text)
    if not _OF_A_ROW.search(text) or "session" in text.lower():
        text = _REFERENCE.sub("OpaqueRef:...", text)
    text = _CONTROL.sub(_escaped, text).strip()
    return text if len(text) <= longest else text[: longest - 3].rstrip() + "..."


def _patterns() -> List[Tuple["re.Pattern[str]", str]]:
    if not _compiled:
        _compiled[:] = [(re.compile(pattern), kept) for pattern, kept in _SECRETS]
    return _compiled


def _escaped(found: "re.Match[str]") -> str:
    code = ord(found.group(0))
    return " " if code == 9 else "\\x%02x" % code if code < 256 else "\\u%04x" % code
