"""Where a case keeps its threads: a SQLite file of its own, or a tenant of its own in a PostgreSQL database.

A place is a dictionary, so that it can be told to another process: `database` (a path or a connection string),
`storage`, `tenant`, `link` (how a saver reaches the server) and `ledger`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.store.postgres import PostgresStore
from clew.store.sqlite import SqliteStore

Place = Mapping[str, str]
LOOP_LINKS = ("async connection", "async pool")  # whose savers belong to one event loop
SECONDS = 20


def open_saver(place: Place) -> AbstractContextManager[Any]:
    """A saver for blocking callers, closed at the end."""
    if not is_postgres(place):
        return SqliteSaver.from_conn_string(place["database"], synchronous=place.get("storage", "FULL"))
    return _postgres_saver(place)


@contextlib.contextmanager
def _postgres_saver(place: Place) -> Iterator[Any]:
    conninfo = make_conninfo(place["database"], application_name=place["tenant"])
    settings: Any = {"commit": "fast" if place["storage"].endswith("fast") else "durable", "tenant": place["tenant"]}
    match place.get("link", "pool"):
        case "connection":
            with psycopg.connect(conninfo) as connection:
                yield PostgresSaver(connection, **settings)
        case "given pool":
            with ConnectionPool(conninfo, min_size=1, max_size=3) as pool:
                yield PostgresSaver(pool, **settings)
        case _:
            with PostgresSaver.from_conn_string(conninfo, **settings) as saver:
                yield saver


@contextlib.contextmanager
def open_loop_saver(place: Place, runner: asyncio.Runner) -> Iterator[Any]:
    """A saver on connections that belong to the runner's event loop."""
    conninfo = make_conninfo(place["database"], application_name=place["tenant"])
    opened = runner.run(_connected(conninfo, is_pool=place["link"] == "async pool"))
    saver = AsyncPostgresSaver(opened, tenant=place["tenant"])
    try:
        yield saver
    finally:
        runner.run(saver.aclose())
        runner.run(opened.close())


async def _connected(conninfo: str, *, is_pool: bool) -> Any:
    if not is_pool:
        return await psycopg.AsyncConnection.connect(conninfo)
    pool = AsyncConnectionPool(conninfo, min_size=1, max_size=3, open=False)
    await pool.open()
    return pool


def open_store(place: Place) -> AbstractContextManager[Any]:
    """The store that a case's nodes write to."""
    if is_postgres(place):
        return PostgresStore.from_conn_string(place["store"], tenant=place["tenant"])
    return SqliteStore.from_conn_string(place["store"])


def is_postgres(place: Place) -> bool:
    return place.get("storage", "").startswith("postgres")


def bury(place: Place) -> None:
    """Wait until the server has noticed that the case's process is dead: what it had sent has happened by then."""
    if not is_postgres(place):
        return
    deadline = time.monotonic() + SECONDS
    with psycopg.connect(place["database"], autocommit=True) as connection:
        while connection.execute(
            "select 1 from pg_stat_activity where application_name = %s", [place["tenant"]]
        ).fetchone():
            assert time.monotonic() < deadline, "the server goes on with a client that is dead"
            time.sleep(0.002)
