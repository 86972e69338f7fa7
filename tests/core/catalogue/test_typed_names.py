"""Names in suggested commands: what is copied into a shell is one word there, whatever it is called."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.pool import Guarded, uuid

from poolwarden.typed_names import quoted, to_quote, typed
from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.catalogue import failovers, hosts, journal, ownership, questions, verdicts
from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.state import told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.transaction import Transaction
from poolwarden_collector.shell.operators.quoting import as_typed

ALL = (*verdicts.ALL, *failovers.ALL, *questions.ALL, *hosts.ALL, *journal.ALL, *ownership.ALL)
HOSTILE = ["h3;curl x|sh", "$(reboot)", "a b", "it's", "`id`", "h1 && rm -rf /", "--force", "x\u00fcr", "xe ;id", '"']
COMMAND = re.compile(r"(?<![\w./-])(?:poolwarden|poolwarden-agent|xe|xe-[a-z-]+|systemctl) ")


def words(text: str) -> list[str]:
    return shlex.split(text.replace("\n", " "), posix=True)


def test_plain_names_are_typed_as_they_are() -> None:
    for name in ("h1", "xen-1.example.org", "10.0.0.1", "fd00::1", "pool/h1", "XCP_NG@2"):
        assert typed(name, "u") == name
    assert to_quote([("h1", "u"), ("", "v")]) == {} and quoted("poolwarden explain a b", {}) == "poolwarden explain a b"


@pytest.mark.parametrize("name", HOSTILE)
def test_any_other_is_one_word_of_a_shell(name: str) -> None:
    assert words(typed(name, "uuid-1")) in ([name], ["uuid-1"]) and not typed(name, "uuid-1").startswith("-")
    names = to_quote([(name, "uuid-1"), ("h1", "uuid-2")])
    once = quoted(f"{name} is down. poolwarden explain {name}", names)
    assert once.startswith(f"{name} is down. poolwarden explain ")
    assert words(once[len(name) + len(" is down. ") :])[-1] in (name, "uuid-1")
    assert quoted(once, names) == once, "what is quoted stays"
    assert quoted(f"{name} is down", names) == f"{name} is down", "a sentence has names, and no words of a shell"


def test_a_name_is_quoted_where_it_is_a_word_and_nowhere_else() -> None:
    names = to_quote([("t e", ""), (";", ""), ("a b", ""), ("a b c", "")])
    assert quoted("poolwarden host enable h1; then: xe host-enable host=t e", names) == (
        "poolwarden host enable h1; then: xe host-enable host='t e'"
    )
    assert quoted("poolwarden host show lab/a b, or a b c.", names) == "poolwarden host show lab/'a b', or 'a b c'."


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable() and text.strip() == text))
def test_whatever_somebody_calls_a_host(name: str) -> None:
    names = to_quote([(name, "uuid-1")])
    assert words(quoted(f"poolwarden host enable {name}", {**names}))[-1:] in ([name], ["uuid-1"])


@pytest.mark.parametrize("message", ALL, ids=lambda message: message.id)
def test_every_message_quotes_names_in_its_commands(message: Message) -> None:
    """Each word of each line is a hostile name: in what follows a command there is no bare one."""
    name = "h3;curl x|sh"
    text = "".join((message.title, message.died, message.did, message.you, message.open))
    given_ = dict.fromkeys([field for _, field, _, _ in Formatter().parse(text) if field], name)
    given_ |= dict.fromkeys(re.findall(r"\w\{(\w+)\}", text), "")  # the end of another word
    told = message.told({"pool": name, **given_}, to_quote([(name, "u")]))
    for line in told.lines:
        command = COMMAND.search(line)
        if command is not None:
            assert name not in line[command.end() :].replace(shlex.quote(name), "")


def test_an_alert_of_a_pool_of_hostile_names_can_be_copied() -> None:
    g = Guarded()
    record, host = g.pool.record, uuid(2)
    named = {**record.hosts, host: replace(record.hosts[host], name="h2;id")}
    tx = Transaction(replace(g.pool, record=replace(record, name="my pool", hosts=named)), g.now, g.site)
    assert told_words.to_quote(tx.pool) == {"my pool": "'my pool'", "h2;id": "'h2;id'"}
    words_ = {"name": tx.name(host), "minutes": "5"}
    tx.raise_alert(AlertTopic(Matter.DISABLED, host), hosts.DISABLED, "poolwarden readiness my pool", words_)
    (raised,) = [alert for alert in tx.alerts if isinstance(alert, AlertRaised)]
    assert "xe host-enable host='h2;id'" in raised.body and "poolwarden readiness 'my pool'" in raised.body
    assert "h2;id is disabled" in raised.title


def test_replies_to_operators_are_quoted_where_they_suggest_and_nowhere_else() -> None:
    names = to_quote([("a b", uuid(1))])
    reply = pb.CommandReply(accepted=False, text="a b is down", next_step="poolwarden confirm-fenced a b")
    assert as_typed(reply, names).next_step == "poolwarden confirm-fenced 'a b'" and reply.text == "a b is down"
    status = pb.PoolStatus(name="a b", hosts=[pb.HostStatus(name="a b", xapi_help="poolwarden restart-xapi a b")])
    status.not_ready.append("poolwarden readiness a b")
    as_typed(status, names)
    assert (status.name, status.hosts[0].name) == ("a b", "a b")
    assert status.hosts[0].xapi_help.endswith("'a b'") and status.not_ready[0].endswith("'a b'")
