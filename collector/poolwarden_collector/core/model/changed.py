"""A frozen value with some of its fields changed: ``dataclasses.replace`` in a third of its time.

Each report and each step makes some of these, of values with up to fifty fields, most of which stay as they are.
``replace`` asks of every field anew what kind of field it is, and hands all of them to ``__init__``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Form(NamedTuple):
    """How a class keeps its fields: all of them read at once, and what sets each, past the class's being frozen."""

    read: Callable[[Any], tuple[Any, ...]]
    setters: tuple[Callable[[Any, Any], None], ...]
    by_name: dict[str, Callable[[Any, Any], None]]


_forms: dict[type, _Form | None] = {}  # None: a class that is more than its slots


def changed(value: T, /, **changes: Any) -> T:
    """The same value, of a frozen dataclass, with these fields. Raises KeyError or TypeError for one it does not have.

    mypy does not hold the fields against the class here: for values that are made now and then, use ``replace``.
    """
    kind = type(value)
    try:
        form = _forms[kind]
    except KeyError:
        form = _forms[kind] = _form_of(kind)
    if form is None:
        return replace(value, **changes)  # type: ignore[type-var]
    new: T = object.__new__(kind)
    for put, part in zip(form.setters, form.read(value), strict=True):
        put(new, part)
    for name, part in changes.items():
        form.by_name[name](new, part)
    return new


def _form_of(kind: type) -> _Form | None:
    names = tuple(item.name for item in fields(kind))
    if len(names) < 2 or hasattr(kind, "__post_init__") or not all(name in kind.__dict__ for name in names):
        return None
    setters = {name: kind.__dict__[name].__set__ for name in names}
    return _Form(attrgetter(*names), tuple(setters.values()), setters)
