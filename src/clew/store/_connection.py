"""Connections to SQLite files: what is needed of one, how to open one, and what its errors mean."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from clew.errors import StorageError
from clew.storage.sqlite_errors import typed

BUSY_TIMEOUT: Final = 30.0  # seconds


class Cursor(Protocol):
    """What is needed of a cursor: rows as tuples."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What is needed of a connection. `sqlite3.Connection` has it, and so do other SQLite drivers."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor: ...
    def close(self) -> None: ...


def connect(path: str) -> sqlite3.Connection:
    """Open a file, or ":memory:", or a "file:" URI, for use by any thread.

    Raises:
        StorageError: It cannot be opened.
    """
    with typed_errors(path):
        is_uri = path.startswith("file:")
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, uri=is_uri)


def file_of(connection: Connection) -> str | None:
    """The path of the connection's main database; empty or None if it has no file."""
    # Not the pragma's table-valued form, which would read the file.
    return next((file for _, name, file in connection.execute("pragma database_list") if name == "main"), None)


def is_bound_to_thread(connection: Connection) -> bool:
    """Whether only the thread that opened the connection may use it, which only another thread can find out."""
    if not isinstance(connection, sqlite3.Connection):
        return False
    faults: list[Exception] = []

    def probe() -> None:
        try:
            connection.execute("select 1").fetchall()
        except sqlite3.ProgrammingError as error:
            faults.append(error)

    thread = threading.Thread(target=probe, name="clew-sqlite-probe")
    thread.start()
    thread.join()
    return bool(faults)


@contextmanager
def typed_errors(name: str, busy_timeout: float = BUSY_TIMEOUT) -> Generator[None]:
    """Turn SQLite's errors into clew's, which name the file and the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise typed_error(error, name, busy_timeout) from error


def typed_error(error: sqlite3.Error, name: str, busy_timeout: float) -> StorageError:
    """The error to raise in place of one of SQLite's."""
    if "closed database" in str(error):
        return StorageError(f"database {name!r} is closed", hint="use it inside its `with` block")
    return typed(error, name, busy_timeout)
