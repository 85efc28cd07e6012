"""The reads of a batch, on an open connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from clew.store._sqlite import Connection
from clew.store.base import GetOp, Item, ListNamespacesOp, SearchItem
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
from clew.store.sqlite._rows import Found, encode_key, load_row
from clew.store.sqlite._vector_search import VectorQuery, rank

_NEWEST: Final = (float("inf"), 2**63 - 1)  # comes before every (updated_at, id)
_FIRST_PAGE: Final = 64
_PAGE_GROWTH: Final = 4

_Ranked = Iterator[tuple[Found, float | None]]


@dataclass(slots=True)
class Reads:
    """Runs the reads of one batch.

    An item is seen if it expires after `alive`. `to_refresh` collects the encoded places of items that were read and
    whose time to live is to start anew.
    """

    connection: Connection
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
        found = load_row(row)
        self._note(found, refreshes=op.refresh_ttl)
        return found.item()

    def _search(self, search: Search) -> list[SearchItem]:
        op = search.op
        if search.query is not None:
            ranked = self._ranked(search)
        elif search.accepts is None:
            # Without a filter SQLite can pass over the first items itself.
            page = self._page(op.namespace_prefix, _NEWEST, op.limit, op.offset)
            return self._search_items([(found, None) for found, _ in page], refreshes=op.refresh_ttl)
        else:
            ranked = ((found, None) for found in self._recent(op.namespace_prefix))
        accepts = search.accepts
        matching = (entry for entry in ranked if accepts is None or accepts(entry[0].value))
        window = islice(matching, op.offset, op.offset + op.limit)
        return self._search_items(list(window), refreshes=op.refresh_ttl)

    def _search_items(self, ranked: list[tuple[Found, float | None]], *, refreshes: bool) -> list[SearchItem]:
        for found, _ in ranked:
            self._note(found, refreshes=refreshes)
        return [found.search_item(score) for found, score in ranked]

    def _ranked(self, search: Search) -> _Ranked:
        assert search.query is not None
        low, high = namespace_range(search.op.namespace_prefix)
        window = search.op.offset + search.op.limit
        query = VectorQuery(self.vectors.queries[search.query], self.metric, low, high, self.alive, window)
        for item, score in rank(self.connection, query, has_extension=self.has_extension):
            yield load_row(self.connection.execute(_sql.GET_BY_ID, (item,)).fetchone()), score

    def _recent(self, prefix: Namespace) -> Iterator[Found]:
        """The items under a prefix, the last updated first, read page by page as far as they are wanted."""
        size, last = _FIRST_PAGE, _NEWEST
        while page := self._page(prefix, last, size, 0):
            yield from (found for found, _ in page)
            size, last = size * _PAGE_GROWTH, page[-1][1]

    def _page(
        self, prefix: Namespace, last: tuple[float, int], limit: int, offset: int
    ) -> list[tuple[Found, tuple[float, int]]]:
        low, high = namespace_range(prefix)
        parameters = {
            "low": low,
            "high": high,
            "alive": self.alive,
            "updated_at": last[0],
            "id": last[1],
            "limit": min(limit, 2**63 - 1),
            "offset": min(offset, 2**63 - 1),
        }
        rows = self.connection.execute(_sql.RECENT, parameters).fetchall()
        return [(load_row(row), (row[4], row[6])) for row in rows]

    def _list(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        low, high = namespace_range(literal_prefix(conditions))
        rows = self.connection.execute(_sql.NAMESPACES, {"low": low, "high": high, "alive": self.alive})
        matches = namespace_matcher(conditions)
        namespaces = filter(matches, (decode_namespace(ns) for (ns,) in rows))
        if op.max_depth is not None:
            namespaces = iter(dict.fromkeys(namespace[: op.max_depth] for namespace in namespaces))
        return list(islice(namespaces, op.offset, op.offset + op.limit))

    def _note(self, found: Found, *, refreshes: bool) -> None:
        if refreshes and found.ttl is not None:
            self.to_refresh.append((found.ns, found.encoded_key))
