"""The PostgreSQL saver under the name that async code knows, and on connections of one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Self, TypeVar, cast

import psycopg

from clew.checkpoint.postgres._saver import PostgresSaver
from clew.errors import StorageError
from clew.storage.operation import LogOp
from clew.storage.postgres.aio import LoopConnection, LoopLane, LoopPool, LoopSource, run
from clew.storage.postgres.connections import Source
from clew.storage.postgres.script import Script
from clew.storage.postgres.tables import Settings
from clew.storage.saver import finished
from clew.storage.session import LogSession
from clew.storage.writer import Job

__all__ = ("AsyncPostgresSaver",)

T = TypeVar("T")


class AsyncPostgresSaver(PostgresSaver):
    """A `PostgresSaver` whose `from_conn_string` is an async context manager.

    Made from a connection string or a `ConnectionPool` it is the same object as that, and serves blocking and async
    callers on any event loop. It also takes a `psycopg.AsyncConnection` or an `AsyncConnectionPool`: those belong to
    one event loop, and so does the saver then.
    """

    _home: _Home | None = None  # where it is bound to one event loop

    def __init__(self, conn: Any, **settings: Any) -> None:
        super().__init__(conn, **settings)
        if isinstance(self._link, _NotHere):
            self._home = _Home(self, self._link.source)

    def _source(self, conn: Any, settings: Settings, min_size: int, max_size: int) -> Source:
        if isinstance(conn, psycopg.AsyncConnection):
            return _NotHere(LoopConnection(cast("psycopg.AsyncConnection[Any]", conn), prepare=settings.prepare))
        if asyncio.iscoroutinefunction(getattr(conn, "getconn", None)):
            return _NotHere(LoopPool(conn, prepare=settings.prepare))
        return super()._source(conn, settings, min_size, max_size)

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(  # pyright: ignore[reportIncompatibleMethodOverride] - the name in the field
        cls, conn_string: str, **settings: Any
    ) -> AsyncGenerator[Self]:
        """Open a saver on a connection string, with a pool of its own, and close it at the end."""
        saver = cls(conn_string, **settings)
        try:
            yield saver
        finally:
            await saver.aclose()

    async def setup(self, *, post: bool = False) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make or upgrade the tables; done on first use by itself, idempotent, and safe to race."""
        if self._home is not None:
            await self._home.set_up(post=post)
            return
        await self._on_reader(lambda: PostgresSaver.setup(self, post=post))

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it."""
        if self._home is not None:
            raise self._home.elsewhere("a blocking call")
        return super().run(op)

    async def arun(self, op: LogOp[T]) -> T:
        """Run an operation without blocking the event loop."""
        if self._home is None:
            return await super().arun(op)
        self._check_usable()
        session = op.session
        if session.error is not None:
            raise session.error
        if op.is_write:
            job = await self._home.written(op)
            if job.error is not None:
                raise job.error
            return finished(op, job.result)
        if session.settled < session.submitted:
            await self.aflush(session)
        return finished(op, await self._home.read(op))

    def submit(self, session: LogSession, op: LogOp[None]) -> None:
        """Queue a write of `session` behind its earlier ones and return at once."""
        if self._home is None:
            super().submit(session, op)
            return
        self._check_usable()
        if session.error is not None:
            raise session.error
        self._home.submit(op)

    def flush(self, session: LogSession) -> None:
        """Raise if a submitted write of the session failed, after waiting for those that are not done."""
        if self._home is None:
            super().flush(session)
            return
        if session.error is not None:
            raise session.error
        if session.settled < session.submitted:
            raise self._home.elsewhere("a blocking call")

    async def aflush(self, session: LogSession) -> None:
        """As `flush`, without blocking the event loop."""
        if self._home is None:
            await super().aflush(session)
            return
        while session.settled < session.submitted:
            await self._home.settled(session)
        self.flush(session)

    async def aclose(self) -> None:
        """Write what was submitted and close the pool, if it is the saver's own; it cannot be used afterwards."""
        if self._home is not None:
            if self.original is None:
                await self._home.drained()
                self._state.is_closed = True
            return
        await super().aclose()


