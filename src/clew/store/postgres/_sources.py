"""Where connections come from: a pool or a single connection, blocking or of an event loop.

`take` gives a `Wire` to one caller, who gives it back, whatever state it is in. A single connection may be inside a
transaction of its owner: then what the store does is part of that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol, cast

import psycopg

from clew.errors import StorageError, StorageTimeoutError, StorageUnavailableError
from clew.storage.postgres.connections import refuse_pipe, where_is, with_defaults
from clew.storage.postgres.wire import Wire

_DEFAULT_THREADS = 8


class Source(Protocol):
    """Gives connections to threads."""

    where: str
    threads: int

    def take(self, seconds: float) -> Wire:
        """A connection, waited for at most so long."""
        ...

    def give_back(self, wire: Wire) -> None:
        """Take it back."""
        ...

    def renew(self) -> None:
        """Look for connections that were lost, after one of them was."""
        ...

    def close(self) -> None:
        """Close what was opened here."""
        ...


class PoolSource:
    """A `psycopg_pool.ConnectionPool`."""

    def __init__(self, pool: Any, *, prepare: bool, is_owned: bool = False) -> None:
        self.where = _pool_is(pool)
        self.threads: int = pool.max_size or _DEFAULT_THREADS
        self.pool = pool
        self._prepare = prepare
        self._is_owned = is_owned

    def take(self, seconds: float) -> Wire:
        return Wire(self.pool.getconn(seconds), prepare=self._prepare)

    def give_back(self, wire: Wire) -> None:
        if not wire.is_idle:
            cast("psycopg.Connection[Any]", wire.connection).close()  # a pool replaces what comes back closed
        self.pool.putconn(wire.connection)

    def renew(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.pool.check()

    def close(self) -> None:
        if self._is_owned:
            self.pool.close()


class ConnectionSource:
    """One connection that was given; callers wait for each other."""

    threads = 1

    def __init__(self, connection: psycopg.Connection[Any], *, prepare: bool) -> None:
        self.where = where_is(connection.info.dsn)
        self._connection = connection
        self._prepare = prepare
        self._lock = connection.lock  # psycopg's own: whoever else uses the connection waits, too

    def take(self, seconds: float) -> Wire:
        if not self._lock.acquire(timeout=max(seconds, 0.0)):
            raise _stayed_in_use(self.where)
        if self._connection.closed:
            self._lock.release()
            raise _closed(self.where)
        _check_plain(self._connection, self._lock)
        return Wire(self._connection, prepare=self._prepare)

    def give_back(self, wire: Wire) -> None:
        self._lock.release()

    def renew(self) -> None:
        pass

    def close(self) -> None:
        pass


class AsyncSource(Protocol):
    """Gives connections to the tasks of one event loop."""

    where: str

    async def take(self, seconds: float) -> Wire:
        """A connection, waited for at most so long."""
        ...

    async def give_back(self, wire: Wire) -> None:
        """Take it back."""
        ...

    async def renew(self) -> None:
        """Look for connections that were lost, after one of them was."""
        ...


class AsyncPoolSource:
    """A `psycopg_pool.AsyncConnectionPool`."""

    def __init__(self, pool: Any, *, prepare: bool) -> None:
        self.where = _pool_is(pool)
        self._pool = pool
        self._prepare = prepare

    async def take(self, seconds: float) -> Wire:
        return Wire(await self._pool.getconn(seconds), prepare=self._prepare)

    async def give_back(self, wire: Wire) -> None:
        if not wire.is_idle:
            await cast("psycopg.AsyncConnection[Any]", wire.connection).close()
        await self._pool.putconn(wire.connection)

    async def renew(self) -> None:
        with contextlib.suppress(psycopg.Error):
            await self._pool.check()


class AsyncConnectionSource:
    """One connection of an event loop that was given; tasks wait for each other."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], *, prepare: bool) -> None:
        self.where = where_is(connection.info.dsn)
        self._connection = connection
        self._prepare = prepare
        self._lock = connection.lock

    async def take(self, seconds: float) -> Wire:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._lock.acquire()
        except TimeoutError as error:
            raise _stayed_in_use(self.where) from error
        if self._connection.closed:
            self._lock.release()
            raise _closed(self.where)
        _check_plain(self._connection, self._lock)
        return Wire(self._connection, prepare=self._prepare)

    async def give_back(self, wire: Wire) -> None:
        self._lock.release()

    async def renew(self) -> None:
        pass


def _check_plain(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], lock: Any) -> None:
    try:
        refuse_pipe(connection.pgconn.pipeline_status or None, "store")
    except StorageError:
        lock.release()
        raise


def _closed(where: str) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"the connection to {where} that the store was given is closed",
        hint="give it a pool, or use from_conn_string: those reconnect",
    )


def _stayed_in_use(where: str) -> StorageTimeoutError:
    return StorageTimeoutError(f"the connection to {where} stayed in use", hint="give the store a pool")


def open_pool(
    conninfo: str, *, min_size: int, max_size: int | None, timeout: float, kwargs: dict[str, Any], prepare: bool
) -> PoolSource:
    """A pool of the store's own.

    Raises psycopg's errors if the connection string cannot be read, or nobody answers within `timeout` seconds.
    """
    from psycopg_pool import ConnectionPool  # late: a store on a connection needs no pool

    pool: Any = ConnectionPool(
        with_defaults(conninfo),
        min_size=min_size,
        max_size=max_size or max(_DEFAULT_THREADS, min_size),
        timeout=timeout,
        open=False,
        kwargs={"autocommit": True, **kwargs},
        name="clew-store",
    )
    try:
        pool.open(wait=True, timeout=timeout)
    except BaseException:
        pool.close()
        raise
    return PoolSource(pool, prepare=prepare, is_owned=True)


def _pool_is(pool: Any) -> str:
    """A pool's database, for messages; its connection string may be made anew for each connection."""
    conninfo = getattr(pool, "conninfo", None)
    return where_is(conninfo) if isinstance(conninfo, str) else "the database"
