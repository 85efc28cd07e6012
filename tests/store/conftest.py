"""Stores to test: every backend, called by its sync and by its async methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew.store.memory import InMemoryStore

from .faces import AsyncFace, Clock

BACKENDS = ("memory",)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=("sync", "async"))
def calls(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_store(backend: str, calls: str, clock: Clock, tmp_path: Path) -> Callable[..., Any]:
    """A function that opens a store of the backend under test; it takes `index` and `ttl`."""

    def make(**options: Any) -> Any:
        store = InMemoryStore(clock=clock, **options)
        return store if calls == "sync" else AsyncFace(store)

    return make


@pytest.fixture
def store(make_store: Callable[..., Any]) -> Any:
    return make_store()
