"""One SQLite file as the store and the cache use it: a connection, its lock, its schema, and a thread for async calls.

Invariants: a connection serves one caller at a time; a write takes the file's write lock when it begins, so it waits at
its start, for a bounded time, and never fails half-way for another process; every error is a typed one that names the
file.
"""

from __future__ import annotations

import contextvars
import inspect
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, ParamSpec, TypeVar

from clew.errors import SchemaVersionError, StorageError
from clew.store._connection import (
    BUSY_TIMEOUT,
    Connection,
    connect,
    file_of,
    is_bound_to_thread,
    typed_error,
    typed_errors,
)

P = ParamSpec("P")
T = TypeVar("T")

Synchronous = Literal["FULL", "NORMAL"]

_RETRY_SECONDS: Final = 0.005
_SYNCHRONOUS: Final[Mapping[Synchronous, str]] = {
    "FULL": "pragma synchronous = full",
    "NORMAL": "pragma synchronous = normal",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one part of a database, as numbered steps that lead to them.

    `version` reads the number of steps done, or fails if there is none; `begin` makes the table for it, `record` keeps
    a number there.
    """

    begin: str
    version: str
    record: str
    steps: Sequence[Sequence[str]]


class Database:
    """A connection to one file that any thread and any event loop may use.

    The schema is brought up to date before the first use. A connection that was opened here is closed here.
    """

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        synchronous: Synchronous = "FULL",
        is_owned: bool = False,
    ) -> None:
        if synchronous not in _SYNCHRONOUS:
            raise ValueError(f"synchronous is {synchronous!r}, not 'FULL' or 'NORMAL'")
        self._connection = connection
        self._schema = schema
        self._is_owned = is_owned
        self._busy_timeout = busy_timeout
        self._synchronous: Synchronous = synchronous
        self._lock = threading.RLock()
        self._is_ready = False
        self._is_bound = False  # to the thread that opened the connection
        self._executor: ThreadPoolExecutor | None = None
        self._executor_lock = threading.Lock()  # never held for long, so an event loop may take it
        if inspect.iscoroutinefunction(connection.close):
            raise StorageError(
                f"a connection of type {type(connection).__module__}.{type(connection).__name__} is async",
                hint="give a sqlite3.Connection, which serves async callers too, or use from_conn_string",
            )
        self.name: str = ":memory:"
        with typed_errors(self.name):
            self.name = file_of(connection) or ":memory:"
        self._free_from_thread()
        if self._is_owned:
            weakref.finalize(self, self._connection.close)
        self._is_autocommit = getattr(self._connection, "isolation_level", None) is None

    def _free_from_thread(self) -> None:
        """Make the connection usable from every thread.

        `sqlite3.connect` by default ties a connection to its thread. Then a connection of our own to the same file does
        the work; a database in memory has no second door, so it stays with its thread.
        """
        if not is_bound_to_thread(self._connection):
            return
        if self.name == ":memory:":
            self._is_bound = True
        else:
            self._connection = connect(self.name)
            self._is_owned = True

    def setup(self) -> None:
        """Bring the schema up to date; does nothing if it is.

        Raises:
            SchemaVersionError: The file was written by a newer clew.
            StorageError: The file is not a database, is read-only, or is busy for too long.
        """
        with self._lock, typed_errors(self.name, self._busy_timeout):
            if self._is_ready:
                return
            self._set_pragmas()
            if self._schema_version() != len(self._schema.steps):
                self._migrate()
            self._is_ready = True

    def _set_pragmas(self) -> None:
        execute = self._connection.execute
        execute(f"pragma busy_timeout = {int(self._busy_timeout * 1000)}").fetchall()
        if self._connection.in_transaction:
            return  # a caller's own transaction: SQLite changes neither setting inside of it
        if not execute("select 1 from sqlite_master limit 1").fetchall():
            execute("pragma auto_vacuum = incremental").fetchall()  # only a file without tables takes it
        if execute("pragma journal_mode").fetchone()[0] not in ("wal", "memory"):
            self._patiently(lambda: execute("pragma journal_mode = wal").fetchall())
        execute(_SYNCHRONOUS[self._synchronous]).fetchall()

    def _patiently(self, change: Callable[[], object]) -> None:
        """Do what SQLite does not wait for the lock for: it fails at once where another connection is in the way."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                change()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _schema_version(self) -> int:
        try:
            row = self._connection.execute(self._schema.version).fetchone()
        except Exception as error:
            if "no such table" not in str(error):
                raise
            return 0
        version = row[0] or 0
        if version > len(self._schema.steps):
            raise SchemaVersionError(
                f"database {self.name!r} has schema version {version}, and this clew knows {len(self._schema.steps)}",
                hint="upgrade clew, or use another file",
            )
        return version

    def _migrate(self) -> None:
        self.begin("begin immediate")
        try:
            self._connection.execute(self._schema.begin)
            done = self._schema_version()  # another process may have been here first
            for step in self._schema.steps[done:]:
                for statement in step:
                    self._connection.execute(statement)
            self._connection.execute(self._schema.record, (len(self._schema.steps),))
            self.end(commits=True)
        except BaseException:
            self.end(commits=False)
            raise

    def statement(self, *, writes: bool) -> AbstractContextManager[Connection]:
        """The connection, for a single statement, which is its own transaction."""
        # A connection with implicit transactions would leave that of a write open.
        return _Use(self, "begin immediate" if writes and not self._is_autocommit else None)

    def read(self) -> AbstractContextManager[Connection]:
        """The connection, in a transaction in which all reads see the same state."""
        return _Use(self, "begin")

    def write(self) -> AbstractContextManager[Connection]:
        """The connection, in a transaction that holds the file's write lock from its start."""
        return _Use(self, "begin immediate")

    def acquire(self) -> Connection:
        """The connection, ready for use and for this thread alone until `release`."""
        self._lock.acquire()
        try:
            if not self._is_ready:
                self.setup()
        except BaseException:
            self._lock.release()
            raise
        return self._connection

    def release(self) -> None:
        """Let the next caller have the connection."""
        self._lock.release()

    def begin(self, how: str) -> None:
        """Begin a transaction on the acquired connection."""
        if self._connection.in_transaction:
            raise StorageError(
                f"the connection to database {self.name!r} has a transaction open",
                hint="commit it first, or give clew a connection of its own",
            )
        self._connection.execute(how)

    def end(self, *, commits: bool) -> None:
        """End the transaction on the acquired connection; one that SQLite has ended already is left alone."""
        if commits:
            self._connection.execute("commit")
        elif self._connection.in_transaction:
            self._connection.execute("rollback")

    def typed(self, error: sqlite3.Error) -> StorageError:
        """The error to raise in place of one of SQLite's."""
        return typed_error(error, self.name, self._busy_timeout)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` without blocking the event loop, in this database's own thread."""
        import asyncio  # late: a program without an event loop need not load it

        if self._is_bound:
            return work(*args, **kwargs)
        with self._executor_lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="clew-sqlite")
        context = contextvars.copy_context()
        job = partial(context.run, partial(work, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)

    def close(self) -> None:
        """Finish what runs, and close the connection if it was opened here."""
        with self._executor_lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        with self._lock:
            if self._is_owned:
                self._connection.close()


class _Use(AbstractContextManager[Connection]):
    """One use of a database's connection, in a transaction if `begin` says how to begin one.

    A class and not a generator, which would cost as much as the statement it surrounds.
    """

    __slots__ = ("_begin", "_database")

    def __init__(self, database: Database, begin: str | None) -> None:
        self._database = database
        self._begin = begin

    def __enter__(self) -> Connection:
        database = self._database
        connection = database.acquire()
        try:
            if self._begin is not None:
                database.begin(self._begin)
        except BaseException as error:
            database.release()
            if isinstance(error, sqlite3.Error):
                raise database.typed(error) from error
            raise
        return connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        database = self._database
        try:
            if self._begin is not None:
                self._end(error)
        except sqlite3.Error as failure:
            raise database.typed(failure) from failure
        finally:
            database.release()
        if isinstance(error, sqlite3.Error):
            raise database.typed(error) from error

    def _end(self, error: BaseException | None) -> None:
        try:
            self._database.end(commits=error is None)
        except BaseException:
            self._database.end(commits=False)
            raise
