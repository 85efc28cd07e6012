"""One way to call a store, whether its sync or its async methods answer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


class AsyncFace:
    """The sync names of a store's methods, answered by its async methods.

    Each call has an event loop of its own, or all have that of `runner`.
    """

    def __init__(self, store: Any, runner: asyncio.Runner | None = None) -> None:
        self.store = store
        self.run = runner.run if runner else asyncio.run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.store, f"a{name}", None) or getattr(self.store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            answer = method(*arguments, **options)
            return await answer if inspect.isawaitable(answer) else answer

        return lambda *arguments, **options: self.run(call(*arguments, **options))


class Clock:
    """A clock that moves when it is told to; seconds since 1970."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, *, minutes: float) -> None:
        self.now += minutes * 60
