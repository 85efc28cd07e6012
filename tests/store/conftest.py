"""Stores to test: every backend, called by its sync and by its async methods."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from clew.store._connection import connect
from clew.store.memory import InMemoryStore
from clew.store.postgres import AsyncPostgresStore, PostgresStore
from clew.store.sqlite import AsyncSqliteStore, SqliteStore

from .faces import AsyncFace, Clock

# The class of the store, and which of its methods answer.
STORES = (
    "memory sync",
    "memory async",
    "sqlite sync",
    "sqlite async",
    "async-sqlite async",
    "postgres sync",
    "postgres async",
    "async-postgres async",
    "loop-postgres async",  # on an AsyncConnection, which belongs to one event loop
)
_schemas = itertools.count(1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_store(kind: str, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """A function that opens a store of the kind under test, every time on the same items; it takes the options."""
    backend, calls = kind.split()
    with ExitStack() as stack:
        if "postgres" in backend:
            yield partial(postgres_store, stack, backend, calls, request.getfixturevalue("postgres_pool"), clock)
            return

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


@dataclass(frozen=True, slots=True)
class Pool:
    """Connections to a server, and the name of a schema that is this test's alone."""

    conninfo: str
    connections: ConnectionPool
    schema: str


@pytest.fixture(scope="session")
def connections(server: str) -> Iterator[tuple[str, ConnectionPool]]:
    """A database for all tests of stores, and a pool of connections to it, whose settings are psycopg's defaults."""
    conninfo = make_conninfo(server, dbname="postgres")
    with ConnectionPool(conninfo, min_size=1, max_size=4, open=True) as pool:
        yield conninfo, pool


@pytest.fixture
def postgres_pool(connections: tuple[str, ConnectionPool]) -> Iterator[Pool]:
    conninfo, pool = connections
    schema = f"store-test {os.getpid()} {next(_schemas)}"
    yield Pool(conninfo, pool, schema)
    with pool.connection() as connection:
        connection.execute("set client_min_messages = warning")
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


def postgres_store(stack: ExitStack, backend: str, calls: str, pool: Pool, clock: Clock, **options: Any) -> Any:
    told = {"schema": pool.schema, "clock": clock, **options}
    match backend:
        case "postgres":
            store: Any = PostgresStore(pool.connections, **told)
            stack.callback(store.close)
            return store if calls == "sync" else AsyncFace(store)
        case "async-postgres":
            store = AsyncPostgresStore(pool.connections, **told)
            stack.callback(lambda: asyncio.run(store.aclose()))
            return AsyncFace(store)
        case _:
            loop = stack.enter_context(asyncio.Runner())
            connection = loop.run(psycopg.AsyncConnection.connect(pool.conninfo))
            stack.callback(lambda: loop.run(connection.close()))
            store = AsyncPostgresStore(connection, **told)
            stack.callback(lambda: loop.run(store.aclose()))
            return AsyncFace(store, loop)


@pytest.fixture
def store(make_store: Callable[..., Any]) -> Any:
    return make_store()
