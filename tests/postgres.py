"""Real PostgreSQL servers for tests, as fixtures.

`server` is one server per test process, `database` a fresh database on it for one test, as a connection string. With
`CLEW_TEST_POSTGRES` (a connection string whose role may create databases) that server is used instead; tests that
stop or replace servers start their own in any case.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clew.checkpoint.postgres import PostgresSaver
from tests.servers import Server

_FAST = {  # nothing outlives the test, so nothing need reach the disk
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of a server for ordinary tests, without a database of its own."""
    given = os.environ.get("CLEW_TEST_POSTGRES")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="clew-pg-") as home:
        started = Server(Path(home), **_FAST)
        started.create()
        started.start()
        try:
            yield started.conninfo()
        finally:
            started.stop("immediate")


_numbers = itertools.count(1)


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """The connection string of an empty database, dropped after the test."""
    name = f"clew_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture(scope="session")
def postgres_database(server: str) -> Iterator[str]:
    """The connection string of a database for many tests, each of which should have a tenant of its own."""
    name = f"clew_shared_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    yield make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture(scope="session")
def postgres_saver(postgres_database: str) -> Iterator[PostgresSaver]:
    """One saver for many tests, each of which should bind it to a tenant of its own."""
    with PostgresSaver.from_conn_string(postgres_database) as saver:
        yield saver


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for one test, which may stop, kill or replace it; its commits are as durable as by default."""
    with tempfile.TemporaryDirectory(prefix="clew-pg-") as home:
        started = Server(Path(home), max_wal_senders="4", wal_level="replica")
        started.create()
        started.start()
        try:
            yield started
        finally:
            if started.is_running():
                started.stop("immediate")
