"""A saver on SQLite: where operations wait, for blocking callers and for event loops alike."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from clew.storage.saver import LogSaver, finished
from clew.storage.session import LogOp, LogSession
from clew.storage.sqlite import SqliteTables
from clew.storage.worker import Worker
from clew.storage.writer import Job, WriteQueue

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_open_savers: weakref.WeakSet[SqliteLogSaver] = weakref.WeakSet()


class SqliteLogSaver(LogSaver):
    """Runs operations on `SqliteTables`. Thread-safe, and bound to no event loop."""

    def __init__(self, tables: SqliteTables, **settings: Any) -> None:
        super().__init__(**settings)
        self.tables = tables
        self._writes = WriteQueue(tables.write_group)
        self._reads: deque[Callable[[], None]] = deque()
        self._reader = Worker("clew-reader", self._drain_reads)
        _open_savers.add(self)

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it (a write: until it is durable)."""
        session = op.session
        if session.error is not None:
            raise session.error
        if op.is_write:
            return _outcome(self._writes.run(op))
        if session.settled < session.submitted:
            self.flush(session)
        return finished(op, self.tables.read(op.steps))

    async def arun(self, op: LogOp[T]) -> T:
        """Run an operation without blocking the event loop."""
        session = op.session
        if self.tables.is_shared:  # a database in memory does not make a loop wait
            return self.run(op)
        if session.error is not None:
            raise session.error
        if op.is_write:
            return _outcome(await self._posted(op))
        if session.settled < session.submitted:
            await self.aflush(session)
        return await self._read(lambda: finished(op, self.tables.read(op.steps)))

    def submit(self, session: LogSession, op: LogOp[None]) -> None:
        """Queue a write of `session` behind its earlier ones and return at once."""
        if session.error is not None:
            raise session.error
        session.submitted += 1
        job = Job(op, _settle_submitted)
        if self.tables.is_shared:
            self._writes.run_job(job)
        else:
            self._writes.post(job)

    def flush(self, session: LogSession) -> None:
        """Wait until every submitted write of the session is durable; raise if one failed."""
        self._writes.settle(session)
        if session.error is not None:
            raise session.error

    async def aflush(self, session: LogSession) -> None:
        """As `flush`, without blocking the event loop."""
        if session.settled < session.submitted and not self.tables.is_shared:
            await self._read(lambda: self._writes.settle(session))
        self.flush(session)

    def close(self) -> None:
        """Write what was submitted and close the database; the saver cannot be used afterwards."""
        self._writes.close(_CLOSE_SECONDS)
        self.tables.close()
        _open_savers.discard(self)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.tables.close()

    async def _posted(self, op: LogOp[Any]) -> Job:
        """Hand a write to the writer thread; it is carried out even if the caller stops waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Job] = loop.create_future()
        self._writes.post(Job(op, lambda job: _wake(loop, future, job)))
        return await future

    async def _read(self, work: Callable[[], T]) -> T:
        """Run `work` on the reader thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = work()
            except BaseException as error:
                _wake(loop, future, error=error)
            else:
                _wake(loop, future, result)

        self._reads.append(run)
        self._reader.wake()
        return await future

    def _drain_reads(self) -> None:
        while self._reads:
            self._reads.popleft()()


def _outcome(job: Job) -> Any:
    if job.error is not None:
        raise job.error
    return finished(job.op, job.result)


def _settle_submitted(job: Job) -> None:
    if job.error is None:
        finished(job.op, job.result)
    job.op.session.settled += 1


def _wake(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any = None, error: BaseException | None = None
) -> None:
    """Give a result to a waiting coroutine of another thread's loop, if it still waits."""

    def settle() -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
        loop.call_soon_threadsafe(settle)


@atexit.register
def _flush_at_exit() -> None:
    for saver in list(_open_savers):
        with contextlib.suppress(Exception):
            saver.close()
