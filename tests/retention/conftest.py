"""One saver per backend, so that every fact about retention is shown on all of them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver

BACKENDS = ["memory", "sqlite"]


@contextmanager
def opened(backend: str, folder: Path, **settings: Any) -> Generator[Any]:
    """A saver on an empty database of one backend."""
    if backend == "memory":
        yield InMemorySaver(**settings)
        return
    with SqliteSaver.from_conn_string(str(folder / "threads.db"), synchronous="NORMAL", **settings) as saver:
        yield saver


@pytest.fixture(params=BACKENDS)
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    with opened(request.param, tmp_path) as saver:
        yield saver
