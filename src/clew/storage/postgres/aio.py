"""Scripts on an event loop: connections that belong to it, and waiting without blocking it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import psycopg

from clew.errors import StorageError
from clew.storage.postgres.connections import where_is
from clew.storage.postgres.script import Pause, Script
from clew.storage.postgres.wire import WRITE, NoAnswerError, Waits, Wire
from clew.storage.query import Row
from clew.storage.writer import Job

T = TypeVar("T")

_GROUP = 512  # writes in one transaction at most


class LoopSource(Protocol):
    """Gives connections of one event loop."""

    where: str

    async def take(self, seconds: float) -> Wire:
        """A connection; raises psycopg's errors if there is none within `seconds`."""
        ...

    async def give_back(self, wire: Wire) -> None:
        """Take a connection back, whatever state it is in."""
        ...


class LoopPool:
    """Connections of a `psycopg_pool.AsyncConnectionPool`."""

    def __init__(self, pool: Any, *, prepare: bool) -> None:
        conninfo = getattr(pool, "conninfo", None)
        self.where = where_is(conninfo) if isinstance(conninfo, str) else "the database"
        self._pool = pool
        self._prepare = prepare

    async def take(self, seconds: float) -> Wire:
        return Wire(await self._pool.getconn(seconds), prepare=self._prepare)

    async def give_back(self, wire: Wire) -> None:
        if not wire.is_idle:
            await wire.connection.close()  # pyright: ignore[reportGeneralTypeIssues] - an AsyncConnection here
        with contextlib.suppress(Exception):
            await self._pool.putconn(wire.connection)


class LoopConnection:
    """One `psycopg.AsyncConnection`; callers wait for each other."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], *, prepare: bool) -> None:
        self.where = where_is(connection.info.dsn)
        self._connection = connection
        self._prepare = prepare
        self._lock = asyncio.Lock()

    async def take(self, seconds: float) -> Wire:
        await self._lock.acquire()
        try:
            if self._connection.closed:
                raise StorageError(
                    f"the connection to {self.where} that the saver was given is closed",
                    hint="give it an AsyncConnectionPool, or use from_conn_string: those reconnect",
                )
            if self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                raise StorageError(
                    f"the connection to {self.where} has a transaction open that is not the saver's",
                    hint="commit it before the saver is used, or open the connection with autocommit=True",
                )
        except BaseException:
            self._lock.release()
            raise
        return Wire(self._connection, prepare=self._prepare)

    async def give_back(self, wire: Wire) -> None:
        try:
            if not wire.is_idle and not wire.is_dead:
                wire.connection.pgconn.exec_(b"rollback")
        finally:
            self._lock.release()


async def run(script: Script[T], source: LoopSource, *, patience: float, timeout: float) -> T:
    """As `clew.storage.postgres.script.run`, on the running event loop."""
    wire: Wire | None = None
    try:
        effect = next(script)
        while True:
            if isinstance(effect, Pause):
                if wire is not None:
                    given, wire = wire, None
                    await source.give_back(given)
                await asyncio.sleep(effect.seconds)
                effect = script.send([])
                continue
            try:
                if wire is None:
                    wire = await source.take(patience)
                rows = await wait(wire, wire.exchange(effect.calls, effect.on_sent), timeout=timeout)
            except psycopg.Error as error:
                if wire is not None and wire.is_dead:
                    given, wire = wire, None
                    await source.give_back(given)
                effect = script.throw(error)
            else:
                effect = script.send(rows)
    except StopIteration as stop:
        return stop.value
    finally:
        if wire is not None:
            await source.give_back(wire)
        script.close()


async def wait(wire: Wire, steps: Waits, *, timeout: float) -> list[list[Row]]:
    """As `clew.storage.postgres.wire.wait`, on the running event loop."""
    loop = asyncio.get_running_loop()
    try:
        wants = next(steps)
        while True:
            await _ready(loop, wire.socket, wants, timeout)
            wants = steps.send(None)
    except StopIteration as stop:
        return stop.value
    except BaseException:
        steps.close()
        raise


async def _ready(loop: asyncio.AbstractEventLoop, socket: int, wants: int, timeout: float) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(socket, wake)
    if wants & WRITE:
        loop.add_writer(socket, wake)
    try:
        await asyncio.wait_for(ready, timeout)
    except TimeoutError:
        raise NoAnswerError(f"the server has not answered for {timeout:g} seconds") from None
    finally:
        loop.remove_reader(socket)
        if wants & WRITE:
            loop.remove_writer(socket)


class LoopLane:
    """Writes that wait, carried by a task of the loop: all that wait at the same time travel together."""

    def __init__(
        self, script_of: Callable[[list[Job]], Script[None]], run_script: Callable[[Script[None]], Any]
    ) -> None:
        self._script_of = script_of
        self._run = run_script
        self._jobs: deque[Job] = deque()
        self._task: asyncio.Task[None] | None = None

    def post(self, job: Job) -> None:
        """Queue a write."""
        self._jobs.append(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def drained(self) -> None:
        """Wait until nothing is queued."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._jobs:
                group = [self._jobs.popleft() for _ in range(min(len(self._jobs), _GROUP))]
                try:
                    await self._run(self._script_of(group))
                except BaseException as error:
                    known = isinstance(error, StorageError)
                    failure = error if known else StorageError("the write was interrupted; it may be stored")
                    for job in group:
                        if not job.is_done and job.op.session.parked is None:
                            job.settle(error=failure)
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._task = None
