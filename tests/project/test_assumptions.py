"""The table of assumptions: its ids and words, and the page that is made from it."""

import re
import subprocess
import sys

from poolwarden import assumptions as table

from .tree import ROOT


def test_the_page_is_what_the_table_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "packaging/develop/assumptions")], check=True, capture_output=True, text=True
    )
    assert (ROOT / "docs/verify-on-real-hosts.md").read_text() == made.stdout, "make runbook"


def test_ids_are_stable_words_and_sentences_are_short() -> None:
    ids = [each.id for each in table.TABLE]
    assert len(set(ids)) == len(ids) == len(table.BY_ID)
    assert [each for each in ids if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each)] == []
    assert [each.id for each in table.TABLE if len(each.sentence) > 109 or not each.sentence.endswith(".")] == []
    assert [each.id for each in table.TABLE if not each.source or each.how not in ("static", "passive", "drill")] == []


def test_a_failure_of_what_is_only_shown_restricts_nothing() -> None:
    """A wrong "fails" beside a probe, a footprint or a guard must not cost anybody a promotion."""
    assert set(table.RESTRICTED) < set(table.CAPABILITIES)
    free = {"dmi-readable", "dmi-own", "ipmi-device", "agent-memory", "python", "icmp-socket", "var-log", "wall-clock"}
    restricted = {each.id for each in table.TABLE if set(each.rests) & set(table.RESTRICTED)}
    assert not free & restricted
