"""What both faces of the SQLite store do: run a checked batch against the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

from clew.store._sqlite import BUSY_TIMEOUT, Connection, Database, Synchronous
from clew.store.base import BaseStore, IndexConfig, Op, Result, TTLConfig
from clew.store.base._index import NO_VECTORS, Index, Vectors
from clew.store.base._plan import Plan, Results, plan_batch
from clew.store.sqlite import _sql
from clew.store.sqlite._reads import Reads
from clew.store.sqlite._vector_search import load_extension
from clew.store.sqlite._writes import Write, encode_put, refresh

_ALWAYS: Final = float("-inf")  # every item expires after this
_SWEEP_ROWS: Final = 1000  # per transaction, so that other writers get their turn


class SqliteEngine(BaseStore):
    """Batches on one SQLite file; `clew.store.sqlite` has the classes to use.

    `clock` gives seconds since 1970; `busy_timeout` bounds the wait for another process that writes; `synchronous`
    is "FULL" (a put survives power loss) or "NORMAL" (faster; the last puts before a power loss may be gone, the file
    stays whole).
    """

    supports_ttl = True

    def __init__(
        self,
        conn: Connection,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        clock: Callable[[], float] = time.time,
        busy_timeout: float = BUSY_TIMEOUT,
        synchronous: Synchronous = "FULL",
    ) -> None:
        super().__init__()
        self.conn = conn
        self.index_config = index
        self.ttl_config = ttl
        self._index = Index(index) if index else None
        self._omits_expired = bool((ttl or {}).get("omit_expired", False))
        self._clock = clock
        self._database = Database(conn, _sql.SCHEMA, busy_timeout=busy_timeout, synchronous=synchronous)
        self._has_extension: bool | None = None  # not tried yet

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction; see `BaseStore.batch`."""
        plan = plan_batch(ops, self._index)
        vectors = self._index.embed(plan.texts()) if self._index else NO_VECTORS
        return self._run(plan, vectors)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction, in the store's own thread."""
        plan = plan_batch(ops, self._index)
        vectors = await self._index.aembed(plan.texts()) if self._index else NO_VECTORS
        return await self._database.run(self._run, plan, vectors)

    def _run(self, plan: Plan, vectors: Vectors) -> list[Result]:
        now = self._clock()
        writes = [encode_put(put, now, vectors) for put in plan.puts.values()]
        results = Results(plan.size)
        with self._transaction(plan, writes) as connection:
            reads = self._reads(connection, vectors, now)
            reads.run(plan, results)
            if writes:
                refresh(connection, reads.to_refresh, now)
            for write in writes:
                write.run(connection)
        if reads.to_refresh and not writes:
            with self._database.write() as connection:
                refresh(connection, reads.to_refresh, now)
        return results.all()

    def _transaction(self, plan: Plan, writes: list[Write]) -> AbstractContextManager[Connection]:
        """The smallest transaction that holds the batch."""
        if plan.is_one_statement and all(write.is_one_statement for write in writes):
            return self._database.statement()
        return self._database.write() if writes else self._database.read()

    def _reads(self, connection: Connection, vectors: Vectors, now: float) -> Reads:
        alive = now if self._omits_expired else _ALWAYS
        if vectors.queries and self._has_extension is None:
            self._has_extension = load_extension(connection)
        metric = self._index.metric if self._index else "cosine"
        return Reads(connection, alive, vectors, metric, bool(self._has_extension))

    def _sweep(self) -> int:
        now, deleted = self._clock(), 0
        while True:
            with self._database.write() as connection:
                connection.execute(_sql.SWEEP, (now, _SWEEP_ROWS))
                count: int = connection.execute(_sql.CHANGES).fetchone()[0]
            deleted += count
            if count < _SWEEP_ROWS:
                return deleted

    def _close(self) -> None:
        self._database.close()
