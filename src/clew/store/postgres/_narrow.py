"""Filters as conditions that the server can check, so that it sends few values that a filter does not accept.

Invariants: a condition accepts every row whose value the filter accepts (which is then checked on the value itself);
its text is made of the fragments in this module only: names and operands are always bound parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from clew.store.postgres._fields import ANYTHING, is_plain_text, shown_scalar

_COMPARISONS: Final[Mapping[str, str]] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_MOST_PARTS: Final = 40  # of one condition; longer filters are not worth a plan of their own


class Condition(NamedTuple):
    """A condition on `fields`, each `?` in it standing for a parameter.

    `is_tight` says that few rows pass it that the filter does not accept.
    """

    sql: str
    params: tuple[str, ...]
    is_tight: bool


_TRUE: Final = Condition("true", (), False)
_ALL: Final = Condition("true", (), True)


def narrowed(filter: Mapping[str, Any] | None) -> Condition:
    """The condition for a filter that `compile_filter` has checked."""
    found = _fields(filter or {}, ())
    if found.sql == "true" or len(found.params) > _MOST_PARTS:
        return _ALL if not filter else _TRUE
    # As a case, since the server believes of the bare condition that next to nothing meets it, and plans for that.
    sql = f"case when fields is null or {found.sql} then true else false end"
    return Condition(sql, found.params, found.is_tight)


def _fields(filter: Mapping[str, Any], above: tuple[str, ...]) -> Condition:
    return _all([_field(name, condition, above) for name, condition in filter.items()])


def _field(name: str, condition: object, above: tuple[str, ...]) -> Condition:
    if name.startswith("$"):
        return _combined(name, condition, lambda part: _fields(part, above))
    paths = [(*above, *path) for path in _paths(name)]
    if not all(map(is_plain_text, name.split("."))) or not is_plain_text(name):
        return _TRUE
    return _any([_at(path, condition) for path in paths])


def _paths(name: str) -> list[tuple[str, ...]]:
    """Where a name may lead: to the field of that name, or along its dots."""
    head, dot, rest = name.partition(".")
    return [(name,), *((head, *path) for path in _paths(rest))] if dot else [(name,)]


def _at(path: tuple[str, ...], condition: object) -> Condition:
    """The condition on what is found at `path`, which accepts anything that is not shown there or above."""
    found = _found(path, condition)
    if found.sql == "true":
        return found
    hidden = [_is_hidden(path[:length]) for length in range(1, len(path))]
    return _any([found, *hidden]) if hidden else found


def _found(path: tuple[str, ...], condition: object) -> Condition:
    if isinstance(condition, Mapping):
        parts = cast("Mapping[Any, Any]", condition)
        if any(isinstance(name, str) and name.startswith("$") for name in parts):
            return _all([_operation(path, name, operand) for name, operand in parts.items()])
        inner = _fields(parts, path)
        return _any([_all([_exists(path, is_tight=True), inner]), _is_hidden(path)])
    if isinstance(condition, (list, tuple)):
        return _is_hidden(path)  # lists are not shown
    return _equals(path, [condition])


def _operation(path: tuple[str, ...], name: str, operand: Any) -> Condition:
    match name:
        case "$eq":
            return _equals(path, [operand])
        case "$in":
            return _equals(path, list(operand), or_missing=False)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _compares(path, _COMPARISONS[name], operand)
        case "$exists" if operand:
            return _exists(path, is_tight=True)
        case "$ne" | "$nin":
            return _exists(path)
        case "$and" | "$or":
            return _combined(name, operand, lambda part: _found(path, part))
        case _:
            return _TRUE


def _combined(name: str, operand: Any, narrow: Callable[[Any], Condition]) -> Condition:
    match name:
        case "$and":
            return _all([narrow(part) for part in operand])
        case "$or":
            return _any([narrow(part) for part in operand])
        case _:
            return _TRUE


def _equals(path: tuple[str, ...], choices: list[Any], *, or_missing: bool = True) -> Condition:
    """One of `choices` is there. An array on the server contains the scalars in it, and `[]` in any case."""
    if or_missing and choices == [None]:
        return _TRUE  # a missing field equals None
    shown = [shown_scalar(choice) for choice in choices]
    if any(isinstance(choice, dict) for choice in choices):
        return _exists(path)
    known = [choice for choice in shown if choice is not ANYTHING]
    operand = json.dumps(known, separators=(",", ":"))
    return Condition(f"?::text::jsonb @> ({_value(path)})", (operand, *path), len(known) == len(choices))


def _compares(path: tuple[str, ...], comparison: str, operand: Any) -> Condition:
    shown = shown_scalar(operand)
    if type(shown) not in (int, float):
        return _exists(path)  # texts have another order on the server
    bound = Condition(f"({_value(path)}) {comparison} ?::text::jsonb", (*path, json.dumps(shown)), True)
    return _any([bound, _is_hidden(path)])


def _exists(path: tuple[str, ...], *, is_tight: bool = False) -> Condition:
    return Condition(f"({_value(path)}) is not null", path, is_tight)


def _is_hidden(path: tuple[str, ...]) -> Condition:
    return Condition(f"({_value(path)}) = '[]'::jsonb", path, True)


def _value(path: tuple[str, ...]) -> str:
    return "fields" + " -> ?::text" * len(path)


def _all(parts: list[Condition]) -> Condition:
    useful = [part for part in parts if part.sql != "true"]
    return _joined(" and ", useful, is_tight=all(part.is_tight for part in parts)) if useful else _TRUE


def _any(parts: list[Condition]) -> Condition:
    if any(part.sql == "true" for part in parts):
        return _TRUE
    return _joined(" or ", parts, is_tight=all(part.is_tight for part in parts))


def _joined(word: str, parts: list[Condition], *, is_tight: bool) -> Condition:
    sql = word.join(part.sql for part in parts)
    params = tuple(param for part in parts for param in part.params)
    return Condition(f"({sql})" if len(parts) > 1 else sql, params, is_tight)
