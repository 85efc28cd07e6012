"""The PostgreSQL store for sync callers, and for async ones too."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack

import psycopg

from clew.store.base._sweeper import Sweeper, sweep_interval
from clew.store.postgres._config import (
    ANNIndexConfig,
    HNSWConfig,
    IVFFlatConfig,
    PoolConfig,
    PoolOptions,
    PostgresIndexConfig,
    StoreOptions,
)
from clew.store.postgres._engine import ThreadedEngine
from clew.store.postgres._open import opened, threaded

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

__all__ = (
    "ANNIndexConfig",
    "HNSWConfig",
    "IVFFlatConfig",
    "PoolConfig",
    "PostgresIndexConfig",
    "PostgresStore",
)


class PostgresStore(ThreadedEngine):
    """A store in a PostgreSQL database, which any number of threads and processes may use at once.

    Takes an open `psycopg.Connection` or a `psycopg_pool.ConnectionPool`, whatever their row factory and autocommit, or
    use `from_conn_string`. Tables are made on first use, and their names begin with `clew_store_`. Async methods work
    in threads of the store's own, on any event loop. Inside a transaction of a connection's owner the store's work is
    part of that transaction.

    A search without a query gives the last updated items first; with a query, only items that have a vector.
    """

    def __init__(self, conn: psycopg.Connection[Any] | ConnectionPool[Any], **options: Unpack[StoreOptions]) -> None:
        super().__init__(conn, **options)
        self._database = threaded(conn, prepare=options.get("prepare", True))
        self._sweeper = Sweeper()

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str, **options: Unpack[PoolOptions]) -> Generator[Self]:
        """Open a store on a pool of its own, and close it at the end of the block.

        The options are those of `StoreOptions`, and `min_size`, `max_size` and `timeout` of `PoolConfig`.

        Raises:
            StorageError: The connection string cannot be read, or the database cannot be reached in time.
        """
        with opened(conn_string, options) as (pool, database, others):
            store = cls.__new__(cls)
            super(PostgresStore, store).__init__(pool, **others)
            store._database = database
            store._sweeper = Sweeper()
            try:
                yield store
            finally:
                store.close()

    def setup(self) -> None:
        """Make the tables, or bring them up to date; done on first use if it was not before.

        Raises:
            SchemaVersionError: The tables were changed by a newer clew.
            StoreConfigError: The index needs pgvector, and the server does not have it or does not let this role.
            StorageError: The database cannot be reached, or the role has no right to make tables.
        """
        self._setup()

    def reencrypt(self) -> int:
        """Rewrite the values of this tenant that are not encrypted with the current key; gives how many.

        Nothing else of the items changes. It works in small transactions. Once it gives 0, and no process writes with
        an older key any more, older keys are needed no longer here.

        Raises:
            EncryptionError: There is no key, a value's key is not given, or one is not encrypted and that is refused.
        """
        return self._reencrypt()

    def sweep_ttl(self) -> int:
        """Delete the expired items of this tenant; how many there were."""
        return self._sweep()

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep in a thread, every so many minutes (None: as configured, else 5), until stopped or dropped.

        Cancelling the future stops it. With neither an interval nor a `ttl` configuration nothing is started. Several
        processes may sweep at once.
        """
        return self._sweeper.start(self.sweep_ttl, sweep_interval(self.ttl_config, sweep_interval_minutes))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper; whether it ended within `timeout` seconds (None: wait for the end)."""
        return self._sweeper.stop(timeout)

    def close(self) -> None:
        """Stop the sweeper, finish what runs, and close the connections unless a caller opened them."""
        self.stop_ttl_sweeper()
        self._close()

    def _part(self) -> None:
        self._sweeper = Sweeper()
