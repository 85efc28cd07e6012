"""A store whose concurrent async operations travel together.

Operations that are started in the same turn of an event loop are run as one `abatch`, so a hundred concurrent puts cost
one transaction. Nothing is tied to the loop in which the store was made.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from clew.errors import CorruptRecordError, SchemaVersionError
from clew.store.base._op import Op, PutOp, Result
from clew.store.base._plan import op_identity
from clew.store.base._store import BaseStore

__all__ = ("AsyncBatchedBaseStore",)

# What is wrong with one operation or one item. Any other error, such as a locked file, would meet each of them again.
_FAULTS_OF_ONE = (ValueError, TypeError, CorruptRecordError, SchemaVersionError)

_Waiting = tuple[Op, "asyncio.Future[Result]"]
_Execute = Callable[[Sequence[Op]], Coroutine[Any, Any, list[Result]]]


class AsyncBatchedBaseStore(BaseStore):
    """Collects async operations and runs them together; a subclass implements `abatch`.

    Operations reach `abatch` in the order in which they were started. If a batch fails because one of its operations is
    bad, each is run again alone, so that the bad one fails for its caller only. Sync methods run on the loop that the
    store was last used in, from another thread; a subclass that can do better overrides `batch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._part_queues()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def _part_queues(self) -> None:
        """Begin with nothing waiting; also for a copy of a store, whose operations do not travel with the other's."""
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = weakref.WeakKeyDictionary()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations on the store's event loop, from another thread.

        Raises:
            asyncio.InvalidStateError: Called in the thread of that loop, which it would block forever, or before the
                store was used in any loop.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if self._loop is None:
            raise asyncio.InvalidStateError(
                f"this {type(self).__name__} has not been used in an event loop yet; use the async methods"
            )
        if running is self._loop:
            raise asyncio.InvalidStateError(
                f"a sync call of {type(self).__name__} would wait for the event loop that has to run it; "
                "use the async method, such as `await store.aget(...)`"
            )
        return asyncio.run_coroutine_threadsafe(self.abatch(ops), self._loop).result()

    async def _arun(self, op: Op) -> Result:
        loop = self._loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue()
        return await queue.run(op, self.abatch)


class _Queue:
    """The operations that wait in one event loop, and the task that runs them.

    Invariant: while operations wait, exactly one task runs them, batch after batch, so they keep their order.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, op: Op, execute: _Execute) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((op, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(execute))
        return await future

    async def _drain(self, execute: _Execute) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await _run_together([pair for pair in waiting if not pair[1].done()], execute)


async def _run_together(waiting: list[_Waiting], execute: _Execute) -> None:
    ops, positions = dedupe([op for op, _ in waiting])
    try:
        results = await execute(ops) if ops else []
    except Exception as error:
        if len(waiting) > 1 and isinstance(error, _FAULTS_OF_ONE):
            for pair in waiting:
                await _run_together([pair], execute)
        else:
            for _, future in waiting:
                _reject(future, error)
        return
    for (_, future), position in zip(waiting, positions, strict=True):
        if not future.done():  # its caller may have been cancelled meanwhile
            future.set_result(results[position])


def _reject(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def dedupe(ops: Sequence[Op]) -> tuple[list[Op], list[int]]:
    """The distinct operations, and for each given one the position of its result among theirs.

    Equal reads are one operation; of several puts of one item the last stands in the place of the first.
    """
    distinct: list[Op] = []
    seen: dict[object, int] = {}
    positions: list[int] = []
    for op in ops:
        identity = op_identity(op)
        position = seen.setdefault(identity, len(distinct))
        if position == len(distinct):
            distinct.append(op)
        elif isinstance(op, PutOp):
            distinct[position] = op
        positions.append(position)
    return distinct, positions
