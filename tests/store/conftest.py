"""Stores to test: every backend, called by its sync and by its async methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clew.store._connection import connect
from clew.store.memory import InMemoryStore
from clew.store.sqlite import AsyncSqliteStore, SqliteStore

from .faces import AsyncFace, Clock

# The class of the store, and which of its methods answer.
STORES = ("memory sync", "memory async", "sqlite sync", "sqlite async", "async-sqlite async")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_store(kind: str, clock: Clock, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that opens a store of the kind under test, every time on the same file; it takes the options."""
    backend, calls = kind.split()
    with ExitStack() as stack:

        def make(**options: Any) -> Any:
            match backend:
                case "memory":
                    store: Any = InMemoryStore(clock=clock, **options)
                case "sqlite":
                    opened = SqliteStore.from_conn_string(str(tmp_path / "store.db"), clock=clock, **options)
                    store = stack.enter_context(opened)
                case _:
                    store = AsyncSqliteStore(connect(str(tmp_path / "store.db")), clock=clock, **options)
                    stack.callback(lambda: asyncio.run(store.aclose()))
                    stack.callback(store.conn.close)
            return store if calls == "sync" else AsyncFace(store)

        yield make


@pytest.fixture
def store(make_store: Callable[..., Any]) -> Any:
    return make_store()
