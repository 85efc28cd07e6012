"""A database of its own for the tests of a file, whose tests use a tenant each."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clew.checkpoint.postgres import PostgresSaver
from clew.storage.postgres import direct

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(server: str) -> Iterator[str]:
    """The connection string of a database with tables, for the tests of one file."""
    name = f"clew_faults_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    database = make_conninfo(server, dbname=name)
    with PostgresSaver.from_conn_string(database) as saver:
        saver.setup()
    yield database
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture(autouse=True)
def _epochs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a claim that was made twice shows in what is stored."""
    monkeypatch.setattr(direct, "EPOCH_BITS", 0)


@pytest.fixture
def tenant() -> Callable[[], str]:
    """Makes names of tenants that nobody else uses."""
    return lambda: f"tenant-{next(_numbers)}"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened
