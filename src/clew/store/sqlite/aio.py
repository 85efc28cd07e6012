"""The SQLite store for async callers; its sync methods work too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from typing import Self, Unpack

from clew.store._connection import Connection, connect
from clew.store.base._sweeper import sweep_interval
from clew.store.base.batch import AsyncBatchedBaseStore
from clew.store.sqlite._engine import SqliteEngine, StoreOptions

__all__ = ("AsyncSqliteStore",)

_logger = logging.getLogger("clew.store")


class AsyncSqliteStore(SqliteEngine, AsyncBatchedBaseStore):
    """`SqliteStore` with async `setup` and sweeping, whose concurrent async operations share a transaction.

    It may be made and used in any event loop, and in several.
    """

    def __init__(self, conn: Connection, **options: Unpack[StoreOptions]) -> None:
        super().__init__(conn, **options)
        self._sweeper: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **options: Unpack[StoreOptions]) -> AsyncGenerator[Self]:
        """Open a store on a path, ":memory:" or a "file:" URI, and close it at the end of the block.

        The options are those of `StoreOptions`.

        Raises:
            StorageError: The file cannot be opened.
        """
        with closing(connect(conn_string)) as connection:
            store = cls(connection, **options)
            try:
                yield store
            finally:
                await store.aclose()

    async def setup(self) -> None:
        """Make the tables, or bring them up to date; done on first use if it was not before."""
        await self._database.run(self._database.setup)

    async def reencrypt(self) -> int:
        """Rewrite the values that are not encrypted with the current key; see `SqliteStore.reencrypt`."""
        return await self._database.run(self._reencrypt)

    async def sweep_ttl(self) -> int:
        """Delete the expired items; how many there were."""
        return await self._database.run(self._sweep)

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
        """Stop the sweeper, finish what runs, and close the connection unless a caller opened it."""
        await self.stop_ttl_sweeper()
        await asyncio.to_thread(self._close)

    async def _sweep_at(self, interval: float | None) -> None:
        while interval is not None:
            await asyncio.sleep(interval)
            try:
                await self.sweep_ttl()
            except Exception:  # the next sweep may succeed; a sweeper that dies silently would fill the disk
                _logger.exception("sweeping expired items failed; trying again in %s seconds", interval)
