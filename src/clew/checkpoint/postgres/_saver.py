"""A saver on PostgreSQL: where operations wait, for blocking callers and for event loops alike.

Writes travel in lanes: those of one thread always in the same one, those of a lane that wait at the same time together.
Whoever finds a lane free carries what waits in it. Operations of an event loop wait on that loop (`_home`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.errors import InvalidTenantError, MissingExtraError, StorageError
from clew.serde import Codec, TypeRegistry
from clew.storage.operation import LogOp
from clew.storage.saver import HEADS_LIMIT, KEYFRAME_CHAIN, KEYFRAME_FACTOR, finished
from clew.storage.session import LogSession
from clew.storage.writer import Job, WriteQueue

try:
    import psycopg

    from clew.storage.postgres.connections import (
        ConnectionSource,
        Source,
        given_pool,
        open_pool,
        refuse_loops,
        refuse_pipe,
    )
    from clew.storage.postgres.script import Script, run
    from clew.storage.postgres.tables import PostgresTables, Settings
    from clew.storage.postgres.wire import Wire
except ImportError as error:
    if (error.name or "").startswith("clew."):
        raise
    raise MissingExtraError("a saver on PostgreSQL", "postgres") from error

if TYPE_CHECKING:
    from clew.checkpoint.postgres._home import Home
    from clew.checkpoint.serde.encrypted import EncryptedSerializer

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_LANES = 2
_counting = threading.Lock()
_open_savers: weakref.WeakSet[PostgresSaver] = weakref.WeakSet()


class PostgresSaver(CheckpointSaver):
    """Keeps checkpoints in a PostgreSQL database; one object serves blocking and async callers, on any event loop.

    `conn` is a `psycopg.Connection`, a `psycopg_pool.ConnectionPool`, or a connection string (`from_conn_string` also
    closes it). Connections are used for the length of a round trip, in transactions of their own, whatever their row
    factory or autocommit setting is.

    `schema` is where the tables are (by default wherever the connections' search_path leads). `prepare=False`
    prepares no statements and sets nothing for a session, for a proxy that shares connections between clients.
    `commit="fast"` commits with `synchronous_commit=off`: a crash of the server may lose the last commits (about
    0.2 to 0.6 seconds of them), never leaving a hole. `row_security=True` names the tenant in every transaction,
    for the policies that `setup` makes then; every call needs a tenant. Times in seconds: `retry_for` bounds how
    long a database that is gone or refuses is tried again, `lock_wait` how long a row that another client holds is
    waited for, `answer_timeout` how long a server may be silent, `pool_timeout` how long to wait for a free
    connection at a time. `tenant` binds the saver to one tenant's threads; see `with_tenant`.

    `pipe` and `pipeline` are LangGraph's. What can travel together does so in any case, in pipelines of the saver's
    own: `pipeline` changes nothing, and a pipeline that is open on the connection is refused.

    Raises:
        StorageError: The connection string cannot be read, `conn` belongs to an event loop, or `pipe` is one.
    """

    def __init__(
        self,
        conn: Any,
        pipe: None = None,
        serde: Codec | JsonPlusSerializer | EncryptedSerializer | None = None,
        *,
        pipeline: bool = False,
        schema: str | None = None,
        prepare: bool = True,
        commit: Literal["durable", "fast"] = "durable",
        row_security: bool = False,
        min_size: int = 1,
        max_size: int = 8,
        pool_timeout: float = 10.0,
        retry_for: float = 30.0,
        lock_wait: float = 10.0,
        answer_timeout: float = 60.0,
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
        refuse_pipe(pipe, "saver")
        if commit not in ("durable", "fast"):
            raise ValueError(f"commit is {commit!r}, not 'durable' or 'fast'")
        settings = Settings(
            schema=schema,
            prepare=prepare,
            is_fast=commit == "fast",
            row_security=row_security,
            retry_for=retry_for,
            lock_wait=lock_wait,
            answer_timeout=answer_timeout,
        )
        self.conn = conn
        self.pool_timeout = pool_timeout
        self._attach(self._source(conn, settings, min_size, max_size), settings)

    def _attach(self, source: Source, settings: Settings) -> None:
        self.settings = settings
        self._link = source
        self.tables = PostgresTables(source.where, settings, has_settings=source.has_settings)
        self._lanes = [WriteQueue(self._carry) for _ in range(_LANES)]
        self._homes: weakref.WeakKeyDictionary[Any, Home] = weakref.WeakKeyDictionary()
        self.state = _State()
        _open_savers.add(self)

    def _source(self, conn: Any, settings: Settings, min_size: int, max_size: int) -> Source:
        if isinstance(conn, str):
            return open_pool(
                conn,
                min_size=min_size,
                max_size=max_size,
                settings=settings.of_connection(),
                is_direct=settings.prepare,
            )
        if isinstance(conn, psycopg.Connection):
            return ConnectionSource(cast("psycopg.Connection[Any]", conn), prepare=settings.prepare)
        refuse_loops(conn, "AsyncPostgresSaver")
        if hasattr(conn, "getconn") and hasattr(conn, "putconn"):
            return given_pool(conn, prepare=settings.prepare)
        raise TypeError(
            f"conn is a {type(conn).__name__}, neither a connection string, a psycopg Connection nor a ConnectionPool"
        )

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, conn_string: str, **settings: Any) -> Generator[Self]:
        """Open a saver on a connection string, with a pool of its own, and close it at the end.

        `settings` are those of the class; `min_size` and `max_size` are the pool's.
        """
        saver = cls(conn_string, **settings)
        try:
            yield saver
        finally:
            saver.close()

    def setup(self, *, post: bool = False) -> None:
        """Make or upgrade the tables; done on first use by itself, idempotent, and safe to race.

        `post` also does what takes away things that only older versions of clew use: when no replica runs one any more.
        With a connection that was given and has a transaction open, it is part of that transaction.
        """
        self._check_usable()
        wire = self._link.take_inside() if isinstance(self._link, ConnectionSource) else None
        self._run(self.tables.set_up(post=post, inside=wire is not None), wire)
        self.state.is_ready = wire is None

    # Blocking callers

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it (a write: until it is durable)."""
        self._check_usable(op)
        session = op.session
        if session.error is not None:
            raise session.error
        self._gather(session)
        if op.is_write:
            return _outcome(self._lane(session).run(op))
        if session.settled < session.submitted:
            self.flush(session)
        return finished(op, self._read(op))

    def submit(self, session: LogSession, op: LogOp[None]) -> None:
        """Queue a write of `session` behind its earlier ones and return at once."""
        self._check_usable(op)
        if session.error is not None:
            raise session.error
        if session.home is not None and session.home.is_here and not session.in_lane:
            session.home.submit(op)
            return
        self._gather(session)
        session.submitted += 1
        self.post(Job(op, _settle_submitted))

    def is_behind(self, session: LogSession) -> bool:
        """Whether so much waits on the session's event loop that its run should not get further ahead of it."""
        return session.home is not None and session.home.is_behind

    def post(self, job: Job, *, hurry: bool = False) -> None:
        """Have a write carried out by the saver's threads."""
        session, on_done = job.op.session, job.on_done

        def settle(job: Job) -> None:
            if on_done is not None:
                on_done(job)
            with _counting:
                session.in_lane -= 1  # last: who sees that it is 0 sees what came of the writes

        job.on_done = settle
        with _counting:
            session.in_lane += 1
        self._lane(session).post(job, hurry=hurry)

    def flush(self, session: LogSession) -> None:
        """Wait until every submitted write of the session is durable; raise if one failed."""
        self._gather(session)
        self._lane(session).settle(session)
        if session.error is not None:
            raise session.error

    def _gather(self, session: LogSession) -> None:
        """Carry out here what waits on an event loop, which may be the one that this call blocks."""
        if session.home is not None and session.settled < session.submitted:
            for job in session.home.take_over(session):
                self._lane(session).run_job(job)

    def close(self) -> None:
        """Write what was submitted and close the pool, if it is the saver's own; it cannot be used afterwards.

        Does nothing on a clone (`with_tenant`, `with_allowlist`): the storage is its original's. Nor after a fork: the
        connections are those of the process that has opened them."""
        if self.original is not None or self.state.process != os.getpid():
            return
        self.state.is_closed = True
        for lane in self._lanes:
            lane.close(_CLOSE_SECONDS)
        for thread in list(self.state.parked):
            thread.join(_CLOSE_SECONDS)
        self._link.close()
        _open_savers.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Event loops

    async def arun(self, op: LogOp[T]) -> T:
        """Run an operation without blocking the event loop."""
        self._check_usable(op)
        session = op.session
        if session.error is not None:
            raise session.error
        home = session.home
        if home is None or not home.is_here:
            home = session.home = self.home()
        if session.in_lane:
            await self._lane_settled(session)
        if op.is_write:
            return _outcome(await home.written(op))
        if session.settled < session.submitted:
            await self.aflush(session)
        return finished(op, await home.read(op))

    async def aflush(self, session: LogSession) -> None:
        """As `flush`, without blocking the event loop."""
        while session.settled < session.submitted:
            if session.home is None or session.in_lane:
                await self._lane_settled(session)
            else:
                await session.home.settled(session)
        if session.error is not None:
            raise session.error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        if self.original is None:
            await self.home().drained()
        await _in_thread(self.close)

    async def _lane_settled(self, session: LogSession) -> None:
        """Wait for the writes of a session that blocking callers have queued, such as a subgraph in a thread."""
        lane = self._lane(session)

        def carry() -> None:
            while session.in_lane:
                lane.carry()

        await _in_thread(carry)

    def home(self) -> Home:
        """Where operations of the running event loop wait."""
        import asyncio  # late, for start-up time: who calls this has loaded it

        from clew.checkpoint.postgres._home import Home
        from clew.storage.postgres.aio import Borrowed

        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            original = self.original or self
            home = self._homes[loop] = Home(original, Borrowed(self._link), can_rescue=True)
        return home

    # What every way of waiting needs

    def _lane(self, session: LogSession) -> WriteQueue:
        return self._lanes[hash((session.tenant, session.thread_id)) % len(self._lanes)]

    def _carry(self, jobs: list[Job]) -> None:
        """Run writes that travel together, and wake who waits for them."""
        try:
            self._make_ready()
            self._run(self.tables.group(jobs, None if self.state.is_closed else self.park))
        except BaseException as error:
            self.tables.fail(jobs, error)
            if not isinstance(error, Exception):
                raise

    def park(self, session: LogSession) -> None:
        """Go on with a session on a thread of its own: somebody else holds its thread's lock."""

        def carry() -> None:
            try:
                self._run(self.tables.parked(session))
            except BaseException as error:
                self.tables.unpark(session, error)
                if not isinstance(error, Exception):
                    raise
            finally:
                self.state.parked.discard(thread)

        thread = threading.Thread(target=carry, name="clew-parked", daemon=True)
        self.state.parked.add(thread)
        thread.start()

    def _read(self, op: LogOp[Any]) -> Any:
        self._make_ready()
        if op.kind == "read":
            return self._run(self.tables.read(op.steps, op.tenant))
        result = self._run(self.tables.load([op]))[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def _make_ready(self) -> None:
        """Set the database up if it is new; once."""
        if self.state.is_ready:
            return
        with self.state.lock:
            if not self.state.is_ready:
                if not self._run(self.tables.ready()):
                    PostgresSaver.setup(self)  # which a class for event loops has under the same name
                self.state.is_ready = True

    def _run(self, script: Script[T], wire: Wire | None = None) -> T:
        return run(script, self._link, patience=self.pool_timeout, timeout=self.settings.answer_timeout, wire=wire)

    def _check_usable(self, op: LogOp[Any] | None = None) -> None:
        if self.state.is_closed:
            raise StorageError(f"the saver on {self.tables.where} is closed", hint="open a new one")
        if self.state.process != os.getpid():
            raise StorageError(
                f"the saver on {self.tables.where} was opened in another process",
                hint="open one in each process, after the fork",
            )
        if op is not None and self.settings.row_security and not op.tenant:
            raise InvalidTenantError(
                f"the saver on {self.tables.where} was opened with row_security=True, and the call names no tenant",
                hint="give the saver a tenant, use saver.with_tenant(...), or name it in the config",
            )


class _State:
    """What a saver and its clones for tenants share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_ready = False
        self.is_closed = False
        self.process = os.getpid()
        self.parked: set[threading.Thread] = set()  # each with a session that waits for somebody else's lock


def _outcome(job: Job) -> Any:
    if job.error is not None:
        raise job.error
    return finished(job.op, job.result)


def _settle_submitted(job: Job) -> None:
    if job.error is None:
        finished(job.op, job.result)
    session = job.op.session
    session.settled += 1
    if session.home is not None:
        session.home.notice(session)


async def _in_thread(work: Callable[[], T]) -> T:
    import asyncio  # late, for start-up time: whoever awaits this has loaded it

    return await asyncio.get_running_loop().run_in_executor(None, work)


@atexit.register
def _flush_at_exit() -> None:
    for saver in list(_open_savers):
        saver.close()
