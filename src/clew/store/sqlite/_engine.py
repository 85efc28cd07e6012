"""What both faces of the SQLite store do: run a checked batch against the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from clew.store._connection import BUSY_TIMEOUT, Connection
from clew.store._sqlite import Database, Synchronous
from clew.store._values import Values
from clew.store.base import BaseStore, IndexConfig, Op, Result, TTLConfig
from clew.store.base._index import NO_VECTORS, Index, Vectors
from clew.store.base._plan import Plan, Results, plan_batch
from clew.store.sqlite import _sql
from clew.store.sqlite._reads import Reads
from clew.store.sqlite._vector_search import load_extension
from clew.store.sqlite._writes import Write, encode_put, refresh

if TYPE_CHECKING:
    from clew.checkpoint.serde.encrypted import EncryptedSerializer
    from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
    from clew.serde import Codec

_ALWAYS: Final = float("-inf")  # every item expires after this
_REENCRYPTED_ROWS: Final = 256  # per transaction
_SWEEP_ROWS: Final = 1000  # per transaction, so that other writers get their turn


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch ready to run: nothing in it belongs to the caller any more."""

    plan: Plan
    writes: list[Write]
    vectors: Vectors
    now: float


class StoreOptions(TypedDict, total=False):
    """What a SQLite store can be told when it is opened."""

    index: IndexConfig | None
    """How items are embedded for search by meaning; None: they are not."""
    ttl: TTLConfig | None
    """How long items live."""
    serde: Codec | JsonPlusSerializer | EncryptedSerializer | None
    """What encodes values, and with an `EncryptedSerializer` encrypts them, each for its own item."""
    clock: Callable[[], float]
    """Gives seconds since 1970 (default `time.time`)."""
    busy_timeout: float
    """How many seconds a write waits for another process that writes (default 30)."""
    synchronous: Synchronous
    """With "FULL" (default) a put that returned survives power loss. "NORMAL" is faster; the last puts before a power
    loss may then be gone, and the file stays whole."""


class SqliteEngine(BaseStore):
    """Batches on one SQLite file; `clew.store.sqlite` has the classes to use."""

    supports_ttl = True

    def __init__(self, conn: Connection, **options: Unpack[StoreOptions]) -> None:
        super().__init__()
        self.conn = conn
        self.index_config = options.get("index")
        self.ttl_config = options.get("ttl")
        self._values = Values(options.get("serde"))
        self._index = Index(self.index_config, self._values.keys) if self.index_config else None
        self._omits_expired = bool((self.ttl_config or {}).get("omit_expired", False))
        self._clock = options.get("clock", time.time)
        self._database = Database(
            conn,
            _sql.SCHEMA,
            busy_timeout=options.get("busy_timeout", BUSY_TIMEOUT),
            synchronous=options.get("synchronous", "FULL"),
        )
        self._has_extension: bool | None = None  # not tried yet

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction; see `BaseStore.batch`."""
        plan = plan_batch(ops, self._index)
        vectors = self._index.embed(plan.texts()) if self._index else NO_VECTORS
        return self._run(self._prepare(plan, vectors))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction, in the store's own thread."""
        plan = plan_batch(ops, self._index)
        vectors = await self._index.aembed(plan.texts()) if self._index else NO_VECTORS
        return await self._database.run(self._run, self._prepare(plan, vectors))

    def _prepare(self, plan: Plan, vectors: Vectors) -> _Batch:
        now = self._clock()
        return _Batch(plan, [encode_put(put, now, vectors, self._values) for put in plan.puts.values()], vectors, now)

    def _run(self, batch: _Batch) -> list[Result]:
        results = Results(batch.plan.size)
        with self._transaction(batch.plan, batch.writes) as connection:
            reads = self._reads(connection, batch)
            reads.run(batch.plan, results)
            if batch.writes:
                refresh(connection, reads.to_refresh, batch.now)
            for write in batch.writes:
                write.run(connection)
        if reads.to_refresh and not batch.writes:
            with self._database.write() as connection:
                refresh(connection, reads.to_refresh, batch.now)
        return results.all()

    def _transaction(self, plan: Plan, writes: list[Write]) -> AbstractContextManager[Connection]:
        """The smallest transaction that holds the batch."""
        if plan.is_one_statement and all(write.is_one_statement for write in writes):
            return self._database.statement(writes=bool(writes))
        return self._database.write() if writes else self._database.read()

    def _reads(self, connection: Connection, batch: _Batch) -> Reads:
        alive = batch.now if self._omits_expired else _ALWAYS
        if batch.vectors.queries and self._has_extension is None:
            self._has_extension = load_extension(connection)
        metric = self._index.metric if self._index else "cosine"
        return Reads(connection, self._values, alive, batch.vectors, metric, bool(self._has_extension))

    def _sweep(self) -> int:
        now, deleted = self._clock(), 0
        while True:
            with self._database.write() as connection:
                connection.execute(_sql.SWEEP, (now, _SWEEP_ROWS))
                count: int = connection.execute(_sql.CHANGES).fetchone()[0]
            deleted += count
            if count < _SWEEP_ROWS:
                return deleted

    def _reencrypt(self) -> int:
        last = changed = 0
        while True:
            with self._database.write() as connection:
                rows = connection.execute(_sql.VALUES, (last, _REENCRYPTED_ROWS)).fetchall()
                for item, ns, key, stored in rows:
                    new = self._values.rekeyed(ns, key, stored)
                    if new is None:
                        continue
                    vectors = connection.execute(_sql.ALL_VECTORS_OF_ITEM, (item,)).fetchall()
                    connection.execute(_sql.REPLACE_VALUE, (new, item))
                    for (vector,) in vectors:
                        connection.execute(_sql.PUT_VECTOR, (item, vector))
                    changed += 1
            if len(rows) < _REENCRYPTED_ROWS:
                return changed
            last = rows[-1][0]

    def _close(self) -> None:
        self._database.close()
