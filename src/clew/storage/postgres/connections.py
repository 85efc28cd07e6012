"""Where connections come from: a pool of the saver's own, one that was given, or a single connection.

`take` gives a `Wire` to one caller, who gives it back; one that is dead or of no more use is not used again.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from clew.errors import StorageError
from clew.storage.postgres.wire import Wire

_CONNECTION_DEFAULTS: dict[str, Any] = {  # a server that is gone is noticed within seconds, not after hours
    "application_name": "clew",
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_NOW = 0.0005  # seconds: a pool that is asked for less does not even look
_RECONNECT_SECONDS = 2.0  # after which a pool's own patience ends; the caller's decides


class Source(Protocol):
    """Gives connections, one caller at a time each."""

    where: str
    has_settings: bool  # whether connections come with the saver's settings; if not, each transaction sets them

    def take(self, seconds: float) -> Wire:
        """A connection; raises psycopg's errors if there is none within `seconds`."""
        ...

    def take_now(self) -> Wire | None:
        """A connection, if one is free."""
        ...

    def give_back(self, wire: Wire) -> None:
        """Take a connection back, whatever state it is in."""
        ...

    def close(self) -> None:
        """Close what this opened."""
        ...


class PoolSource:
    """Connections of a `psycopg_pool.ConnectionPool`."""

    def __init__(self, pool: Any, *, where: str, prepare: bool, owns: bool, has_settings: bool) -> None:
        self.where = where
        self.has_settings = has_settings
        self._pool = pool
        self._prepare = prepare
        self._owns = owns

    def take(self, seconds: float) -> Wire:
        connection = self._pool.getconn(seconds)
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._pool.putconn(connection)
            raise psycopg.OperationalError("the pool gave a connection whose transaction is open")
        return Wire(connection, prepare=self._prepare)

    def take_now(self) -> Wire | None:
        try:
            return self.take(_NOW)
        except PoolTimeout:
            return None

    def give_back(self, wire: Wire) -> None:
        if not wire.is_idle:
            wire.connection.close()  # a pool replaces what comes back closed
        with contextlib.suppress(Exception):
            self._pool.putconn(wire.connection)

    def close(self) -> None:
        if self._owns:
            self._pool.close()


class ConnectionSource:
    """One connection that was given; callers wait for each other."""

    has_settings = False

    def __init__(self, connection: psycopg.Connection[Any], *, prepare: bool) -> None:
        self.where = where_is(connection.info.dsn)
        self._connection = connection
        self._prepare = prepare
        self._lock = threading.Lock()
        self._is_shared = False  # with a transaction of its owner's

    @property
    def is_in_transaction(self) -> bool:
        """Whether its owner has a transaction open."""
        return self._connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS

    def take_inside(self) -> Wire:
        """The connection, for statements that become part of its owner's transaction."""
        self._lock.acquire()
        self._is_shared = True
        return Wire(self._connection, prepare=False)

    def take(self, seconds: float) -> Wire:
        if not self._lock.acquire(timeout=max(seconds, 0.0)):
            raise psycopg.OperationalError("the connection stayed in use")
        return self._taken()

    def take_now(self) -> Wire | None:
        return self._taken() if self._lock.acquire(blocking=False) else None

    def _taken(self) -> Wire:
        try:
            if self._connection.closed:
                raise StorageError(
                    f"the connection to {self.where} that the saver was given is closed",
                    hint="give it a ConnectionPool, or use from_conn_string: those reconnect",
                )
            if self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                raise StorageError(
                    f"the connection to {self.where} has a transaction open that is not the saver's",
                    hint="commit it before the saver is used, or open the connection with autocommit=True",
                )
        except BaseException:
            self._lock.release()
            raise
        return Wire(self._connection, prepare=self._prepare)

    def give_back(self, wire: Wire) -> None:
        try:
            if not wire.is_idle and not wire.is_dead and not self._is_shared:
                wire.connection.pgconn.exec_(b"rollback")
        finally:
            self._is_shared = False
            self._lock.release()

    def close(self) -> None:
        pass


def open_pool(conninfo: str, *, min_size: int, max_size: int, settings: dict[str, str], is_direct: bool) -> PoolSource:
    """A pool of the saver's own. `settings` hold for every connection if the server is reached directly (`is_direct`);
    behind a proxy a session's settings could be another client's."""

    def configure(connection: psycopg.Connection[Any]) -> None:
        if is_direct:
            values = [text for pair in settings.items() for text in pair]
            connection.execute(f"select {', '.join(['set_config(%s, %s, false)'] * len(settings))}".encode(), values)

    pool: Any = ConnectionPool(
        with_defaults(conninfo),
        min_size=min_size,
        max_size=max_size,
        open=False,
        configure=configure if settings else None,
        reconnect_timeout=_RECONNECT_SECONDS,
        kwargs={"autocommit": True},
        name="clew",
    )
    pool.open()
    return PoolSource(pool, where=where_is(conninfo), prepare=is_direct, owns=True, has_settings=is_direct)


def with_defaults(conninfo: str) -> str:
    """A connection string with settings that notice a lost server in time; what it says itself stays."""
    return make_conninfo("", **(_CONNECTION_DEFAULTS | conninfo_to_dict(conninfo)))


def where_is(conninfo: str) -> str:
    """A database's name for messages, without its password."""
    parts = conninfo_to_dict(conninfo)
    host, port = parts.get("host") or parts.get("hostaddr") or "localhost", parts.get("port")
    return f"database {parts.get('dbname') or parts.get('user') or 'postgres'!r} on {host}{f':{port}' if port else ''}"
