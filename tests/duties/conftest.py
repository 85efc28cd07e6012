"""The databases of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from tests.duties.kit import Office


@pytest.fixture(params=["sqlite", "postgres"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    if request.param == "sqlite":
        path = str(tmp_path / "duties.db")
        with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver:
            yield Office(saver, path)
        return
    url = request.getfixturevalue("database")
    with PostgresSaver.from_conn_string(url) as saver:
        yield Office(saver, url)
