"""One saver per backend, so that every fact is shown on all of them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver


@pytest.fixture(params=["memory", "sqlite file", "sqlite memory", "encrypted"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    if request.param == "memory":
        yield InMemorySaver()
        return
    if request.param == "encrypted":
        yield InMemorySaver(serde=EncryptedSerializer.from_key(bytes(range(32))))
        return
    path = str(tmp_path / "threads.db") if request.param == "sqlite file" else ":memory:"
    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as opened:
        yield opened
