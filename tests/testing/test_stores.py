"""Our own conformance kit, on every store."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clew.store.memory import InMemoryStore
from clew.store.sqlite import SqliteStore
from clew.testing import Opener, StoreConformance


class TestInMemoryStore(StoreConformance):
    is_durable = False
    refuses_unknown_types = False  # it keeps the objects that it is given

    def open(self) -> Any:
        return nullcontext(InMemoryStore())


class TestSqliteStore(StoreConformance):
    @contextmanager
    def storage(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            self.path = f"{folder}/store.db"
            yield

    def opener(self) -> Opener:
        return Opener("clew.store.sqlite:SqliteStore.from_conn_string", self.path)


class TestSqliteStoreInMemory(StoreConformance):
    is_durable = False

    def open(self) -> Any:
        return SqliteStore.from_conn_string(":memory:")


_schemas = itertools.count(1)


class TestPostgresStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def schema_of_the_check(self, server: str) -> Iterator[None]:
        self.server, self.schema = server, f"kit store {os.getpid()} {next(_schemas)}"
        yield
        self.teardown_method()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("set client_min_messages = warning")
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(self.schema)))

    def opener(self) -> Opener:
        opener = "clew.store.postgres:PostgresStore.from_conn_string"
        return Opener(opener, self.server, schema=self.schema, min_size=1, max_size=4)
