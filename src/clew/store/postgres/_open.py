"""Databases from what a user gives: a connection string, a pool, or a connection."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg

from clew.errors import StorageError
from clew.storage.postgres.connections import refuse_loops, where_is
from clew.storage.postgres.faults import typed
from clew.store.postgres._config import PoolOptions, StoreOptions
from clew.store.postgres._database import PATIENCE, AsyncDatabase, Database
from clew.store.postgres._sources import (
    AsyncConnectionSource,
    AsyncPoolSource,
    ConnectionSource,
    PoolSource,
    open_pool,
)

_SHOULD_BE = "give a psycopg Connection or ConnectionPool, or use from_conn_string"


def threaded(conn: Any, *, prepare: bool) -> Database:
    """A database on a connection or pool that any thread may use.

    Raises:
        StorageError: It is something else.
    """
    if isinstance(conn, psycopg.Connection):
        return Database(ConnectionSource(conn, prepare=prepare))  # pyright: ignore[reportUnknownArgumentType]
    refuse_loops(conn, "AsyncPostgresStore")
    if hasattr(conn, "getconn"):
        return Database(PoolSource(conn, prepare=prepare))
    raise StorageError(f"a store cannot be made on a {type(conn).__name__}", hint=_SHOULD_BE)


def of_loop(conn: Any, *, prepare: bool) -> AsyncDatabase:
    """A database on a connection or pool of an event loop."""
    if isinstance(conn, psycopg.AsyncConnection):
        return AsyncDatabase(AsyncConnectionSource(conn, prepare=prepare))  # pyright: ignore[reportUnknownArgumentType]
    return AsyncDatabase(AsyncPoolSource(conn, prepare=prepare))


@contextmanager
def opened(conn_string: str, options: PoolOptions) -> Generator[tuple[Any, Database, StoreOptions]]:
    """A pool of the store's own, the database on it, and the options that are not the pool's.

    Raises:
        StorageError: The connection string cannot be read, or the database cannot be reached in time.
    """
    pool: dict[str, Any] = {"min_size": 1, "max_size": None, "timeout": PATIENCE, "kwargs": {}}
    others: dict[str, Any] = dict(options)
    others.pop("pipeline", None)
    pool |= others.pop("pool_config", None) or {}
    pool |= {name: others.pop(name) for name in ("min_size", "max_size", "timeout") if name in others}
    source = _reached(conn_string, pool, prepare=options.get("prepare", True))
    database = Database(source, patience=pool["timeout"])
    try:
        yield source.pool, database, StoreOptions(**others)
    finally:
        database.close()


def _reached(conn_string: str, pool: dict[str, Any], *, prepare: bool) -> PoolSource:
    try:
        return open_pool(conn_string, **pool, prepare=prepare)
    except psycopg.Error as error:
        raise typed(error, where_is(conn_string), seconds=pool["timeout"]) from error
