"""A store in this process's memory, for tests and for work that need not outlive the process.

Invariants: what a caller puts in and what it gets out are copies, so later changes reach neither side; a batch is
atomic for other threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from clew.errors import SerializationError, StorageError
from clew.store._rows import encode_key
from clew.store._values import Values
from clew.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    TTLConfig,
)
from clew.store.base._index import NO_VECTORS, Index, Vectors
from clew.store.base._namespace import Namespace, encode_namespace, namespace_matcher
from clew.store.base._plan import Plan, Put, Results, Search, plan_batch
from clew.store.base._sweeper import Sweeper, sweep_interval
from clew.store.base._vector import scores

if TYPE_CHECKING:
    from clew.checkpoint.serde.encrypted import EncryptedSerializer
    from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
    from clew.serde import Codec

__all__ = ("InMemoryStore",)


@dataclass(slots=True)
class _Record:
    """One item as it is kept; times are seconds since 1970, `ttl` is minutes."""

    value: Any  # a dict; its encrypted bytes where there is a key
    created_at: float
    updated_at: float
    ttl: float | None
    expires_at: float | None
    vectors: tuple[bytes, ...]


_Place = tuple[Namespace, str, _Record]


class InMemoryStore(BaseStore):
    """A store that keeps its items in a dict.

    Any Python object may be part of a value, but with an `EncryptedSerializer` as `serde`: then values are kept
    encrypted, and hold what can be serialized. A search without a query gives items in the order in which their
    namespaces and keys were first put; with a query, items without a vector come last. `clock` gives seconds since
    1970. Thread-safe.
    """

    supports_ttl = True

    def __init__(
        self,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        serde: Codec | JsonPlusSerializer | EncryptedSerializer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.index_config = index
        self.ttl_config = ttl
        self._values = Values(serde)
        self._index = Index(index, self._values.keys) if index else None
        self._omits_expired = bool((ttl or {}).get("omit_expired", False))
        self._clock = clock
        self._records: dict[Namespace, dict[str, _Record]] = {}
        self._lock = threading.RLock()
        self._sweeper = Sweeper()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations; see `BaseStore.batch`."""
        plan = plan_batch(ops, self._index)
        vectors = self._index.embed(plan.texts()) if self._index else NO_VECTORS
        return self._run(plan, vectors)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations; only embedding waits."""
        plan = plan_batch(ops, self._index)
        vectors = await self._index.aembed(plan.texts()) if self._index else NO_VECTORS
        return self._run(plan, vectors)

    def reencrypt(self) -> int:
        """Rewrite the values that are not encrypted with the current key; gives how many.

        Nothing else of the items changes. Once it gives 0, and no process writes with an
        older key any more, older keys are needed no longer here.

        Raises:
            EncryptionError: There is no key, a value's key is not given, or one is not encrypted and that is refused.
        """
        with self._lock:
            changed = 0
            for namespace, key, record in self._under(()):
                new = self._values.rekeyed(encode_namespace(namespace), encode_key(key), record.value)
                if new is not None:
                    record.value = new
                    changed += 1
            return changed

    def sweep_ttl(self) -> int:
        """Delete the expired items; how many there were."""
        with self._lock:
            now = self._clock()
            expired = [place for place in self._under(()) if _is_expired(place[2], now)]
            for namespace, key, _ in expired:
                self._delete(namespace, key)
            return len(expired)

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep in a thread, every so many minutes (None: as configured, else 5), until stopped or dropped.

        Cancelling the future stops it. With neither an interval nor a `ttl` configuration nothing is started.
        """
        return self._sweeper.start(self.sweep_ttl, sweep_interval(self.ttl_config, sweep_interval_minutes))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper; whether it ended within `timeout` seconds (None: wait for the end)."""
        return self._sweeper.stop(timeout)

    def _run(self, plan: Plan, vectors: Vectors) -> list[Result]:
        values = [(put, self._saved(put.op)) for put in plan.puts.values()]  # all of them, before one is applied
        results = Results(plan.size)
        with self._lock:
            now = self._clock()
            for get, positions in plan.gets:
                results.set(positions, self._get(get, now))
            for search, positions in plan.searches:
                results.set(positions, self._search(search, vectors, now))
            for listing, positions in plan.listings:
                results.set(positions, self._list(listing, now))
            for put, value in values:
                self._put(put, value, vectors, now)
        return results.all()

    def _get(self, op: GetOp, now: float) -> Item | None:
        record = self._records.get(op.namespace, {}).get(op.key)
        if record is None or not self._is_visible(record, now):
            return None
        if op.refresh_ttl:
            _refresh(record, now)
        return Item(
            value=self._value(op.namespace, op.key, record),
            key=op.key,
            namespace=op.namespace,
            created_at=_datetime(record.created_at),
            updated_at=_datetime(record.updated_at),
        )

    def _search(self, search: Search, vectors: Vectors, now: float) -> list[SearchItem]:
        op, accepts = search.op, search.accepts
        places = (
            place
            for place in self._under(op.namespace_prefix)
            if self._is_visible(place[2], now) and (accepts is None or accepts(self._seen(place)))
        )
        ranked = ((place, None) for place in places) if search.query is None else self._ranked(search, places, vectors)
        found = list(islice(ranked, op.offset, op.offset + op.limit))
        if op.refresh_ttl:
            for (_, _, record), _ in found:
                _refresh(record, now)
        return [_search_item(place, self._value(*place), score) for place, score in found]

    def _ranked(
        self, search: Search, places: Iterable[_Place], vectors: Vectors
    ) -> Iterator[tuple[_Place, float | None]]:
        """The closest first, by the closest of each item's vectors; then those without a vector."""
        assert self._index is not None
        assert search.query is not None
        candidates = list(places)
        flat = [(position, vector) for position, place in enumerate(candidates) for vector in place[2].vectors]
        found = scores(vectors.queries[search.query], [vector for _, vector in flat], self._index.metric)
        best: dict[int, float] = {}
        for (position, _), score in zip(flat, found, strict=True):
            best[position] = max(score, best.get(position, score))
        for position in sorted(best, key=lambda position: -best[position]):
            yield candidates[position], best[position]
        yield from ((place, None) for position, place in enumerate(candidates) if position not in best)

    def _list(self, op: ListNamespacesOp, now: float) -> list[Namespace]:
        matches = namespace_matcher(op.match_conditions or ())
        found = {
            namespace if op.max_depth is None else namespace[: op.max_depth]
            for namespace, records in self._records.items()
            if matches(namespace) and any(self._is_visible(record, now) for record in records.values())
        }
        return sorted(found)[op.offset : op.offset + op.limit]

    def _put(self, put: Put, value: Any, vectors: Vectors, now: float) -> None:
        op = put.op
        if op.value is None:
            self._delete(op.namespace, op.key)
            return
        records = self._records.setdefault(op.namespace, {})
        before = records.get(op.key)
        records[op.key] = _Record(
            value=value,
            created_at=before.created_at if before else now,
            updated_at=now,
            ttl=op.ttl,
            expires_at=None if op.ttl is None else now + op.ttl * 60,
            vectors=tuple(vectors.documents[text] for _, text in put.texts),
        )

    def _saved(self, op: PutOp) -> Any:
        """A value as it is kept, nobody else's."""
        if self._values.keys is None:
            return _saved(op)
        try:
            return self._values.save(encode_namespace(op.namespace), encode_key(op.key), dict(op.value or {}))
        except SerializationError as error:
            error.add_note(f"in item {op.key!r} of namespace {op.namespace!r}")
            raise

    def _value(self, namespace: Namespace, key: str, record: _Record) -> Any:
        """A value as it is given, the caller's own."""
        if self._values.keys is None:
            return _copied(record.value)
        try:
            return self._values.load(encode_namespace(namespace), encode_key(key), record.value)
        except StorageError as error:
            error.add_note(f"in item {key!r} of namespace {namespace!r}")
            raise

    def _seen(self, place: _Place) -> Any:
        """A value to look at and not to give away."""
        return place[2].value if self._values.keys is None else self._value(*place)

    def _delete(self, namespace: Namespace, key: str) -> None:
        records = self._records.get(namespace, {})
        records.pop(key, None)
        if not records:
            self._records.pop(namespace, None)

    def _under(self, prefix: Namespace) -> Iterator[_Place]:
        for namespace, records in self._records.items():
            if namespace[: len(prefix)] == prefix:
                for key, record in records.items():
                    yield namespace, key, record

    def _is_visible(self, record: _Record, now: float) -> bool:
        return not (self._omits_expired and _is_expired(record, now))


def _is_expired(record: _Record, now: float) -> bool:
    return record.expires_at is not None and record.expires_at <= now


def _refresh(record: _Record, now: float) -> None:
    if record.ttl is not None:
        record.expires_at = now + record.ttl * 60


def _search_item(place: _Place, value: dict[str, Any], score: float | None) -> SearchItem:
    namespace, key, record = place
    return SearchItem(namespace, key, value, _datetime(record.created_at), _datetime(record.updated_at), score)


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _saved(op: PutOp) -> dict[str, Any]:
    try:
        return _copied(dict(op.value or {}))
    except RecursionError as error:
        raise SerializationError(
            f"the value of item {op.key!r} in {op.namespace!r} is nested too deeply, or contains itself"
        ) from error


def _copied(value: Any) -> Any:
    """A copy of plain dicts and lists, all the way down; anything else is shared, as it may not be copyable."""
    if type(value) is dict:
        return {name: _copied(member) for name, member in cast("dict[Any, Any]", value).items()}
    if type(value) is list:
        return [_copied(member) for member in cast("list[Any]", value)]
    return value
