"""`poolwarden advise`: the answer, then each thing that was looked at."""

from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Tone

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

TONES: dict[str, Tone] = {
    "good": "good",
    "bad": "bad",
    "first": "warn",
    "not known": "warn",
    "yes": "good",
    "no": "bad",
}
WORDS = {"good": "ok", "bad": "NO", "first": "!", "not known": "?"}


def advice_page(reply: "api.AdviseReply") -> Page:
    """The plain answer first; what stands against it, what is not known, what is well."""
    name = reply.host_name or reply.pool_name or reply.pool_uuid
    page: Page = [
        Line(reply.answer.upper(), TONES.get(reply.answer, ""), label=f"{name}  "),
        Line(reply.sentence),
        Line(),
    ]
    for line in reply.lines:
        tone = TONES.get(line.answer, "")
        page.append(Line(line.text, tone, 2, label=f"{WORDS.get(line.answer, line.answer):<3} {line.topic}: "))
        if line.step:
            page.append(Line(line.step, "", 6, label="-> "))
    return page
