"""The PostgreSQL store for async callers; its sync methods work too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import psycopg

from clew.errors import StorageError
from clew.storage.postgres.connections import is_of_loop
from clew.store.base import Op, Result
from clew.store.base._index import NO_VECTORS
from clew.store.base._plan import plan_batch
from clew.store.base._sweeper import sweep_interval
from clew.store.base.batch import AsyncBatchedBaseStore
from clew.store.postgres._batch import Batch
from clew.store.postgres._config import PoolConfig, PoolOptions, PostgresIndexConfig, StoreOptions
from clew.store.postgres._database import AsyncDatabase, Database
from clew.store.postgres._engine import SWEEP_ROWS, ThreadedEngine
from clew.store.postgres._open import of_loop, opened, threaded
from clew.store.postgres._schema import Facts, setting_up

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

__all__ = ("AsyncPostgresStore", "PoolConfig", "PostgresIndexConfig")

T = TypeVar("T")

_logger = logging.getLogger("clew.store")


class AsyncPostgresStore(ThreadedEngine, AsyncBatchedBaseStore):
    """`PostgresStore` with async `setup` and sweeping, whose concurrent async operations share a round trip.

    Made by `from_conn_string`, or on a `psycopg.Connection` or `ConnectionPool`, it works in any event loop, and in
    several. On a `psycopg.AsyncConnection` or `AsyncConnectionPool` it works in the loop of that alone: elsewhere it
    raises a `StorageError`, but sync calls are answered from other threads while the loop runs.
    """

    def __init__(
        self,
        conn: psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any] | psycopg.Connection[Any] | ConnectionPool[Any],
        **options: Unpack[StoreOptions],
    ) -> None:
        self._bound: AsyncDatabase | None = None
        prepare = options.get("prepare", True)
        if is_of_loop(conn):
            self._bound = of_loop(conn, prepare=prepare)
        else:
            self._database = threaded(conn, prepare=prepare)
        self._begin(conn, options)

    def _begin(self, conn: Any, options: StoreOptions) -> None:
        ThreadedEngine.__init__(self, conn, **options)
        self._sweeper: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **options: Unpack[PoolOptions]) -> AsyncGenerator[Self]:
        """Open a store on a pool of its own, and close it at the end of the block.

        The options are those of `StoreOptions`, and `min_size`, `max_size` and `timeout` of `PoolConfig`.

        Raises:
            StorageError: The connection string cannot be read, or the database cannot be reached in time.
        """
        opening = opened(conn_string, options)
        pool, database, others = await asyncio.to_thread(opening.__enter__)
        try:
            store = cls._on_pool(pool, database, others)
            try:
                yield store
            finally:
                await store.aclose()
        finally:
            await asyncio.to_thread(opening.__exit__, None, None, None)

    @classmethod
    def _on_pool(cls, pool: Any, database: Database, options: StoreOptions) -> Self:
        store = cls.__new__(cls)
        store._bound = None
        store._database = database
        store._begin(pool, options)
        return store

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction; see `BaseStore.batch`.

        Raises:
            StorageError: The store belongs to an event loop, which this call would block, or which does not run.
        """
        if self._bound is None:
            return super().batch(ops)
        loop = self._loop
        if loop is None or not loop.is_running() or loop is _running_loop():
            raise StorageError(
                "a sync call of this store would wait for its event loop, which has to run it",
                hint="use the async method, or make the store with from_conn_string or on a ConnectionPool",
            )
        return asyncio.run_coroutine_threadsafe(self.abatch(ops), loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction, without blocking the event loop.

        Raises:
            StorageError: The store belongs to another event loop.
        """
        if self._bound is None:
            return await super().abatch(ops)
        database = self._at_home(self._bound)
        plan = plan_batch(ops, self._index)
        vectors = await self._index.aembed(plan.texts()) if self._index else NO_VECTORS
        return await self._arun_batch(database, self._prepare(plan, vectors))

    async def _arun(self, op: Op) -> Result:
        if self._bound is not None:
            self._at_home(self._bound)
        return await super()._arun(op)

    async def setup(self) -> None:
        """Make the tables, or bring them up to date; done on first use if it was not before."""
        if self._bound is None:
            await self._database.run_in_thread(self._setup)
        else:
            await self._asetup(self._at_home(self._bound))

    async def reencrypt(self) -> int:
        """Rewrite the values of this tenant that are not encrypted with the current key; gives how many.

        See `PostgresStore.reencrypt`."""
        if self._bound is None:
            return await self._database.run_in_thread(self._reencrypt)
        database, changed, after = self._at_home(self._bound), 0, (b"", b"")
        settings = self._settings(await self._afacts(database))
        while after is not None:
            count, after = await database.run(partial(self._reencrypt_script, after), settings)
            changed += count
        return changed

    async def sweep_ttl(self) -> int:
        """Delete the expired items of this tenant; how many there were."""
        if self._bound is None:
            return await self._database.run_in_thread(self._sweep)
        database, deleted = self._at_home(self._bound), 0
        settings = self._settings(await self._afacts(database))
        while True:
            count = await database.run(self._sweep_script, settings)
            deleted += count
            if count < SWEEP_ROWS:
                return deleted

    async def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> asyncio.Task[None]:
        """Sweep in a task, every so many minutes (None: as configured, else 5), until stopped.

        Cancelling the task stops it. With neither an interval nor a `ttl` configuration the task ends at once.
        """
        if self._sweeper is None or self._sweeper.done():
            interval = sweep_interval(self.ttl_config, sweep_interval_minutes)
            self._sweeper = asyncio.create_task(self._sweep_at(interval), name="clew-store-sweeper")
        return self._sweeper

    async def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper; whether it ended within `timeout` seconds (None: wait for the end)."""
        if self._sweeper is None:
            return True
        self._sweeper.cancel()
        done, _ = await asyncio.wait([self._sweeper], timeout=timeout)
        return bool(done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the sweeper, finish what runs, and close the connections unless a caller opened them."""
        await self.stop_ttl_sweeper()
        if self._bound is None:
            await asyncio.to_thread(self._close)

    def _part(self) -> None:
        self._sweeper = None
        self._part_queues()

    def _at_home(self, database: AsyncDatabase) -> AsyncDatabase:
        """The database, if this is the event loop of its connections (that which used it first)."""
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        if self._loop is not running:
            raise StorageError(
                "this store's connections belong to another event loop",
                hint="make the store with from_conn_string or on a ConnectionPool: that serves every loop",
            )
        return database

    async def _arun_batch(self, database: AsyncDatabase, prepared: Callable[[Facts], Batch]) -> list[Result]:
        facts = await self._afacts(database)
        batch, settings = prepared(facts), self._settings(facts)
        results = await database.run(lambda: batch.run(in_transaction=False), settings)
        if results is None:
            results = await database.run(lambda: batch.run(in_transaction=True), settings)
        assert results is not None, "a transaction answers every batch"
        return results

    async def _afacts(self, database: AsyncDatabase) -> Facts:
        return self._ready.facts or await self._asetup(database)

    async def _asetup(self, database: AsyncDatabase) -> Facts:
        steps = setting_up(self._wanted)
        try:
            script = next(steps)
            while True:
                try:
                    result = await database.run(script)
                except StorageError as error:
                    script = steps.throw(error)
                else:
                    script = steps.send(result)
        except StopIteration as stop:
            facts = self._ready.facts = stop.value
            return facts

    async def _sweep_at(self, interval: float | None) -> None:
        while interval is not None:
            await asyncio.sleep(interval)
            try:
                await self.sweep_ttl()
            except Exception:  # the next sweep may succeed; a sweeper that dies silently would fill the disk
                _logger.exception("sweeping expired items failed; trying again in %s seconds", interval)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
