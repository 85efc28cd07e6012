"""A saver on SQLite: where operations wait, for blocking callers and for event loops alike."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import weakref
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.serde import Codec, TypeRegistry
from clew.storage.operation import LogOp
from clew.storage.saver import HEADS_LIMIT, KEYFRAME_CHAIN, KEYFRAME_FACTOR, finished
from clew.storage.session import LogSession
from clew.storage.sqlite import SqliteTables, Synchronous
from clew.storage.worker import Worker
from clew.storage.writer import Job, WriteQueue

if TYPE_CHECKING:
    import asyncio

    from clew.checkpoint.serde.encrypted import EncryptedSerializer

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_SHORT = 32 * 1024  # bytes of a state in memory
_open_queues: weakref.WeakSet[WriteQueue] = weakref.WeakSet()


class SqliteSaver(CheckpointSaver):
    """Keeps checkpoints in a SQLite database; one object serves blocking and async callers, on any event loop.

    `conn` is a path, a `file:` URI, ":memory:", or an open connection: of a file, its path is opened once more; a
    database in memory is used through the connection itself, which must have `check_same_thread=False` if other
    threads use the saver. `synchronous="FULL"` (the default) makes every acknowledged write survive a power loss;
    "NORMAL" is about ten times faster per commit, survives a crash of the process, and may lose the last commits when
    the machine loses power, never leaving a hole. `busy_timeout` (seconds) bounds the wait for other processes.
    `tenant` binds the saver to one tenant's threads; see `with_tenant`.
    """

    def __init__(
        self,
        conn: sqlite3.Connection | str | os.PathLike[str],
        *,
        serde: Codec | JsonPlusSerializer | EncryptedSerializer | None = None,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 30.0,
        types: TypeRegistry | None = None,
        tenant: str = "",
        keyframe_factor: float = KEYFRAME_FACTOR,
        keyframe_chain: int = KEYFRAME_CHAIN,
        heads_limit: int = HEADS_LIMIT,
    ) -> None:
        super().__init__(
            serde=serde,
            types=types,
            tenant=tenant,
            keyframe_factor=keyframe_factor,
            keyframe_chain=keyframe_chain,
            heads_limit=heads_limit,
        )
        self.conn = conn
        self._attach(_tables(conn, synchronous, busy_timeout))

    def _attach(self, tables: SqliteTables) -> None:
        self.tables = tables
        self._writes = WriteQueue(tables.write_group)
        self._reads: deque[Callable[[], None]] = deque()
        self._reader = Worker("clew-reader", self._drain_reads)
        _open_queues.add(self._writes)

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, conn_string: str, **settings: Any) -> Generator[Self]:
        """Open a saver on a path, a `file:` URI or ":memory:", and close it at the end."""
        saver = cls(conn_string, **settings)
        try:
            yield saver
        finally:
            saver.close()

    def setup(self) -> None:
        """Make or upgrade the tables; done on first use by itself, idempotent, and safe to race."""
        self.tables.setup()

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file itself, such as an index that misses rows; `verify` reads the threads.

        Reads the whole file."""
        return self.tables.damage()

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it (a write: until it is durable)."""
        self.tables.check_usable()  # before any lock: one that was held at a fork stays so in the child
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
        self.tables.check_usable()
        if session.error is not None:
            raise session.error
        if op.is_write:
            return _outcome(await self._posted(op))
        if session.settled < session.submitted:
            await self.aflush(session)
        if self._is_short(op) and (found := self.tables.read_now(op.steps)) is not None:
            return finished(op, found[0])
        return await self._on_reader(lambda: finished(op, self.tables.read(op.steps)))

    def _is_short(self, op: LogOp[Any]) -> bool:
        """Whether reading takes less time than handing it to another thread: a row, or a state that is in memory."""
        if op.kind != "load":
            return op.kind == "row"
        size = self.heads.size_of(self.place(op.session.thread_id, "", op.session.tenant))
        return size is not None and size < _SHORT

    def submit(self, session: LogSession, op: LogOp[None]) -> None:
        """Queue a write of `session` behind its earlier ones and return at once."""
        self.tables.check_usable()
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
            await self._on_reader(lambda: self._writes.settle(session))
        self.flush(session)

    def close(self) -> None:
        """Write what was submitted and close the database; the saver cannot be used afterwards.

        Does nothing on a clone (`with_tenant`, `with_allowlist`): the storage is its original's."""
        if self.original is not None:
            return
        self._writes.close(_CLOSE_SECONDS)
        self.tables.close()
        _open_queues.discard(self._writes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        await self._on_reader(self.close)

    def _freed(self) -> None:
        self.tables.after_maintenance()

    async def _afreed(self) -> None:
        await self._on_reader(self.tables.after_maintenance)

    async def _posted(self, op: LogOp[Any]) -> Job:
        """Hand a write to the writer thread; it is carried out even if the caller stops waiting."""
        import asyncio  # late, for start-up time: whoever awaits this has loaded it

        loop = asyncio.get_running_loop()
        future: asyncio.Future[Job] = loop.create_future()

        def settle(job: Job) -> None:
            job.op.session.settled += 1
            _wake(loop, future, job)

        op.session.submitted += 1  # so that who stops waiting for it can still wait for it by a flush
        self._writes.post(Job(op, settle), hurry=True)
        return await future

    async def _on_reader(self, work: Callable[[], T]) -> T:
        """Run `work` on the reader thread."""
        import asyncio  # late, for start-up time: whoever awaits this has loaded it

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
    for queue in list(_open_queues):
        queue.close(_CLOSE_SECONDS)


def _tables(
    conn: sqlite3.Connection | str | os.PathLike[str], synchronous: Synchronous, busy_timeout: float
) -> SqliteTables:
    if not isinstance(conn, sqlite3.Connection):
        return SqliteTables(os.fspath(conn), synchronous=synchronous, busy_timeout=busy_timeout)
    path = next((row[2] for row in conn.execute("pragma database_list") if row[1] == "main"), "")
    given = None if path else conn
    return SqliteTables(path or ":memory:", synchronous=synchronous, busy_timeout=busy_timeout, connection=given)
