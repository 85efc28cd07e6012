"""One test body for both drivers: `drive.invoke(graph, ...)` runs a graph synchronously or under asyncio.

The asyncio side keeps one event loop for the whole test, so that a saver, a cache or an iterator may live across calls.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver


class Sync:
    """Calls a graph's blocking methods."""

    name = "sync"

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda graph, *args, **kwargs: getattr(graph, method)(*args, **kwargs)

    def stream(self, graph: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """The stream, lazily; closing the iterator closes it."""
        return graph.stream(*args, **kwargs)

    def get_state_history(self, graph: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """All snapshots, newest first."""
        return list(graph.get_state_history(*args, **kwargs))

    def node(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A node that does what `function` does, of the kind that is at home in this driver."""
        return function


class Async:
    """Calls the same methods' asyncio twins, on one event loop."""

    name = "asyncio"

    def __init__(self, runner: asyncio.Runner) -> None:
        self.run = runner.run

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda graph, *args, **kwargs: self.run(getattr(graph, f"a{method}")(*args, **kwargs))

    def stream(self, graph: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """The stream, lazily; closing the iterator closes it."""
        chunks = graph.astream(*args, **kwargs)
        try:
            while True:
                try:
                    chunk = self.run(anext(chunks))
                except StopAsyncIteration:
                    return
                yield chunk
        finally:
            self.run(chunks.aclose())

    def get_state_history(self, graph: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """All snapshots, newest first."""

        async def collected() -> list[Any]:
            return [snapshot async for snapshot in graph.aget_state_history(*args, **kwargs)]

        return self.run(collected())

    def node(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A node that does what `function` does, of the kind that is at home in this driver."""

        @functools.wraps(function)
        async def native(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return native


Drive = Sync | Async
_numbers = itertools.count(1)


@pytest.fixture(params=["sync", "asyncio"])
def drive(request: pytest.FixtureRequest) -> Iterator[Drive]:
    """The driver a test's graphs run on."""
    if request.param == "sync":
        yield Sync()
        return
    with asyncio.Runner() as runner:
        yield Async(runner)


SAVERS = ("memory", "sqlite", "postgres")


@pytest.fixture(params=SAVERS)
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Where a test's threads are kept; on PostgreSQL with a tenant of its own, in tables shared with other tests."""
    if request.param == "postgres":
        shared: PostgresSaver = request.getfixturevalue("postgres_saver")
        yield shared.with_tenant(f"test-{next(_numbers)}")
        return
    with opened_saver(request, tmp_path) as opened:
        yield opened


@pytest.fixture(params=SAVERS)
def own_saver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A saver without a tenant, whose tables no other test uses."""
    with opened_saver(request, tmp_path) as opened:
        yield opened


def opened_saver(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractContextManager[Any]:
    """The saver that a fixture's parameter names, on new storage."""
    match request.param:
        case "memory":
            return InMemorySaver()
        case "sqlite":
            return SqliteSaver.from_conn_string(str(tmp_path / "threads.db"), synchronous="NORMAL")
        case _:
            return PostgresSaver.from_conn_string(request.getfixturevalue("database"))


def on(thread: str = "t", **configurable: Any) -> dict[str, Any]:
    """The config of a thread."""
    return {"configurable": {"thread_id": thread, **configurable}}
