"""One saver per backend, so that every fact is shown on all of them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.storage.postgres.schema import TABLES


@pytest.fixture(params=["memory", "sqlite file", "sqlite memory", "encrypted", "postgres"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    if request.param == "memory":
        yield InMemorySaver()
        return
    if request.param == "encrypted":
        yield InMemorySaver(serde=EncryptedSerializer.from_key(bytes(range(32))))
        return
    if request.param == "postgres":
        with PostgresSaver.from_conn_string(request.getfixturevalue("emptied")) as opened:
            yield opened
        return
    path = str(tmp_path / "threads.db") if request.param == "sqlite file" else ":memory:"
    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as opened:
        yield opened


@pytest.fixture
def emptied(postgres_database: str) -> str:
    """The connection string of a database in which other tests have left nothing."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        if connection.execute("select to_regclass('clew_head')").fetchone() != (None,):
            connection.execute(f"truncate table {', '.join(TABLES)}".encode())
    return postgres_database
