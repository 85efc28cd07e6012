"""Scripts on real connections: blocking for threads, awaiting for the tasks of one event loop.

What fails for a reason that passes is run again as a whole, with a growing pause, for a bounded time; what does not,
and what stays, is a typed error. Inside a transaction of a connection's owner nothing is run again: only the owner can.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import psycopg
from psycopg.waiting import wait_async

from clew.errors import StorageError
from clew.storage.postgres.faults import Fault, fault_of, pause, typed
from clew.storage.postgres.wire import Call, Wire, wait
from clew.store.base import InvalidOpError
from clew.store.postgres._script import Conversation, Script, conversation
from clew.store.postgres._sources import AsyncSource, Source

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE: Final = 30.0  # seconds
_SILENCE: Final = 600.0  # seconds without an answer: an index may be long in the making
_TOO_LONG: Final = "54000"  # of a row of an index
_MOST_CANCELLED: Final = 2  # how often a statement is tried that the server gives up on


class _Attempts:
    """How long one unit of work has been tried, and whether it is tried again."""

    def __init__(self, where: str, patience: float) -> None:
        self._where = where
        self._start = time.monotonic()
        self._patience = patience
        self._failed = 0

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._start + self._patience - time.monotonic())

    def after(self, error: psycopg.Error, *, is_nested: bool) -> float:
        """How long to wait before the next attempt.

        Raises:
            StorageError: There is to be none.
        """
        self._failed += 1
        fault, seconds = fault_of(error), pause(self._failed)
        is_closed = type(error).__name__ == "PoolClosed"
        if is_closed:
            raise StorageError(f"the pool of {self._where} is closed", hint="use the store inside its `with` block")
        if error.sqlstate == _TOO_LONG:
            raise InvalidOpError(
                f"a namespace and its key are too long for an index of {self._where}: {error}",
                hint="use a shorter key, such as a hash of it",
            ) from error
        gives_up = fault is Fault.TIMEOUT and self._failed >= _MOST_CANCELLED
        if is_nested or fault is Fault.FATAL or gives_up or seconds >= self.seconds_left:
            raise typed(error, self._where, seconds=time.monotonic() - self._start) from error
        return seconds


class Database:
    """Scripts for threads; `run_in_thread` is for tasks of any event loop."""

    def __init__(self, source: Source, *, patience: float = PATIENCE) -> None:
        self.where = source.where
        self._source = source
        self._patience = patience
        self._executor: ThreadPoolExecutor | None = None
        self._executor_lock = threading.Lock()  # never held for long, so an event loop may take it

    def run(self, script: Callable[[], Script[T]], settings: Sequence[Call] = ()) -> T:
        """Run a script to its end; `script` makes it anew for each attempt."""
        attempts = _Attempts(self.where, self._patience)
        while True:
            wire: Wire | None = None
            is_nested = False
            try:
                wire = self._source.take(attempts.seconds_left)
                is_nested = not wire.is_idle and not wire.is_dead
                return _drive(wire, conversation(script(), is_nested=is_nested, settings=settings))
            except psycopg.Error as error:
                seconds = attempts.after(error, is_nested=is_nested)
                is_lost = fault_of(error) is Fault.RECONNECT
            finally:
                if wire is not None:
                    self._source.give_back(wire)
            time.sleep(seconds)
            if is_lost:
                self._source.renew()

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, which blocks, without blocking the event loop."""
        with self._executor_lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._source.threads, thread_name_prefix="clew-postgres")
        job = partial(contextvars.copy_context().run, partial(work, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)

    def close(self) -> None:
        """Finish what runs, and close what was opened here."""
        with self._executor_lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        self._source.close()


class AsyncDatabase:
    """Scripts for the tasks of one event loop."""

    def __init__(self, source: AsyncSource, *, patience: float = PATIENCE) -> None:
        self.where = source.where
        self._source = source
        self._patience = patience

    async def run(self, script: Callable[[], Script[T]], settings: Sequence[Call] = ()) -> T:
        """Run a script to its end. One that has begun is not cut off by a cancellation, which would cost the
        connection: it ends first."""
        task = asyncio.create_task(self._run(script, settings))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen: the cancellation is what the caller gets
            raise

    async def _run(self, script: Callable[[], Script[T]], settings: Sequence[Call]) -> T:
        attempts = _Attempts(self.where, self._patience)
        while True:
            wire: Wire | None = None
            is_nested = False
            try:
                wire = await self._source.take(attempts.seconds_left)
                is_nested = not wire.is_idle and not wire.is_dead
                talk = conversation(script(), is_nested=is_nested, settings=settings)
                return await _adrive(wire, talk)
            except psycopg.Error as error:
                seconds = attempts.after(error, is_nested=is_nested)
                is_lost = fault_of(error) is Fault.RECONNECT
            finally:
                if wire is not None:
                    await self._source.give_back(wire)
            await asyncio.sleep(seconds)
            if is_lost:
                await self._source.renew()


def _drive(wire: Wire, talk: Conversation[T]) -> T:
    try:
        calls = next(talk)
        while True:
            try:
                rows = wait(wire, wire.exchange(calls), timeout=_SILENCE)
            except psycopg.Error as error:
                calls = _after(wire, talk, error)
            else:
                calls = talk.send(rows)
    except StopIteration as stop:
        return stop.value


async def _adrive(wire: Wire, talk: Conversation[T]) -> T:
    try:
        calls = next(talk)
        while True:
            try:
                steps: Any = wire.exchange(calls)  # it yields the numbers that psycopg waits by
                async with asyncio.timeout(_SILENCE):
                    rows = await wait_async(steps, wire.socket)
            except psycopg.Error as error:
                calls = _after(wire, talk, error)
            else:
                calls = talk.send(rows)
    except StopIteration as stop:
        return stop.value


def _after(wire: Wire, talk: Conversation[T], error: psycopg.Error) -> list[Call]:
    """What is said after an error, which is raised again at the end; nothing to a server that is gone."""
    calls = talk.throw(error)
    if wire.is_dead:
        talk.close()
        raise error
    return calls
