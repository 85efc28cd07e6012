"""The log in a SQLite file: connections, transactions and the schema; no rules.

One connection writes, in WAL mode and always with BEGIN IMMEDIATE; another one reads, each rule in one transaction of
its own, so that a reader sees one moment of the log. A database in memory has one connection for both. Several
processes may use one file: SQLite lets one write at a time, and the others wait for a bounded time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

from clew import _failpoints
from clew.errors import StorageError, ThreadConflictError
from clew.storage.migrate import check_applied, migrations, named_queries
from clew.storage.query import Row, Steps, T, drive
from clew.storage.sqlite_errors import damaged, typed
from clew.storage.writer import Job

Synchronous = Literal["FULL", "NORMAL"]

_WORTH_FREEING = 64  # pages
_PORTION = 512  # pages that are given back in one transaction
_SCHEMA_TABLE = "create table if not exists clew_migration (number integer primary key, name text not null)"


class SqliteTables:
    """The tables in one database, opened and set up when first used."""

    def __init__(
        self,
        path: str,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 30.0,
        connection: sqlite3.Connection | None = None,
    ) -> None:
        """`connection`, for a database that lives in memory only, is used as it is and never closed here."""
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is {synchronous!r}, not 'FULL' or 'NORMAL'")
        self.path = path
        self.is_shared = connection is not None or not path or ":memory:" in path or "mode=memory" in path
        self._given = connection
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._queries = named_queries("sqlite")
        self._lock = threading.RLock()  # the writing connection
        self._read_lock = self._lock if self.is_shared else threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._is_closed = False
        self._is_log_long = False  # the write-ahead log could not be cut short after maintenance

    # Running rules

    def read(self, steps: Callable[[], Steps[T]]) -> T:
        """Run a rule that only reads, on one moment of the database."""
        with self._read_lock:
            connection = self._reading()
            answer = self._answers(connection)
            with self._typed_errors():
                if connection.in_transaction:  # on a shared connection, inside a write
                    return drive(steps(), answer)
                try:
                    connection.execute("begin")
                    return drive(steps(), answer)
                finally:
                    if connection.in_transaction:
                        connection.execute("rollback")

    def read_now(self, steps: Callable[[], Steps[T]]) -> tuple[T] | None:
        """The same, unless somebody else is reading, or nobody has yet; gives the result in a tuple."""
        if self._reader is None or not self._read_lock.acquire(blocking=False):
            return None
        try:
            return (self.read(steps),)
        finally:
            self._read_lock.release()

    def write(self, steps: Callable[[], Steps[T]]) -> T:
        """Run a rule as one transaction."""
        with self._lock, self._transaction(self._writing()) as answer:
            return drive(steps(), answer)

    def write_group(self, jobs: Sequence[Job]) -> None:
        """Run writes as one transaction and settle them; one that fails costs the others nothing but time."""
        jobs = [job for job in jobs if not self._is_over(job)]
        try:
            if len(jobs) == 1 or not self._write_together(jobs):
                for job in jobs:
                    self._write_alone(job)
        except BaseException as error:
            for job in jobs:
                if not job.is_done:
                    job.settle(error=StorageError("the write was interrupted; whether it was stored is not known"))
            if not isinstance(error, Exception):
                raise

    def setup(self) -> None:
        """Make or upgrade the tables; does nothing where they are up to date, and is safe to race."""
        with self._lock:
            self._writing()

    def damage(self) -> list[str]:
        """What SQLite itself finds wrong with the file: pages, and indexes that do not say what their tables say."""
        with self._read_lock:
            connection = self._reading()
            with self._typed_errors():
                found = [str(row[0]) for row in connection.execute("pragma integrity_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Close the connections; those that were given are left open."""
        with self._read_lock, self._lock:
            self._is_closed = True
            for connection in (self._reader, self._writer):
                if connection is not None and connection is not self._given and os.getpid() == self._process:
                    connection.close()
            self._reader = self._writer = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def after_maintenance(self) -> None:
        """Give the space that was freed back to the file system, if it is worth it and nobody is in the way.

        In portions, between which others write: the file's end is moved into its holes a few pages at a time.
        """
        free = self._free_pages()
        if free < _WORTH_FREEING and not self._is_log_long:
            return
        while free:
            begun = time.monotonic()
            self._give_back(f"pragma incremental_vacuum({_PORTION})")
            left = self._free_pages()
            if left >= free:  # somebody is in the way; or another program made the file, which keeps its pages then
                break
            free = left
            time.sleep(min(time.monotonic() - begun, 0.1))
        if not self.is_shared:
            given = self._give_back("pragma wal_checkpoint(truncate)")
            self._is_log_long = not given or given[0][0] != 0  # somebody reads: the next time will do

    def _free_pages(self) -> int:
        with self._lock, self._typed_errors():
            return self._writing().execute("pragma freelist_count").fetchone()[0]

    def _give_back(self, statement: str) -> list[Row]:
        """Run a statement that makes a file smaller; gives nothing if somebody else uses the file."""
        with self._lock, self._typed_errors():
            connection = self._writing()
            connection.execute("pragma busy_timeout = 100")
            try:
                return connection.execute(statement).fetchall()  # to its end: each page that is freed is a row
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise
                return []
            finally:
                connection.execute(f"pragma busy_timeout = {int(self._busy_timeout * 1000)}")

    # One transaction

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Generator[Callable[[str, tuple[Any, ...]], list[Row]]]:
        with self._typed_errors():
            if connection.in_transaction and connection is self._given:
                raise StorageError(
                    f"the connection to database {self.path!r} has a transaction open that is not the saver's",
                    hint="commit it before the saver is used",
                )
            try:
                connection.execute("begin immediate")
                yield self._answers(connection)
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise

    def _is_over(self, job: Job) -> bool:
        error = job.op.session.error
        if error is not None:
            job.settle(error=error)
        return error is not None

    def _write_together(self, jobs: Sequence[Job]) -> bool:
        """Whether all of `jobs` went through in one transaction; if not, nothing was changed or settled."""
        try:
            with self._lock:
                results = self._run_group(jobs)
        except Exception:
            return False
        for outcome in results:
            _settle(*outcome)
        return True

    def _run_group(self, jobs: Sequence[Job]) -> list[tuple[Job, Any, ThreadConflictError | None]]:
        results: list[tuple[Job, Any, ThreadConflictError | None]] = []
        lost: dict[int, ThreadConflictError] = {}
        connection = self._writing()
        _hit_all(jobs, "before")
        with self._transaction(connection) as answer:
            for job in jobs:
                error, result = lost.get(id(job.op.session)), None
                if error is None:
                    changes = connection.total_changes
                    try:
                        result = drive(job.op.steps(), answer)
                    except ThreadConflictError as conflict:
                        if connection.total_changes != changes:
                            raise  # what it did must be taken back: the group is, and its members go singly
                        error = lost[id(job.op.session)] = conflict
                results.append((job, result, error))
            _hit_all(jobs, "uncommitted")
        return results

    def _write_alone(self, job: Job) -> None:
        if self._is_over(job):
            return
        try:
            with self._lock:
                outcome = self._run_group([job])[0]
        except Exception as error:
            job.settle(error=error)
        else:
            _settle(*outcome)

    def _answers(self, connection: sqlite3.Connection) -> Callable[[str, tuple[Any, ...]], list[Row]]:
        queries, execute = self._queries, connection.cursor().execute

        def answer(name: str, params: tuple[Any, ...]) -> list[Row]:
            cursor = execute(queries[name], params)
            return cursor.fetchall() if cursor.description is not None else [(cursor.rowcount,)]

        return answer

    # Connections

    def _writing(self) -> sqlite3.Connection:
        if self._writer is None or self._process != os.getpid():
            self.check_usable()
            with self._typed_errors():
                connection = self._given or self._connect()
                try:
                    self._prepare(connection)
                except BaseException:
                    if connection is not self._given:
                        connection.close()
                    raise
            self._writer = connection
        return self._writer

    def _reading(self) -> sqlite3.Connection:
        if self.is_shared:
            return self._writing()
        if self._reader is None or self._process != os.getpid():
            self.check_usable()
            with self._lock:
                self._writing()  # sets the database up
            with self._typed_errors():
                self._reader = self._connect()
                self._reader.execute("pragma query_only = on")
        return self._reader

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            uri=self.path.startswith("file:"),
        )

    def check_usable(self) -> None:
        """Raise if the saver was closed, or belongs to the process this one was forked from."""
        if self._is_closed:
            raise StorageError(f"the saver on {self.path!r} is closed", hint="open a new one")
        if self._process != os.getpid():
            raise StorageError(
                f"the saver on {self.path!r} was opened in another process",
                hint="open one in each process, after the fork",
            )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set the connection up, and the database where it is new."""
        if connection is self._given:
            connection.isolation_level = None
        is_new = connection.execute("select count(*) from sqlite_master").fetchone()[0] == 0
        if is_new:
            connection.execute("pragma auto_vacuum = incremental")
        if not self.is_shared:
            self._switch_to_wal(connection)
        connection.execute(f"pragma synchronous = {self._synchronous}")
        self._migrate(connection)

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        """SQLite does not wait for a lock here by itself."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                mode = connection.execute("pragma journal_mode").fetchone()[0]
                if mode != "wal":
                    connection.execute("pragma journal_mode = wal").fetchone()
                return
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        known = migrations("sqlite")
        if self._applied(connection) >= {migration.number for migration in known}:
            return
        connection.execute("begin immediate")
        try:
            connection.execute(_SCHEMA_TABLE)
            applied = self._applied(connection)
            for migration in known:
                if migration.number in applied:
                    continue
                for statement in migration.statements:
                    connection.execute(statement)
                connection.execute("insert into clew_migration values (?, ?)", (migration.number, migration.name))
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    def _applied(self, connection: sqlite3.Connection) -> set[int]:
        """The migrations the database has had; raises if it has had one that this version cannot live with."""
        if not connection.execute("select 1 from sqlite_master where name = 'clew_migration'").fetchone():
            return set()
        applied = connection.execute("select number, name from clew_migration order by number").fetchall()
        check_applied(applied, migrations("sqlite"), f"database {self.path!r}")
        return {number for number, _ in applied}

    @contextlib.contextmanager
    def _typed_errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise typed(error, self.path, self._busy_timeout) from error
        except UnicodeDecodeError as error:  # a text, or SQLite's own message about one, that is no text
            raise damaged(self.path, error) from error


def _hit_all(jobs: Sequence[Job], moment: str) -> None:
    if _failpoints.armed():
        for job in jobs:
            _failpoints.hit(f"{job.op.kind}.{moment}")


def _settle(job: Job, result: Any, error: Exception | None) -> None:
    try:
        _failpoints.hit(f"{job.op.kind}.after")
    except _failpoints.InjectedFailureError as injected:
        error = injected
    job.settle(result, error)
