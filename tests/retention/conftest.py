"""One saver per backend, so that every fact about retention is shown on all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from tests.both import own_saver  # noqa: F401 - a fixture

BACKENDS = ["memory", "sqlite", "postgres"]
Opened = Callable[..., AbstractContextManager[Any]]
_numbers = itertools.count(1)


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest) -> Opened:
    """`opened(folder, **settings)`: a saver of one backend that nobody has used."""
    if request.param == "postgres":
        shared = request.getfixturevalue("postgres_saver")

    @contextmanager
    def open(folder: Path, **settings: Any) -> Generator[Any]:
        match request.param:
            case "memory":
                yield InMemorySaver(**settings)
            case "sqlite":
                path = str(folder / "threads.db")
                with SqliteSaver.from_conn_string(path, synchronous="NORMAL", **settings) as saver:
                    yield saver
            case _:  # a tenant of its own, in tables shared with other tests
                saver = shared.with_tenant(f"retention-{next(_numbers)}")
                for name, value in settings.items():
                    setattr(saver, f"_{name}", value)
                yield saver

    return open


@pytest.fixture
def saver(opened: Opened, tmp_path: Path) -> Generator[Any]:
    with opened(tmp_path) as saver:
        yield saver
