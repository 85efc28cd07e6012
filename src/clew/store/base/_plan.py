"""A batch, checked and sorted by kind, before anything is read or written.

Invariants: every operation is checked before the first one runs; equal reads run once and their result goes to every
position; of several puts of one item the last wins. A backend runs the reads of a plan before its puts, so reads see
the store as it was before the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, assert_never, cast

from clew.errors import SerializationError
from clew.store.base._filter import Predicate, compile_filter
from clew.store.base._index import Index, Texts
from clew.store.base._namespace import Namespace, validate_labels, validate_namespace
from clew.store.base._op import GetOp, InvalidOpError, ListNamespacesOp, Op, PutOp, Result, SearchOp

_MOST: Final = 2**62  # a database can hold two of these in one of its numbers


@dataclass(frozen=True, slots=True)
class Put:
    """A put and the texts of its value to embed, each with its path."""

    op: PutOp
    texts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Search:
    """A search with its filter compiled; `query` is None unless items are to be ranked."""

    op: SearchOp
    accepts: Predicate | None
    query: str | None


@dataclass(slots=True)
class Plan:
    """The operations of one batch by kind, each with the positions its result goes to."""

    gets: list[tuple[GetOp, list[int]]] = field(default_factory=list[tuple[GetOp, list[int]]])
    searches: list[tuple[Search, list[int]]] = field(default_factory=list[tuple[Search, list[int]]])
    listings: list[tuple[ListNamespacesOp, list[int]]] = field(default_factory=list[tuple[ListNamespacesOp, list[int]]])
    puts: dict[tuple[Namespace, str], Put] = field(default_factory=dict[tuple[Namespace, str], Put])
    size: int = 0

    @property
    def is_one_statement(self) -> bool:
        """Whether it is nothing but a single get or a single put."""
        return len(self.gets) + len(self.puts) == 1 and not self.searches and not self.listings

    def texts(self) -> Texts:
        """The distinct texts to embed."""
        documents = {text: None for put in self.puts.values() for _, text in put.texts}
        queries = {search.query: None for search, _ in self.searches if search.query is not None}
        return Texts(tuple(documents), tuple(queries))


class Results:
    """The results of a batch, filled in by a backend."""

    def __init__(self, size: int) -> None:
        self._results: list[Result] = [None] * size

    def set(self, positions: list[int], result: Result) -> None:
        """Give the result of one operation to all its positions; each has a list of its own."""
        for position in positions:
            self._results[position] = cast("Result", list(result)) if isinstance(result, list) else result

    def all(self) -> list[Result]:
        """One result per operation, in the order of the batch."""
        return self._results


def plan_batch(ops: Iterable[Op], index: Index | None) -> Plan:
    """Check the operations and sort them by kind.

    Raises:
        InvalidNamespaceError: A namespace is not allowed.
        InvalidOpError: An operation is malformed.
        SerializationError: A value is not a mapping.
    """
    plan = Plan()
    seen: dict[object, list[int]] = {}
    for position, op in enumerate(ops):
        plan.size += 1
        match op:
            case GetOp():
                get = _get(op)
                _add(plan.gets, seen, get, get, position)
            case SearchOp():
                search = _search(op, index)
                _add(plan.searches, seen, search, search.op, position)
            case PutOp():
                put = _put(op)
                plan.puts[put.namespace, put.key] = Put(put, index.texts(put) if index else [])
            case ListNamespacesOp():
                listing = _listing(op)
                _add(plan.listings, seen, listing, listing, position)
            case _:  # pyright: ignore[reportUnnecessaryComparison] - what callers pass is not always typed
                raise InvalidOpError(
                    f"operation {position} of a batch is of type {type(op).__name__}",
                    hint="a batch holds GetOp, SearchOp, PutOp and ListNamespacesOp",
                )
    return plan


def op_identity(op: Op) -> object:
    """What two operations of one batch have in common if and only if running one of them is enough."""
    match op:
        case SearchOp():
            # A filter is not hashable, and {"n": 1} equals {"n": True} although they find different items: only
            # searches with the very same filter object, or none, count as equal.
            return op._replace(filter=None), id(op.filter) if op.filter else None
        case PutOp():
            return PutOp, op.namespace, op.key
        case _:
            return op


def _add(
    group: list[tuple[Any, list[int]]], seen: dict[object, list[int]], op: Any, identity: Op, position: int
) -> None:
    positions = seen.setdefault((type(identity), op_identity(identity)), [])
    if not positions:
        group.append((op, positions))
    positions.append(position)


def _get(op: GetOp) -> GetOp:
    namespace = validate_labels(op.namespace)
    if namespace is op.namespace and type(op.key) is str:
        return op
    return op._replace(namespace=namespace, key=str(op.key))


def _search(op: SearchOp, index: Index | None) -> Search:
    _check_window(op.limit, op.offset)
    if op.query is not None and not isinstance(op.query, str):  # pyright: ignore[reportUnnecessaryIsInstance] - user data
        raise InvalidOpError(f"the query of a search is of type {type(op.query).__name__}", hint="give a string")
    checked = op._replace(namespace_prefix=validate_labels(op.namespace_prefix))
    return Search(checked, compile_filter(op.filter), op.query if index and op.query else None)


def _listing(op: ListNamespacesOp) -> ListNamespacesOp:
    _check_window(op.limit, op.offset)
    if op.max_depth is not None:
        _check_count("max_depth", op.max_depth)
    conditions = tuple(op.match_conditions or ())
    for condition in conditions:
        if condition.match_type not in ("prefix", "suffix"):
            raise InvalidOpError(
                f"the match type {condition.match_type!r} of a namespace condition is unknown",
                hint="match types are 'prefix' and 'suffix'",
            )
    checked = tuple(condition._replace(path=validate_labels(condition.path)) for condition in conditions)
    return op._replace(match_conditions=checked)


def _put(op: PutOp) -> PutOp:
    if op.value is None:
        return op._replace(namespace=validate_labels(op.namespace), key=str(op.key))
    namespace = validate_namespace(op.namespace)
    if not hasattr(op.value, "keys"):
        raise SerializationError(
            f"the value of item {op.key!r} in {namespace!r} is of type {type(op.value).__name__}, not a dict",
            hint="wrap it, as in {'value': ...}",
        )
    if op.ttl is not None and not _is_duration(op.ttl):
        raise InvalidOpError(
            f"the ttl of item {op.key!r} in {namespace!r} is {op.ttl!r}", hint="give minutes, 0 or more, or None"
        )
    if namespace is op.namespace and type(op.key) is str:
        return op
    return op._replace(namespace=namespace, key=str(op.key))


def _is_duration(minutes: object) -> bool:
    return (
        isinstance(minutes, (int, float)) and not isinstance(minutes, bool) and math.isfinite(minutes) and minutes >= 0
    )


def _check_window(limit: object, offset: object) -> None:
    _check_count("limit", limit)
    _check_count("offset", offset)


def _check_count(name: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST:
        raise InvalidOpError(f"the {name} of an operation is {count!r}", hint="give a whole number, 0 or more")


def validate_op_namespace(op: Op) -> None:
    """Check the namespace labels of an operation.

    Raises:
        InvalidNamespaceError: A label is not a string, is empty, or holds a period or a NUL character.
    """
    match op:
        case GetOp() | PutOp():
            validate_labels(op.namespace)
        case SearchOp():
            validate_labels(op.namespace_prefix)
        case ListNamespacesOp():
            for condition in op.match_conditions or ():
                validate_labels(condition.path)
        case _:
            assert_never(op)
