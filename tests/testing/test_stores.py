"""Our own conformance kit, on every store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

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
