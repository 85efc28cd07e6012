"""Who watches runs: nobody, unless `clew.telemetry.instrument` was called.

Whoever begins a run asks here, and drivers look at `RunScope.observer`, so that a process without telemetry pays one
look per run and one per task, and imports nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Engine = TypeVar("Engine")

follow: Callable[[Any, Any], Any] | None = None
"""Given a run's engine and its `RunScope`: an engine that does the same and is watched. It sets `RunScope.observer`,
whose `start(task, call)` is told of each attempt at a node, and gives what is told of its end (`finished`, `failed`);
`call` runs a function in the attempt's own context."""


def watched(engine: Engine, scope: Any) -> Engine:
    """A run's engine, watched if somebody looks on."""
    return engine if follow is None else follow(engine, scope)
