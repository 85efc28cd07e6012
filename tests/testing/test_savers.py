"""Our own conformance kit, on every saver."""

from __future__ import annotations

import gc
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

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
        return bytes_of(self.opened)


def bytes_of(saver: Any) -> int:
    """All the bytes that a saver's tables in memory hold."""
    return deep_size({name: table for name, table in vars(saver._tables).items() if name != "_undo"})


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


_schemas = itertools.count(1)


class TestPostgresSaver(SaverConformance):
    @pytest.fixture(autouse=True)
    def schema_of_the_check(self, server: str) -> Iterator[None]:
        self.server, self.schema = server, f"kit_{os.getpid()}_{next(_schemas)}"
        yield
        self.teardown_method()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("set client_min_messages = warning")
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(self.schema)))

    def opener(self) -> Opener:
        opener = "clew.checkpoint.postgres:PostgresSaver.from_conn_string"
        return Opener(opener, self.server, schema=self.schema, max_size=4)

    def stored_bytes(self) -> int:
        """The tables with their indexes, values kept out of line included."""
        with psycopg.connect(self.server) as connection:
            found = connection.execute(
                "select sum(pg_total_relation_size(c.oid)) from pg_class as c join pg_namespace as n"
                " on n.oid = c.relnamespace where n.nspname = %s and c.relkind = 'r'",
                [self.schema],
            ).fetchone()
        assert found is not None
        return int(found[0])
