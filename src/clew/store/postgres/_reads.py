"""The reads of a batch, as generators that yield statements and are sent their rows.

Each says in its first statement what is wanted in most cases; a search whose filter let too little through asks for
more, which makes sense only in the same snapshot.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

from clew.storage.postgres.wire import Call
from clew.storage.query import Row
from clew.store._rows import Found, encode_key, load_row
from clew.store._values import Values
from clew.store.base import GetOp, ListNamespacesOp, SearchItem, SearchOp
from clew.store.base._filter import Predicate
from clew.store.base._namespace import (
    Namespace,
    decode_namespace,
    encode_namespace,
    literal_prefix,
    namespace_matcher,
    namespace_range,
)
from clew.store.base._plan import Plan, Results, Search
from clew.store.base._vector import Metric
from clew.store.postgres._narrow import Condition, narrowed
from clew.store.postgres._sql import Statements
from clew.store.postgres._vector_sql import VectorStatements

T = TypeVar("T")
Read = Generator[Call, list[Row], T]

_PAGE: Final = 256  # rows, where the server cannot tell well which ones a filter accepts
_PAGE_GROWTH: Final = 8
_LARGEST_PAGE: Final = 16384
_MOST: Final = 2**62  # rows that can be asked for
_DIGITS: Final = 6  # of a score: pgvector computes in single precision
_NOTHING: Final = Condition("true", (), True)


@dataclass(slots=True)
class Reads:
    """Runs the reads of one batch of one tenant.

    `to_refresh` collects the encoded places of items that were read and whose time to live is to start anew.
    """

    statements: Statements
    vectors: VectorStatements | None
    tenant: str
    values: Values
    now: float | None
    queries: dict[str, str]
    """The vector of each query, as text."""
    to_refresh: dict[tuple[bytes, bytes], None] = field(default_factory=dict[tuple[bytes, bytes], None])

    def all(self, plan: Plan, results: Results) -> list[Read[None]]:
        """Every read of a plan, each of which fills in its results."""
        reads: list[Read[None]] = []
        if plan.gets:
            reads.append(self._get(plan.gets, results))
        reads += [self._search(search, positions, results) for search, positions in plan.searches]
        reads += [self._list(listing, positions, results) for listing, positions in plan.listings]
        return reads

    def settings(self, plan: Plan) -> list[Call]:
        """What the transaction of the reads needs to be told."""
        counts = [search.op.offset + search.op.limit for search, _ in plan.searches if search.query is not None]
        return self.vectors.settings(max(counts)) if self.vectors is not None and counts else []

    def _get(self, gets: Sequence[tuple[GetOp, list[int]]], results: Results) -> Read[None]:
        places = [(encode_namespace(op.namespace), encode_key(op.key)) for op, _ in gets]
        if len(places) == 1:
            rows = yield Call(self.statements.get, (self.tenant, self.now, *places[0]))
        else:
            nss, keys = [ns for ns, _ in places], [key for _, key in places]
            rows = yield Call(self.statements.get_many, (self.tenant, self.now, nss, keys))
        by_place = {(row[0], row[1]): row for row in rows}
        for (op, positions), place in zip(gets, places, strict=True):
            row = by_place.get(place)
            if row is not None:
                found = load_row(row, self.values)
                self._note(found, refreshes=op.refresh_ttl)
                results.set(positions, found.item())

    def _search(self, search: Search, positions: list[int], results: Results) -> Read[None]:
        op = search.op
        ranked = self._ranked(search) if search.query is not None and self.vectors is not None else None
        window = yield from (ranked or self._recent(search))
        for row, _ in window:
            self._note(row, refreshes=op.refresh_ttl)
        items: list[SearchItem] = [row.search_item(score) for row, score in window]
        results.set(positions, items)

    def _recent(self, search: Search) -> Read[list[tuple[Found, float | None]]]:
        """The window of a search, the last updated first."""
        op, accepts = search.op, search.accepts
        condition = narrowed(op.filter) if accepts is not None else _NOTHING
        sql = self.statements.recent(_numbered(condition, 8))
        if accepts is None:
            rows = yield Call(sql, self._range(op, op.limit, op.offset))
            return [(load_row(row, self.values), None) for row in rows]
        accepted: list[tuple[Found, float | None]] = []
        wanted, passed = min(op.offset + op.limit, _MOST), 0
        size = wanted if condition.is_tight and self.values.keys is None else max(wanted, _PAGE)
        while True:
            rows = yield Call(sql, (*self._range(op, size, passed), *condition.params))
            loaded = (load_row(row, self.values) for row in rows)
            accepted += [(row, None) for row in loaded if accepts(row.value)]
            if len(accepted) >= wanted or len(rows) < size:
                return accepted[op.offset : wanted]
            passed, size = passed + size, max(wanted, min(max(size, _PAGE) * _PAGE_GROWTH, _LARGEST_PAGE))

    def _ranked(self, search: Search) -> Read[list[tuple[Found, float | None]]]:
        """The window of a search, the closest first; an item is as close as the closest of its vectors."""
        assert self.vectors is not None
        assert search.query is not None
        op, vector, metric = search.op, self.queries[search.query], self.vectors.index.metric
        condition = narrowed(op.filter) if search.accepts is not None else _NOTHING
        low, high = namespace_range(op.namespace_prefix)
        wanted = min(op.offset + op.limit, _MOST)
        size = min(2 * wanted + 1, _MOST)
        sql = self.vectors.nearest(_numbered(condition, 7))
        rows = yield Call(sql, (self.tenant, self.now, low, high, size, vector, *condition.params))
        accepted = self._closest([row for row in rows if row[0] is not None], search.accepts, metric, wanted)
        is_whole = rows[0][7] < size and rows[0][7] == sum(row[6] is not None for row in rows)
        while len(accepted) < wanted and not is_whole:
            size = min(size * _PAGE_GROWTH, _MOST)
            sql = self.vectors.search(_numbered(condition, 7))
            rows = yield Call(sql, (self.tenant, self.now, low, high, size, vector, *condition.params))
            accepted = self._closest(rows, search.accepts, metric, wanted)
            is_whole = len(rows) < size
        return accepted[op.offset :]

    def _closest(
        self, rows: list[Row], accepts: Predicate | None, metric: Metric, wanted: int
    ) -> list[tuple[Found, float | None]]:
        """The first items of rows that a filter accepts, the closest first."""
        found = ((load_row(row, self.values), _score(row[6], metric)) for row in _closest(rows))
        return list(islice((pair for pair in found if accepts is None or accepts(pair[0].value)), wanted))

    def _list(self, op: ListNamespacesOp, positions: list[int], results: Results) -> Read[None]:
        conditions = op.match_conditions or ()
        low, high = namespace_range(literal_prefix(conditions))
        rows = yield Call(self.statements.namespaces, (self.tenant, self.now, low, high))
        matches = namespace_matcher(conditions)
        namespaces: Iterator[Namespace] = filter(matches, (decode_namespace(ns) for (ns,) in rows))
        if op.max_depth is not None:
            namespaces = iter(dict.fromkeys(namespace[: op.max_depth] for namespace in namespaces))
        results.set(positions, list(islice(namespaces, op.offset, op.offset + op.limit)))

    def _range(self, op: SearchOp, limit: int, offset: int) -> tuple[Any, ...]:
        window = (limit, offset, min(limit + offset, _MOST))
        return (self.tenant, self.now, *namespace_range(op.namespace_prefix), *window)

    def _note(self, found: Found, *, refreshes: bool) -> None:
        if refreshes and found.ttl is not None:
            self.to_refresh[found.ns, found.encoded_key] = None


def _closest(rows: list[Row]) -> list[Row]:
    """Of each item the row of its closest vector, the closest first."""
    best: dict[tuple[bytes, bytes], Row] = {}
    for row in sorted(rows, key=lambda row: (row[6] != row[6], row[6])):  # a distance that is not a number comes last
        best.setdefault((row[0], row[1]), row)
    return list(best.values())


def _score(distance: float, metric: Metric) -> float:
    if distance != distance:
        return 0.0  # the cosine of a vector without a length
    return round(1 - distance if metric == "cosine" else -distance, _DIGITS) + 0.0


def _numbered(condition: Condition, first: int) -> str:
    """The text of a condition, its parameters numbered from `first` on."""
    parts = condition.sql.split("?")
    return parts[0] + "".join(f"${first + place}{part}" for place, part in enumerate(parts[1:]))
