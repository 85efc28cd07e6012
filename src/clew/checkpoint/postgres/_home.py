"""Where the operations of one event loop wait: on the loop itself, many in one round trip, with no thread between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from clew.errors import StorageError
from clew.storage.operation import LogOp
from clew.storage.postgres.aio import Lane, LoopSource, run
from clew.storage.postgres.script import Script
from clew.storage.saver import finished
from clew.storage.session import LogSession
from clew.storage.writer import Job

if TYPE_CHECKING:
    from clew.checkpoint.postgres._saver import PostgresSaver

T = TypeVar("T")

_Load = tuple[LogOp[Any], "asyncio.Future[Any]"]
_LANES = 2
_QUEUE_BYTES = 16 * 1024 * 1024  # from then on runs wait for their writes
_PATIENCE = 0.5  # seconds that a blocking caller gives a loop, which may itself be waiting for the caller


class Home:
    """The operations of one event loop on a saver. Writes that are left when the loop ends go to the saver's threads,
    if it has connections for them."""

    def __init__(self, saver: PostgresSaver, source: LoopSource, *, can_rescue: bool) -> None:
        self._saver = saver
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._can_rescue = can_rescue
        self._preparing: asyncio.Lock | None = None
        self._lanes = [Lane(self._carry, self._rescue) for _ in range(_LANES)]
        self._loads: Lane[_Load] = Lane(self._carry_loads, self._give_up)
        self._bytes = 0  # of writes that nobody waits for
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed: dict[int, asyncio.Event] = {}

    async def set_up(self, *, post: bool = False) -> None:
        """Make or upgrade the tables."""
        await self._run(self._saver.tables.set_up(post=post, inside=False))
        self._saver.state.is_ready = True

    async def read(self, op: LogOp[Any]) -> Any:
        """Run a rule that only reads; loads and rows travel together. It is run to its end also if the caller stops
        waiting: a connection that is left in the middle of an answer is lost."""
        if op.kind == "read":
            reading = asyncio.get_running_loop().create_task(self._read(op))
            self._tasks.add(reading)
            reading.add_done_callback(self._has_read)
            return await asyncio.shield(reading)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._loads.post((op, future))
        result = await future
        if isinstance(result, BaseException):
            raise result
        return result

    async def _read(self, op: LogOp[Any]) -> Any:
        await self._make_ready()
        return await self._run(self._saver.tables.read(op.steps, op.tenant))

    def _has_read(self, reading: asyncio.Task[Any]) -> None:
        self._tasks.discard(reading)
        if not reading.cancelled():
            reading.exception()  # whoever still waits gets it; nobody else is to hear of it

    async def written(self, op: LogOp[Any]) -> Job:
        """Carry a write out, together with others that wait; also if the caller stops waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Job] = loop.create_future()

        def settle(job: Job) -> None:
            self._settled(job)
            _call(loop, partial(_set, future, job))

        op.session.submitted += 1  # so that who stops waiting for it can still wait for it by a flush
        self._lane(op.session).post(Job(op, settle))
        return await future

    def submit(self, op: LogOp[None]) -> None:
        """Queue a write."""

        def settle(job: Job) -> None:
            self._bytes -= job.op.size
            if job.error is None:
                finished(job.op, job.result)
            self._settled(job)

        op.session.submitted += 1
        self._bytes += op.size
        self._lane(op.session).post(Job(op, settle))

    @property
    def is_behind(self) -> bool:
        """Whether more bytes wait than should."""
        return self._bytes > _QUEUE_BYTES

    async def settled(self, session: LogSession) -> None:
        """Wait until every write that `session` queued so far is done."""
        while session.settled < session.submitted:
            changed = self._changed.setdefault(id(session), asyncio.Event())
            try:
                if session.settled < session.submitted:  # another thread may have done it just now
                    await changed.wait()
            finally:
                if self._changed.get(id(session)) is changed:  # not one that somebody else waits for by now
                    del self._changed[id(session)]

    async def drained(self) -> None:
        """Wait until nothing is queued."""
        for lane in self._lanes:
            await lane.drained()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def is_here(self) -> bool:
        """Whether the caller is on this event loop's thread, inside of it."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def take_over(self, session: LogSession) -> list[Job]:
        """The writes of a session that are not done, in order, for a blocking caller to carry."""
        if not self.is_here:  # then the loop may go on with them while the caller waits
            deadline = time.monotonic() + _PATIENCE
            while session.settled < session.submitted and time.monotonic() < deadline:
                time.sleep(0.001)
        sent, waiting = self._lane(session).take(lambda job: job.op.session is session)
        left = [job for job in (*sent, *waiting) if not job.is_done]
        for job in left:
            job.is_lost = True
        return left

    def _lane(self, session: LogSession) -> Lane[Job]:
        return self._lanes[hash((session.tenant, session.thread_id)) % _LANES]

    def _settled(self, job: Job) -> None:
        job.op.session.settled += 1
        self.notice(job.op.session)

    def notice(self, session: LogSession) -> None:
        """Wake who waits for the writes of a session: one of them is done."""
        changed = self._changed.get(id(session))
        if changed is not None:
            _call(self._loop, changed.set)

    async def _carry(self, jobs: list[Job]) -> None:
        try:
            await self._make_ready()
            await self._run(self._saver.tables.group(jobs, self._park))
        except Exception as error:
            self._saver.tables.fail(jobs, error)

    def _rescue(self, sent: list[Job], waiting: list[Job]) -> None:
        """The loop is ending: what was sent may be stored, or not."""
        left = [job for job in (*sent, *waiting) if not job.is_done]
        if not self._can_rescue:
            self._saver.tables.fail(left, _closed())
            return
        for job in left:
            job.is_lost = True
            self._saver.post(job, hurry=True)

    def _park(self, session: LogSession) -> None:
        """Go on with a session apart from the others: somebody else holds its thread's lock."""
        tables = self._saver.tables

        async def carry() -> None:
            try:
                await self._run(tables.parked(session))
            except Exception as error:
                tables.unpark(session, error)
            except BaseException:  # the loop is being closed
                if self._can_rescue:
                    tables.lose(session)
                    self._saver.park(session)
                else:
                    tables.unpark(session, _closed())
                raise

        task = asyncio.get_running_loop().create_task(carry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_loads(self, loads: list[_Load]) -> None:
        results: list[Any]
        try:
            await self._make_ready()
            results = await self._run(self._saver.tables.load([op for op, _ in loads]))
        except Exception as error:
            results = [error] * len(loads)
        for (_, future), result in zip(loads, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _give_up(self, sent: list[_Load], waiting: list[_Load]) -> None:
        for _, future in (*sent, *waiting):
            future.cancel()

    async def _make_ready(self) -> None:
        if self._saver.state.is_ready:
            return
        self._preparing = self._preparing or asyncio.Lock()
        async with self._preparing:
            if not self._saver.state.is_ready:
                if not await self._run(self._saver.tables.ready()):
                    await self.set_up()
                self._saver.state.is_ready = True

    async def _run(self, script: Script[T]) -> T:
        saver = self._saver
        return await run(script, self._source, patience=saver.pool_timeout, timeout=saver.settings.answer_timeout)


def _closed() -> StorageError:
    return StorageError(
        "the event loop was closed before the write was done; it may be stored",
        hint="run it again: it goes on from what is stored",
    )


def _call(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Call something that belongs to `loop`, from whichever thread."""
    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_here = False
    if is_here:
        act()
    else:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(act)


def _set(future: asyncio.Future[Job], job: Job) -> None:
    if not future.done():
        future.set_result(job)
