"""A saver in a SQLite file: the embedded default."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clew.storage.sqlite import SqliteTables, Synchronous
from clew.storage.sqlite_saver import SqliteLogSaver

__all__ = ("SqliteSaver",)


class SqliteSaver(SqliteLogSaver):
    """Keeps checkpoints in a SQLite database; one object serves blocking and async callers on any event loop."""

    def __init__(
        self,
        conn: sqlite3.Connection | str,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 30.0,
        **settings: Any,
    ) -> None:
        super().__init__(_tables(conn, synchronous, busy_timeout), **settings)

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str, **settings: Any) -> Iterator[SqliteSaver]:
        """Open a saver on a path, a `file:` URI, or ":memory:", and close it at the end."""
        saver = cls(conn_string, **settings)
        try:
            yield saver
        finally:
            saver.close()


def _tables(conn: sqlite3.Connection | str, synchronous: Synchronous, busy_timeout: float) -> SqliteTables:
    if isinstance(conn, str):
        return SqliteTables(conn, synchronous=synchronous, busy_timeout=busy_timeout)
    path = next((row[2] for row in conn.execute("pragma database_list") if row[1] == "main"), "")
    given = None if path else conn
    return SqliteTables(path or ":memory:", synchronous=synchronous, busy_timeout=busy_timeout, connection=given)
