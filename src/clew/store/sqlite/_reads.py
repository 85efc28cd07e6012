"""The reads of a batch, on an open connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from clew.errors import StorageError
from clew.store._connection import Connection
from clew.store._rows import Found, encode_key, load_row
from clew.store._values import Values
from clew.store.base import GetOp, Item, ListNamespacesOp, SearchItem, SearchOp
from clew.store.base._filter import Predicate
from clew.store.base._index import Vectors
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
from clew.store.sqlite import _sql
from clew.store.sqlite._vector_search import VectorQuery, rank

_NEWEST: Final = (float("inf"), 2**63 - 1)  # comes before every (updated_at, id)
_FIRST_PAGE: Final = 256
_PAGE_GROWTH: Final = 8
_LARGEST_PAGE: Final = 16384


@dataclass(slots=True)
class Reads:
    """Runs the reads of one batch.

    An item is seen if it expires after `alive`. `to_refresh` collects the encoded places of items that were read and
    whose time to live is to start anew.
    """

    connection: Connection
    values: Values
    alive: float
    vectors: Vectors
    metric: Metric
    has_extension: bool
    to_refresh: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])

    def run(self, plan: Plan, results: Results) -> None:
        """Run all of them and fill in the results."""
        for get, positions in plan.gets:
            results.set(positions, self._get(get))
        for search, positions in plan.searches:
            results.set(positions, self._search(search))
        for listing, positions in plan.listings:
            results.set(positions, self._list(listing))

    def _get(self, op: GetOp) -> Item | None:
        place = (encode_namespace(op.namespace), encode_key(op.key), self.alive)
        row = self.connection.execute(_sql.GET, place).fetchone()
        if row is None:
            return None
        found = load_row(row, self.values)
        self._note(found, refreshes=op.refresh_ttl)
        return found.item()

    def _search(self, search: Search) -> list[SearchItem]:
        op = search.op
        window = slice(op.offset, op.offset + op.limit)
        if search.query is not None:
            found = list(islice(self._ranked(search), window.start, window.stop))
        elif search.accepts is not None:
            rows = islice(self._accepted(op.namespace_prefix, search.accepts), window.start, window.stop)
            found = [(row, None) for row in rows]
        else:
            found = [(row, None) for row in self._recent(op)]
        for row, _ in found:
            self._note(row, refreshes=op.refresh_ttl)
        return [row.search_item(score) for row, score in found]

    def _ranked(self, search: Search) -> Iterator[tuple[Found, float]]:
        """The items that the filter accepts, the closest to the query first."""
        assert search.query is not None
        op, accepts = search.op, search.accepts
        low, high = namespace_range(op.namespace_prefix)
        vector = self.vectors.queries[search.query]
        query = VectorQuery(vector, self.metric, low, high, self.alive, op.offset + op.limit)
        for item, score in rank(self.connection, query, has_extension=self.has_extension):
            found = self._row(item)
            if accepts is None or accepts(found.value):
                yield found, score

    def _recent(self, op: SearchOp) -> list[Found]:
        """A window of the items under a prefix, the last updated first."""
        parameters = {**self._range(op.namespace_prefix), "limit": op.limit, "offset": op.offset}
        return [load_row(row, self.values) for row in self.connection.execute(_sql.RECENT, parameters)]

    def _accepted(self, prefix: Namespace, accepts: Predicate) -> Iterator[Found]:
        """The items under a prefix that a filter accepts, the last updated first.

        Values are read page by page, as far as items are wanted; each page scans the index again, so pages grow.
        """
        size, last = _FIRST_PAGE, _NEWEST
        while True:
            parameters = {**self._range(prefix), "updated_at": last[0], "id": last[1], "limit": size}
            rows = self.connection.execute(_sql.RECENT_VALUES, parameters).fetchall()
            for item, ns, key, stored, _ in rows:
                if accepts(self._value(item, ns, key, stored)):
                    yield self._row(item)
            if len(rows) < size:
                return
            size, last = min(size * _PAGE_GROWTH, _LARGEST_PAGE), (rows[-1][4], rows[-1][0])

    def _value(self, item: int, ns: bytes, key: bytes, stored: bytes) -> Any:
        try:
            return self.values.load(ns, key, stored)
        except StorageError:
            return self._row(item).value  # raises again, and says which item it is

    def _row(self, item: int) -> Found:
        return load_row(self.connection.execute(_sql.GET_BY_ID, (item,)).fetchone(), self.values)

    def _range(self, prefix: Namespace) -> dict[str, Any]:
        low, high = namespace_range(prefix)
        return {"low": low, "high": high, "alive": self.alive}

    def _list(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        rows = self.connection.execute(_sql.NAMESPACES, self._range(literal_prefix(conditions)))
        matches = namespace_matcher(conditions)
        namespaces = filter(matches, (decode_namespace(ns) for (ns,) in rows))
        if op.max_depth is not None:
            namespaces = iter(dict.fromkeys(namespace[: op.max_depth] for namespace in namespaces))
        return list(islice(namespaces, op.offset, op.offset + op.limit))

    def _note(self, found: Found, *, refreshes: bool) -> None:
        if refreshes and found.ttl is not None:
            self.to_refresh.append((found.ns, found.encoded_key))
