"""Our own conformance kit, on every saver."""

from __future__ import annotations

import gc
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.testing import Opener, SaverConformance


class TestInMemorySaver(SaverConformance):
    is_durable = False

    @contextmanager
    def open(self) -> Iterator[Any]:
        self.opened = InMemorySaver()
        yield self.opened

    def stored_bytes(self) -> int:
        """All the bytes that the tables hold, whatever the key."""
        return deep_size(vars(self.opened._tables))


def deep_size(value: Any) -> int:
    match value:
        case bytes():
            return len(value)
        case dict():
            return sum(map(deep_size, value.values()))
        case list() | tuple():
            return sum(map(deep_size, value))
        case _:
            return 8


class TestSqliteSaver(SaverConformance):
    @contextmanager
    def storage(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            self.path = f"{folder}/threads.db"
            yield

    def opener(self) -> Opener:
        return Opener("clew.checkpoint.sqlite:SqliteSaver.from_conn_string", self.path, synchronous="NORMAL")

    def stored_bytes(self) -> int:
        gc.collect()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            (pages,) = connection.execute("pragma page_count").fetchone()
            (size,) = connection.execute("pragma page_size").fetchone()
        return pages * size


class TestSqliteSaverInMemory(SaverConformance):
    is_durable = False
    has_size = False

    def open(self) -> Any:
        return SqliteSaver.from_conn_string(":memory:")
