"""Where connections come from: a pool of the saver's own, one that was given, or a single connection.

`take` gives a `Wire` to one caller, who gives it back; one that is dead or of no more use is not used again.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from clew.errors import StorageError
from clew.storage.postgres.faults import NoneFreeError, NotLetInError, is_refusal, typed
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
_FIRST_LOOK, _NEXT_LOOK = 0.1, 1.0  # seconds of waiting for a connection after which the pool is asked why


class Source(Protocol):
    """Gives connections, one caller at a time each."""

    where: str
    has_settings: bool  # whether connections come with the saver's settings; if not, each transaction sets them
    lent: Counter[int]  # how many connections the scripts of an event loop hold, by its thread

    def take(self, seconds: float) -> Wire:
        """A connection; raises psycopg's errors if there is none within `seconds`."""
        ...

    def take_now(self) -> Wire | None:
        """A connection, if one is free."""
        ...

    def give_back(self, wire: Wire) -> None:
        """Take a connection back, whatever state it is in."""
        ...

    def discard(self, wire: Wire) -> None:
        """Take a connection back that is of no use: where there are others, it is closed."""
        ...

    def close(self) -> None:
        """Close what this opened."""
        ...


class PoolSource:
    """Connections of a `psycopg_pool.ConnectionPool`."""

    def __init__(
        self,
        pool: Any,
        *,
        where: str,
        prepare: bool,
        has_settings: bool,
        connect: Callable[[], psycopg.Connection[Any]],
        attempts: Attempts | None = None,
    ) -> None:
        """`connect` makes a connection as the pool does. `attempts`, of a pool of the saver's own, knows why it could
        not."""
        self.where = where
        self.has_settings = has_settings
        self.lent: Counter[int] = Counter()
        self._pool = pool
        self._prepare = prepare
        self._connect = connect
        self._attempts = attempts
        self._errors = failed_connects(pool)
        self._extra: set[Any] = set()

    def take(self, seconds: float) -> Wire:
        if self.lent[threading.get_ident()]:
            # This blocks an event loop whose own scripts hold connections: waiting for one of those has no end.
            return self.take_now() or self._take_extra()
        return self._checked(self._getconn(seconds))

    def _take_extra(self) -> Wire:
        connection = self._connect()
        self._extra.add(connection)
        return Wire(connection, prepare=self._prepare)

    def _checked(self, connection: Any) -> Wire:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._pool.putconn(connection)
            raise psycopg.OperationalError("the pool gave a connection whose transaction is open")
        return Wire(connection, prepare=self._prepare)

    def take_now(self) -> Wire | None:
        try:
            return self._checked(self._pool.getconn(_NOW))
        except PoolTimeout:
            return None

    def give_back(self, wire: Wire) -> None:
        if wire.connection in self._extra:
            self._extra.discard(wire.connection)
            wire.connection.close()
            return
        if not wire.is_idle:
            wire.connection.close()  # a pool replaces what comes back closed
        with contextlib.suppress(Exception):
            self._pool.putconn(wire.connection)

    def discard(self, wire: Wire) -> None:
        wire.connection.close()
        self.give_back(wire)

    def close(self) -> None:
        if self._attempts is not None:
            self._pool.close()

    def _getconn(self, seconds: float) -> Any:
        """A connection, or the reason why there is none: a pool only says that it took too long."""
        if self._attempts is None:
            try:
                return self._pool.getconn(seconds)
            except PoolTimeout as error:
                known, self._errors = self._errors, failed_connects(self._pool)
                raise late(error, is_failing=self._errors > known) from error
        deadline, look = time.monotonic() + seconds, _FIRST_LOOK
        while True:
            left = deadline - time.monotonic()
            try:
                return self._pool.getconn(min(look, left))
            except PoolTimeout as error:
                self._attempts.check()
                if left <= look:
                    raise late(error, is_failing=False) from error
            look = _NEXT_LOOK


class Attempts:
    """What came of a pool's attempts to connect."""

    def __init__(self) -> None:
        self.failure: psycopg.Error | None = None  # of the last attempt
        self._has_connected = False

    def connection_class(self) -> type[psycopg.Connection[Any]]:
        """A class of connections that takes note of what comes of connecting."""
        attempts = self

        class Noted(psycopg.Connection[Any]):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:
                try:
                    connection = super().connect(*args, **kwargs)
                except psycopg.Error as error:
                    attempts.failure = error
                    raise
                attempts.failure, attempts._has_connected = None, True
                return connection

        return Noted

    def check(self) -> None:
        """Raise if the last attempt has failed: as final, if there never was a connection and there will be none."""
        failure = self.failure
        if failure is None:
            return
        is_final = not self._has_connected and is_refusal(failure)
        raise (NotLetInError if is_final else psycopg.OperationalError)(str(failure)) from failure


def late(error: PoolTimeout, *, is_failing: bool) -> psycopg.OperationalError:
    """What a pool's being late means, which `is_failing` to connect, or has no connection free."""
    return psycopg.OperationalError(f"the pool cannot connect: {error}") if is_failing else NoneFreeError(str(error))


def failed_connects(pool: Any) -> int:
    """How often a pool could not connect, as far as it says."""
    try:
        return pool.get_stats().get("connections_errors", 0)
    except Exception:  # some other class with the methods that matter
        return 0


