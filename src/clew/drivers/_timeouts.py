"""Run and idle limits of one attempt of an async node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from clew._scope import TaskScope
from clew.engine.task import Task
from clew.errors import NodeTimeoutError

T = TypeVar("T")


async def limited(work: Awaitable[T], task: Task, scope: TaskScope) -> T:
    """Await `work` within the task's limits; raises `NodeTimeoutError` saying which one it exceeded.

    Progress (see `TimeoutPolicy.refresh_on`) moves the idle limit. What the attempt wrote is dropped with it.
    """
    policy = task.timeout
    assert policy is not None
    loop = asyncio.get_running_loop()
    begun = loop.time()
    run_limit, idle_limit = _seconds(policy.run_timeout), _seconds(policy.idle_timeout)
    idle = asyncio.timeout(idle_limit)

    def progress(is_heartbeat: bool) -> None:
        if idle_limit is not None and (is_heartbeat or policy.refresh_on == "auto"):
            loop.call_soon_threadsafe(_postpone, idle, loop.time() + idle_limit)

    scope.progress = progress
    run = asyncio.timeout(run_limit)
    try:
        async with run, idle:
            return await work
    except TimeoutError:
        kind = "run" if run.expired() else "idle"
        if not (run.expired() or idle.expired()):
            raise
        raise NodeTimeoutError(
            task.name, loop.time() - begun, kind=kind, run_timeout=run_limit, idle_timeout=idle_limit
        ) from None


def _postpone(timeout: asyncio.Timeout, when: float) -> None:
    if not timeout.expired() and timeout.when() is not None:
        try:
            timeout.reschedule(when)
        except RuntimeError:
            pass  # the attempt has just ended


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None  # coerced when the graph was built
