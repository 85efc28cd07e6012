"""Fixtures of the security suite: savers of every backend, stores and caches that keep bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clew.cache.memory import InMemoryCache
from clew.cache.sqlite import SqliteCache
from clew.store.postgres import PostgresStore
from clew.store.sqlite import SqliteStore
from tests.both import drive, own_saver, saver

__all__ = ("drive", "own_saver", "saver")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store that keeps bytes."""
    if request.param == "sqlite":
        with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as opened:
            yield opened
        return
    server, schema = request.getfixturevalue("server"), f"security_{os.getpid()}"
    with PostgresStore.from_conn_string(server, schema=schema, min_size=1, max_size=2) as opened:
        yield opened
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("set client_min_messages = warning")
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


@pytest.fixture(params=["memory", "sqlite"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache; both keep bytes."""
    if request.param == "memory":
        yield InMemoryCache()
        return
    with SqliteCache(path=str(tmp_path / "cache.db")) as opened:
        yield opened
