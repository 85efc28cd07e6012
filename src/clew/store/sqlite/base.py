"""The SQLite store for sync callers, and for async ones too."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import Self, Unpack

from clew.store._connection import Connection, connect
from clew.store.base import IndexConfig
from clew.store.base._sweeper import Sweeper, sweep_interval
from clew.store.sqlite._engine import SqliteEngine, StoreOptions

__all__ = ("SqliteIndexConfig", "SqliteStore")

SqliteIndexConfig = IndexConfig


class SqliteStore(SqliteEngine):
    """A store in a SQLite file, which several threads and processes may use at once.

    Takes an open `sqlite3.Connection`, or use `from_conn_string`. Tables are made on first use, and their names begin
    with `store_`, so the file may hold a checkpointer's too. Async methods work in a thread of the store's own.

    A search without a query gives the last updated items first; with a query, only items that have a vector.
    """

    def __init__(self, conn: Connection, **options: Unpack[StoreOptions]) -> None:
        super().__init__(conn, **options)
        self._sweeper = Sweeper()

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str, **options: Unpack[StoreOptions]) -> Generator[Self]:
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
                store.close()

    def setup(self) -> None:
        """Make the tables, or bring them up to date; done on first use if it was not before.

        Raises:
            SchemaVersionError: The file was written by a newer clew.
            StorageError: The file is not a database, is read-only, or is busy for too long.
        """
        self._database.setup()

    def reencrypt(self) -> int:
        """Rewrite the values that are not encrypted with the current key; gives how many.

        Nothing else of the items changes. It works in small transactions. Once it gives 0, and no process writes with
        an older key any more, older keys are needed no longer here.

        Raises:
            EncryptionError: There is no key, a value's key is not given, or one is not encrypted and that is refused.
        """
        return self._reencrypt()

    def sweep_ttl(self) -> int:
        """Delete the expired items; how many there were."""
        return self._sweep()

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep in a thread, every so many minutes (None: as configured, else 5), until stopped or dropped.

        Cancelling the future stops it. With neither an interval nor a `ttl` configuration nothing is started.
        """
        return self._sweeper.start(self.sweep_ttl, sweep_interval(self.ttl_config, sweep_interval_minutes))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper; whether it ended within `timeout` seconds (None: wait for the end)."""
        return self._sweeper.stop(timeout)

    def close(self) -> None:
        """Stop the sweeper, finish what runs, and close the connection unless a caller opened it."""
        self.stop_ttl_sweeper()
        self._close()