class _NotHere:
    """In place of connections for any thread, where those that were given belong to an event loop."""

    has_settings = False

    def __init__(self, source: LoopSource) -> None:
        self.source = source
        self.where = source.where

    def take(self, seconds: float) -> Any:
        raise StorageError(f"the connections to {self.where} belong to an event loop", hint=_HINT)

    def give_back(self, wire: Any) -> None:
        pass

    def close(self) -> None:
        pass


_HINT = "use from_conn_string, or give the saver a ConnectionPool: then it serves every thread and event loop"


class _Home:
    """Operations on the connections of one event loop."""

    def __init__(self, saver: AsyncPostgresSaver, source: LoopSource) -> None:
        self._tables = saver.tables
        self._source = source
        self._patience, self._timeout = saver._pool_timeout, saver._settings.answer_timeout  # pyright: ignore[reportPrivateUsage]
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._is_ready = False
        self._preparing: asyncio.Lock | None = None
        self._lane = LoopLane(lambda jobs: self._tables.group(jobs, self._park), self._run_ready)
        self._parked: set[asyncio.Task[None]] = set()
        self._changed: dict[int, asyncio.Event] = {}

    def elsewhere(self, what: str) -> StorageError:
        """The error of a caller that is not on the loop."""
        return StorageError(
            f"{what} cannot use a saver whose connections to {self._source.where} belong to an event loop", hint=_HINT
        )

    async def set_up(self, *, post: bool = False) -> None:
        """Make or upgrade the tables."""
        self._check_loop()
        await self._run(self._tables.set_up(post=post, inside=False))
        self._is_ready = True

    async def read(self, op: LogOp[Any]) -> Any:
        """Run a rule that only reads."""
        self._check_loop()
        if op.kind != "load":
            return await self._run_ready(self._tables.read(op.steps, op.tenant))
        result = (await self._run_ready(self._tables.load([op])))[0]
        if isinstance(result, BaseException):
            raise result
        return result

    async def written(self, op: LogOp[Any]) -> Job:
        """Carry a write out, together with others that wait; also if the caller stops waiting."""
        self._check_loop()
        future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()

        def settle(job: Job) -> None:
            self._settled(job)
            if not future.done():
                future.set_result(job)

        op.session.submitted += 1
        self._lane.post(Job(op, settle))
        return await future

    def submit(self, op: LogOp[None]) -> None:
        """Queue a write."""
        self._check_loop()
        op.session.submitted += 1

        def settle(job: Job) -> None:
            if job.error is None:
                finished(job.op, job.result)
            self._settled(job)

        self._lane.post(Job(op, settle))

    async def settled(self, session: LogSession) -> None:
        """Wait until one more write of the session is done."""
        self._check_loop()
        changed = self._changed.setdefault(id(session), asyncio.Event())
        try:
            await changed.wait()
        finally:
            self._changed.pop(id(session), None)

    async def drained(self) -> None:
        """Wait until nothing is queued."""
        await self._lane.drained()
        if self._parked:
            await asyncio.wait(self._parked)

    def _settled(self, job: Job) -> None:
        job.op.session.settled += 1
        changed = self._changed.get(id(job.op.session))
        if changed is not None:
            changed.set()

    def _park(self, session: LogSession) -> None:
        task = asyncio.get_running_loop().create_task(self._run(self._tables.parked(session)))
        self._parked.add(task)
        task.add_done_callback(self._parked.discard)

    async def _run_ready(self, script: Script[T]) -> T:
        if not self._is_ready:
            self._preparing = self._preparing or asyncio.Lock()
            async with self._preparing:
                if not self._is_ready and not await self._run(self._tables.ready()):
                    await self.set_up()
                self._is_ready = True
        return await self._run(script)

    async def _run(self, script: Script[T]) -> T:
        return await run(script, self._source, patience=self._patience, timeout=self._timeout)

    def _check_loop(self) -> None:
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        if self._loop is not running:
            raise self.elsewhere("another event loop")
