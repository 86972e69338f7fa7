"""The expressions of ``get_all_where`` and ``get_all_records_where``: ``field "host" = "OpaqueRef:..." and not ...``.

A value is a literal in double quotes, which holds no such quote, or ``field`` and a name in them: the name of a
*column*, so ``name__label`` and not ``name_label``. ``=`` is all there is to compare with. ``and`` and ``or`` bind
alike and from the left; ``not`` reaches as far as it can. Source: xapi ocaml/database/db_filter_lex.mll,
db_filter_parse.mly, db_filter.ml, ocaml/xapi/exnHelper.ml (INVALID_VALUE).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from poolwarden_lab.xapi.actions import XapiFault

Lookup = Callable[[str], str]  # the text of a column
Test = Callable[[Lookup], bool]
_TOKEN = re.compile(r'[ \t\n]*(?:(?P<word>=|\(|\)|true|false|field|and|or|not)|"(?P<text>[^"]*)"|(?P<end>$))')
_TEXT = "text"
_END = "end"
_NOT_AN_EXPRESSION = "Stdlib.Parsing.Parse_error"


def parse(expression: str) -> Test:
    """What tells of a row whether the expression holds. Raises XapiFault INVALID_VALUE."""
    try:
        return _Parser(expression).whole()
    except (_NotAnExpression, RecursionError):
        raise XapiFault("INVALID_VALUE", expression, _NOT_AN_EXPRESSION) from None


class _NotAnExpression(Exception):
    pass


class _Parser:
    def __init__(self, expression: str) -> None:
        self._tokens = _tokens(expression)
        self._at = 0

    def whole(self) -> Test:
        test = self._expression()
        self._take(_END)
        return test

    def _expression(self) -> Test:
        left = self._one()
        while self._next() in ("and", "or"):
            left = _joined(self._take(self._next()) == "and", left, self._one())
        return left

    def _one(self) -> Test:
        word = self._next()
        if word in ("true", "false"):
            self._take(word)
            return lambda _: word == "true"
        if word == "not":
            self._take(word)
            inner = self._expression()
            return lambda lookup: not inner(lookup)
        if word == "(":
            self._take(word)
            inner = self._expression()
            self._take(")")
            return inner
        left = self._value()
        self._take("=")
        right = self._value()
        return lambda lookup: left(lookup) == right(lookup)

    def _value(self) -> Callable[[Lookup], str]:
        if self._next() == "field":
            self._take("field")
            column = self._take(_TEXT)
            return lambda lookup: lookup(column)
        text = self._take(_TEXT)
        return lambda _: text

    def _next(self) -> str:
        return self._tokens[self._at][0]

    def _take(self, kind: str) -> str:
        found, text = self._tokens[self._at]
        if found != kind:
            raise _NotAnExpression
        self._at += 1
        return text


def _joined(both: bool, left: Test, right: Test) -> Test:
    if both:
        return lambda lookup: left(lookup) and right(lookup)
    return lambda lookup: left(lookup) or right(lookup)


def _tokens(expression: str) -> list[tuple[str, str]]:
    """Kind and text of each; a word's kind is the word itself. Raises _NotAnExpression."""
    found: list[tuple[str, str]] = []
    at = 0
    while True:
        match = _TOKEN.match(expression, at)
        if match is None:
            raise _NotAnExpression
        at = match.end()
        if match["end"] is not None:
            return [*found, (_END, "")]
        found.append((match["word"], match["word"]) if match["word"] else (_TEXT, match["text"]))
