"""Filters on stored values, as one predicate that every backend uses.

Invariants: the operators are a closed set, a filter is checked in full before anything is read, and no part of it
ever becomes part of a query's text. Evaluating a filter never raises, whatever the values hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from clew.store.base._op import InvalidOpError

Predicate = Callable[[Any], bool]

OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$and", "$or", "$not")
_MAX_DEPTH: Final = 32
_ORDER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_PLAINLY_ORDERED: Final = frozenset({int, float, str})


class _Missing:
    """The type of the value of a field that an item does not have."""


_MISSING: Final = _Missing()


def compile_filter(filter: Mapping[str, Any] | None) -> Predicate | None:
    """A function that tells whether a value meets `filter`; None when everything does.

    Raises:
        InvalidOpError: An operator is unknown or its operand is of the wrong kind.
    """
    if not filter:
        return None
    return _fields(filter, 0)


def _fields(filter: object, depth: int) -> Predicate:
    """A predicate on dicts: every field named by the filter meets its condition."""
    if depth > _MAX_DEPTH:
        raise InvalidOpError(f"a filter is nested more than {_MAX_DEPTH} levels deep", hint="flatten the filter")
    if not isinstance(filter, Mapping):
        raise InvalidOpError(
            f"a filter is of type {type(filter).__name__}, not a dict",
            hint="write {'field': value} or {'field': {'$gt': 1}}",
        )
    return _all([_field(name, condition, depth) for name, condition in cast("Mapping[object, object]", filter).items()])


def _all(tests: list[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]  # by far the most common case, and evaluated for every item of a search

    def test(value: Any) -> bool:
        for part in tests:  # noqa: SIM110 - a generator would cost more than most parts
            if not part(value):
                return False
        return True

    return test


def _field(name: object, condition: object, depth: int) -> Predicate:
    if not isinstance(name, str):
        raise InvalidOpError(
            f"a filter names the field {name!r}, which is not a string", hint="field names are strings"
        )
    if name.startswith("$"):
        return _combined(name, condition, lambda part: _fields(part, depth + 1))
    test = _condition(condition, depth + 1)
    if "." in name:
        return lambda value: test(_lookup(value, name))
    return lambda value: test(value.get(name, _MISSING) if type(value) is dict else _lookup(value, name))  # pyright: ignore[reportUnknownMemberType] - user data


def _condition(condition: object, depth: int) -> Predicate:
    """A predicate on what was found in a field, which may be `_MISSING`."""
    if depth > _MAX_DEPTH:
        raise InvalidOpError(f"a filter is nested more than {_MAX_DEPTH} levels deep", hint="flatten the filter")
    if isinstance(condition, Mapping):
        parts = cast("Mapping[object, object]", condition)
        if any(isinstance(name, str) and name.startswith("$") for name in parts):
            return _all([_operation(name, operand, depth) for name, operand in parts.items()])
        inner = _fields(parts, depth + 1)
        return lambda found: isinstance(found, Mapping) and inner(found)
    if isinstance(condition, (list, tuple)):
        return _elements([_condition(part, depth + 1) for part in cast("list[object]", condition)])
    return lambda found: _equal(None if found is _MISSING else found, condition)


def _elements(tests: list[Predicate]) -> Predicate:
    def test(found: Any) -> bool:
        if not isinstance(found, (list, tuple)):
            return False
        elements = cast("list[Any]", found)
        return len(elements) == len(tests) and all(map(lambda part, element: part(element), tests, elements))

    return test


def _operation(name: object, operand: Any, depth: int) -> Predicate:
    if not isinstance(name, str) or not name.startswith("$"):
        raise InvalidOpError(
            f"a filter mixes operators with the field {name!r}", hint="put the field into a dict of its own"
        )
    match name:
        case "$eq":
            return lambda found: _equal(None if found is _MISSING else found, operand)
        case "$ne":
            return lambda found: found is not _MISSING and not _equal(found, operand)
        case "$gt" | "$gte" | "$lt" | "$lte":
            compare = _ORDER[name]
            return lambda found: _ordered(compare, found, operand)
        case "$in" | "$nin":
            choices = _choices(name, operand)
            return lambda found: found is not _MISSING and _is_one_of(found, choices) == (name == "$in")
        case "$exists":
            if not isinstance(operand, bool):
                raise InvalidOpError(f"the operand of $exists is {operand!r}", hint="give True or False")
            return lambda found: (found is not _MISSING) == operand
        case _:
            return _combined(name, operand, lambda part: _condition(part, depth + 1))


def _combined(name: str, operand: object, compiled: Callable[[object], Predicate]) -> Predicate:
    """`$and`, `$or` and `$not`, over whole filters or over the conditions of one field."""
    if name == "$not":
        test = compiled(operand)
        return lambda found: not test(found)
    if name not in ("$and", "$or"):
        raise InvalidOpError(f"unknown filter operator {name!r}", hint=f"the operators are {' '.join(OPERATORS)}")
    if not isinstance(operand, (list, tuple)) or not operand:
        raise InvalidOpError(f"the operand of {name} is {operand!r}", hint="give a list of at least one filter")
    tests = [compiled(part) for part in cast("list[object]", operand)]
    if name == "$and":
        return _all(tests)
    return lambda found: any(test(found) for test in tests)


def _choices(name: str, operand: object) -> list[Any]:
    if isinstance(operand, (list, tuple, set, frozenset)):
        return list(cast("list[Any]", operand))
    raise InvalidOpError(f"the operand of {name} is {operand!r}", hint="give a list of values")


def _lookup(value: Any, name: str) -> Any:
    """The field `name` itself or, if there is none, what its dotted path leads to."""
    if not isinstance(value, Mapping):
        return _MISSING
    fields = cast("Mapping[str, Any]", value)
    if name in fields or "." not in name:
        return fields.get(name, _MISSING)
    head, _, rest = name.partition(".")
    return _lookup(fields.get(head), rest)


def _equal(left: Any, right: Any) -> bool:
    """Equality as in JSON: True is not 1, and values that cannot be compared are not equal."""
    if type(left) is str and type(right) is str:
        return left == right
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    try:
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            return _equal_fields(cast("Mapping[Any, Any]", left), cast("Mapping[Any, Any]", right))
        if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            ours, theirs = cast("list[Any]", left), cast("list[Any]", right)
            return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
        return bool(left == right)
    except Exception:  # whatever a user's __eq__ raises (numpy's arrays do): not equal
        return False


def _equal_fields(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> bool:
    return left.keys() == right.keys() and all(_equal(left[name], right[name]) for name in left)


def _is_one_of(found: Any, choices: list[Any]) -> bool:
    return any(_equal(found, choice) for choice in choices)


def _ordered(compare: Callable[[Any, Any], Any], found: Any, operand: Any) -> bool:
    if type(found) is type(operand) and type(found) in _PLAINLY_ORDERED:
        return compare(found, operand)
    if found is _MISSING or isinstance(found, bool) is not isinstance(operand, bool):
        return False
    try:
        return bool(compare(found, operand))
    except Exception:  # values of different types have no order; a user's comparison may raise anything
        return False
