"""Scripts on an event loop: connections that belong to it, and waiting without blocking it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from clew.storage.postgres.connections import Source, check_given, failed_connects, late, where_is
from clew.storage.postgres.faults import Fault, fault_of
from clew.storage.postgres.script import Pause, Script
from clew.storage.postgres.wire import WRITE, NoAnswerError, Waits, Wire
from clew.storage.query import Row

T = TypeVar("T")
J = TypeVar("J")

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

    async def discard(self, wire: Wire) -> None:
        """Take a connection back that is of no use: where there are others, it is closed."""
        ...


class LoopPool:
    """Connections of a `psycopg_pool.AsyncConnectionPool`."""

    def __init__(self, pool: Any, *, prepare: bool) -> None:
        conninfo = getattr(pool, "conninfo", None)
        self.where = where_is(conninfo) if isinstance(conninfo, str) else "the database"
        self._pool = pool
        self._prepare = prepare
        self._errors = failed_connects(pool)

    async def take(self, seconds: float) -> Wire:
        try:
            return Wire(await self._pool.getconn(seconds), prepare=self._prepare)
        except PoolTimeout as error:
            known, self._errors = self._errors, failed_connects(self._pool)
            raise late(error, is_failing=self._errors > known) from error

    async def give_back(self, wire: Wire) -> None:
        if not wire.is_idle:
            await self.discard(wire)
            return
        with contextlib.suppress(Exception):
            await self._pool.putconn(wire.connection)

    async def discard(self, wire: Wire) -> None:
        await wire.connection.close()  # pyright: ignore[reportGeneralTypeIssues] - an AsyncConnection here
        with contextlib.suppress(Exception):
            await self._pool.putconn(wire.connection)


class LoopConnection:
    """One `psycopg.AsyncConnection`; callers wait for each other."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], *, prepare: bool) -> None:
        self.where = where_is(connection.info.dsn)
        self._connection = connection
        self._prepare = prepare
        self._lock = connection.lock  # psycopg's own, as in `ConnectionSource`

    async def take(self, seconds: float) -> Wire:
        await self._lock.acquire()
        try:
            check_given(self._connection, self.where, pool="an AsyncConnectionPool")
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

    async def discard(self, wire: Wire) -> None:
        await self.give_back(wire)  # the only one there is, and its owner's


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
            except Exception as error:
                is_of_no_use = isinstance(error, psycopg.Error) and fault_of(error) is Fault.RECONNECT
                if wire is not None and (wire.is_dead or is_of_no_use):
                    given, wire = wire, None
                    await source.discard(given)
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


class Borrowed:
    """Connections that any thread may use, for the length of a script on an event loop."""

    def __init__(self, source: Source) -> None:
        self.where = source.where
        self._source = source

    async def take(self, seconds: float) -> Wire:
        wire = self._source.take_now()
        # From now on a blocking call on this thread must not wait: the connection that comes may be the only one, and
        # the loop, which is to take it and give it back, would not go on.
        self._source.lent[threading.get_ident()] += 1
        if wire is not None:
            return wire
        taking = asyncio.get_running_loop().run_in_executor(None, self._source.take, seconds)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._not_wanted)
            raise
        except BaseException:
            self._source.lent[threading.get_ident()] -= 1
            raise

    async def give_back(self, wire: Wire) -> None:
        self._source.lent[threading.get_ident()] -= 1
        self._source.give_back(wire)

    async def discard(self, wire: Wire) -> None:
        self._source.lent[threading.get_ident()] -= 1
        self._source.discard(wire)

    def _not_wanted(self, taking: asyncio.Future[Wire]) -> None:
        self._source.lent[threading.get_ident()] -= 1
        if not taking.cancelled() and taking.exception() is None:
            self._source.give_back(taking.result())


class Lane(Generic[J]):
    """What waits to be carried by a task of the loop: all that waits at the same time travels together.

    `carry` carries a group; `rescue` gets what is left if the loop ends in the middle: what was sent, and what was not.
    """

    def __init__(self, carry: Callable[[list[J]], Awaitable[None]], rescue: Callable[[list[J], list[J]], None]) -> None:
        self._carry = carry
        self._rescue = rescue
        self._lock = threading.Lock()
        self._waiting: deque[J] = deque()
        self._sent: list[J] = []
        self._task: asyncio.Task[None] | None = None

    def post(self, one: J) -> None:
        """Queue something."""
        with self._lock:  # another thread may be looking through it
            self._waiting.append(one)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    def take(self, wanted: Callable[[J], bool]) -> tuple[list[J], list[J]]:
        """Take over what is `wanted`, from whichever thread: what is being carried, and what waits for it."""
        with self._lock:
            sent = [one for one in self._sent if wanted(one)]
            waiting = [one for one in self._waiting if wanted(one)]
            for one in waiting:
                self._waiting.remove(one)
        return sent, waiting

    async def drained(self) -> None:
        """Wait until nothing is queued."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                with self._lock:
                    self._sent = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
                await self._carry(self._sent)
                self._sent = []
        except BaseException:  # the loop is being closed
            self._rescue(*self.take(lambda _: True))
            raise
        finally:
            self._sent = []
            self._task = None