class ConnectionSource:
    """One connection that was given; callers wait for each other."""

    has_settings = False

    def __init__(self, connection: psycopg.Connection[Any], *, prepare: bool) -> None:
        self.where = where_is(connection.info.dsn)
        self.lent: Counter[int] = Counter()
        self._connection = connection
        self._prepare = prepare
        self._lock = connection.lock  # psycopg's own: a store on the same connection waits, and so do its owner's calls
        self._is_shared = False  # with a transaction of its owner's

    def take_inside(self) -> Wire | None:
        """The connection, for statements that become part of its owner's transaction; None if that has none open."""
        self._lock.acquire()
        if self._connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            self._lock.release()
            return None
        self._is_shared = True
        return Wire(self._connection, prepare=False)

    def take(self, seconds: float) -> Wire:
        if self.lent[threading.get_ident()]:
            raise StorageError(
                f"a blocking call inside an event loop cannot have the connection to {self.where}: the loop uses it",
                hint="call the async method there, or give the saver a ConnectionPool",
            )
        if not self._lock.acquire(timeout=max(seconds, 0.0)):
            raise NoneFreeError("the connection stayed in use")
        return self._taken()

    def take_now(self) -> Wire | None:
        return self._taken() if self._lock.acquire(blocking=False) else None

    def _taken(self) -> Wire:
        try:
            check_given(self._connection, self.where, pool="a ConnectionPool")
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

    def discard(self, wire: Wire) -> None:
        self.give_back(wire)  # the only one there is, and its owner's

    def close(self) -> None:
        pass


def open_pool(conninfo: str, *, min_size: int, max_size: int, settings: dict[str, str], is_direct: bool) -> PoolSource:
    """A pool of the saver's own. `settings` hold for every connection if the server is reached directly (`is_direct`);
    behind a proxy a session's settings could be another client's."""

    def configure(connection: psycopg.Connection[Any]) -> None:
        if is_direct:
            values = [text for pair in settings.items() for text in pair]
            connection.execute(f"select {', '.join(['set_config(%s, %s, false)'] * len(settings))}".encode(), values)

    def connect() -> psycopg.Connection[Any]:
        connection = psycopg.connect(full, autocommit=True)
        configure(connection)
        return connection

    attempts, full = Attempts(), with_defaults(conninfo)
    pool: Any = ConnectionPool(
        full,
        connection_class=attempts.connection_class(),
        min_size=min_size,
        max_size=max_size,
        open=False,
        configure=configure if settings else None,
        reconnect_timeout=_RECONNECT_SECONDS,
        kwargs={"autocommit": True},
        name="clew",
    )
    pool.open()
    return PoolSource(
        pool,
        where=where_is(conninfo),
        prepare=is_direct,
        has_settings=is_direct,
        connect=connect,
        attempts=attempts,
    )


def given_pool(pool: Any, *, prepare: bool) -> PoolSource:
    """A pool that was given."""

    def connect() -> psycopg.Connection[Any]:
        conninfo: Any = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
        options: Any = pool.kwargs() if callable(pool.kwargs) else pool.kwargs
        settings: dict[str, Any] = {**(options or {}), "autocommit": True}
        return psycopg.connect(conninfo, **settings)

    where = where_is(pool.conninfo) if isinstance(getattr(pool, "conninfo", None), str) else "the database"
    return PoolSource(pool, where=where, prepare=prepare, has_settings=False, connect=connect)


def with_defaults(conninfo: str) -> str:
    """A connection string with settings that notice a lost server in time; what it says itself stays."""
    return make_conninfo("", **(_CONNECTION_DEFAULTS | _parts(conninfo)))


def where_is(conninfo: str) -> str:
    """A database's name for messages, without its password."""
    parts = _parts(conninfo)
    host, port = parts.get("host") or parts.get("hostaddr") or "localhost", parts.get("port")
    return f"database {parts.get('dbname') or parts.get('user') or 'postgres'!r} on {host}{f':{port}' if port else ''}"


def _parts(conninfo: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise StorageError(
            f"the connection string cannot be read: {str(error).strip()}",
            hint="write postgresql://user@host/name, or host=... dbname=...",
        ) from error


def is_of_loop(conn: object) -> bool:
    """Whether it is a connection or a pool of an event loop."""
    return isinstance(conn, psycopg.AsyncConnection) or inspect.iscoroutinefunction(getattr(conn, "getconn", None))


def refuse_loops(conn: object, instead: str) -> None:
    """Raise if `conn` belongs to an event loop, which the class called `instead` could serve."""
    if is_of_loop(conn):
        raise StorageError(
            f"an {type(conn).__name__} belongs to one event loop and cannot serve blocking calls",
            hint=f"use {instead}, or give a psycopg Connection or ConnectionPool, or use from_conn_string",
        )


def check_given(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], where: str, *, pool: str) -> None:
    """Raise if a connection that was given is not free for a saver's transactions; `pool` is what would be."""
    if connection.closed:
        raise StorageError(
            f"the connection to {where} that the saver was given is closed",
            hint=f"give it {pool}, or use from_conn_string: those reconnect",
        )
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        raise StorageError(
            f"the connection to {where} has a transaction open that is not the saver's",
            hint="commit it before the saver is used, or open the connection with autocommit=True",
        )
    refuse_pipe(connection.pgconn.pipeline_status or None, "saver")


def refuse_pipe(pipe: object, what: str) -> None:
    """Raise if a program gives a pipeline that it has opened on a connection."""
    if pipe is not None:
        raise StorageError(
            f"a {what} cannot work inside a pipeline that its connection's owner has opened",
            hint="leave `pipe` out: statements that can travel together do",
        )


def reach(conninfo: str) -> psycopg.Connection[Any]:
    """A connection; raises a typed error, without trying again, if the server cannot be reached or refuses."""
    try:
        return psycopg.connect(with_defaults(conninfo), autocommit=True)
    except psycopg.OperationalError as error:
        raise typed(NotLetInError(str(error)) if is_refusal(error) else error, where_is(conninfo)) from error
