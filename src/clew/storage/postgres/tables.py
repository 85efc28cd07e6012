"""The log in PostgreSQL: what travels together, in which transaction, and what happens when it fails. No waiting here:
everything is a script.

Invariants: writes of one session run in order, and after one has failed none of its later ones runs; a write that
fails never takes another session's with it; a write whose answer was lost is looked up before anything is said of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, TypeVar, cast

import psycopg

from clew import _failpoints
from clew.errors import StorageError
from clew.storage import log
from clew.storage.operation import LogOp
from clew.storage.postgres import schema
from clew.storage.postgres.direct import call_of, lookup_of
from clew.storage.postgres.faults import Fault, fault_of, pause, typed
from clew.storage.postgres.script import Flush, Pause, Script
from clew.storage.postgres.texts import Texts, check_schema
from clew.storage.postgres.wire import Call
from clew.storage.query import Query, Row, Steps, Together
from clew.storage.session import LogSession
from clew.storage.writer import Job

T = TypeVar("T")

_SNAPSHOT = Call("begin isolation level repeatable read, read only")
_BEGIN, _COMMIT, _ROLLBACK = Call("begin"), Call("commit"), Call("rollback")
_HEAD_COLUMNS = 12
_ADDS = {  # queries that add a row which no other client can add, and what asks for it
    "head_add": "select 1 from clew_head where tenant = $1 and line = $2",
    "step_add": (
        "select 1 from clew_step where tenant = $1 and line = $2 and branch = $3 and seq = $4 and checkpoint_id = $5"
    ),
}
_STALE_TRIES = 3  # for a prepared statement that is gone, and the like
_TIMEOUT_TRIES = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How the saver behaves towards the server. Times in seconds.

    `retry_for` bounds how long a lost connection or a refusing server is tried again, `lock_wait` how long a row that
    somebody else holds is waited for, `answer_timeout` the silence of a server.
    """

    schema: str | None = None
    prepare: bool = True
    is_fast: bool = False
    row_security: bool = False
    retry_for: float = 30.0
    lock_wait: float = 10.0
    answer_timeout: float = 60.0

    def __post_init__(self) -> None:
        check_schema(self.schema)  # before there are connections, which somebody would have to close

    def of_connection(self) -> dict[str, str]:
        """What is set for every transaction of the saver: a client that has stalled keeps no lock for ever, either."""
        stalled = f"{max(int(self.answer_timeout * 1000), 1)}ms"
        settings = {"lock_timeout": "200ms", "idle_in_transaction_session_timeout": stalled}
        if self.is_fast:
            settings["synchronous_commit"] = "off"
        return settings


class PostgresTables:
    """The tables in one schema of one database."""

    def __init__(self, where: str, settings: Settings, *, has_settings: bool) -> None:
        self.where = where
        self.settings = settings
        self.texts = Texts(settings.schema)
        self._always = {} if has_settings else settings.of_connection()
        self._parking = Lock()

    # The schema

    def ready(self) -> Script[bool]:
        """Whether the tables are there, in a version that this one can use, with policies where they are wanted."""
        is_secure = self.settings.row_security
        return self._again(lambda: schema.check(self.texts, self.where, row_security=is_secure))

    def set_up(self, *, post: bool, inside: bool) -> Script[None]:
        """Make or upgrade the tables; `inside` a transaction that is open already, as a part of it."""

        def attempt() -> Script[None]:
            return schema.set_up(
                self.texts, self.where, post=post, row_security=self.settings.row_security, inside=inside
            )

        return self._once(attempt) if inside else self._again(attempt)

    # Reading

    def load(self, ops: Sequence[LogOp[Any]]) -> Script[list[Any]]:
        """Load several checkpoints side by side: each round trip asks what all of them want to know next.

        Gives a result or an exception for each. A load that finds something amiss is done again on one moment of the
        database, since what it read in two round trips may not belong together.
        """
        loads = [_Load(op) for op in ops]
        tenants = {load.tenant for load in loads} if self.settings.row_security else {None}
        for tenant in tenants:
            yield from self._load_all([load for load in loads if tenant in (None, load.tenant)])
        for load in loads:
            if isinstance(load.result, StorageError):
                try:
                    load.result = yield from self.read(load.op.steps, load.tenant)
                except StorageError as error:
                    load.result = error
        return [load.result for load in loads]

    def _load_all(self, loads: Sequence[_Load]) -> Script[None]:
        waiting = [load for load in loads if load.begin()]
        while waiting:
            rows = yield from self._again(partial(self._ask, waiting))
            waiting = [waiting[index] for index, found in enumerate(rows) if waiting[index].answer(found)]

    def _ask(self, loads: Sequence[_Load]) -> Script[list[list[Row]]]:
        return self._flush([self.texts.call(*load.asks()) for load in loads], loads[0].tenant)

    def read(self, steps: Callable[[], Steps[T]], tenant: str) -> Script[T]:
        """Run a rule that only reads, on one moment of the database."""
        return self._again(lambda: self._transaction(steps, _SNAPSHOT, tenant, locks=False))

    # Writing

    def group(self, jobs: Sequence[Job], park: Callable[[LogSession], None] | None) -> Script[None]:
        """Run writes and settle them, as many as possible in one round trip and one transaction.

        `park` is called with a session whose thread somebody else holds: `parked` is to be run for it elsewhere.
        Without it, the lock is waited for.
        """
        outage = _Outage()
        for batch in self._batches(jobs):
            if len(batch) > 1:
                yield from self._together(batch, park, outage)
            else:
                yield from self._alone(batch[0], park, outage)

    def parked(self, session: LogSession) -> Script[None]:
        """Run the writes of a session that wait for somebody else's lock."""
        while True:
            with self._parking:
                if not session.parked:
                    session.parked = None
                    return
                job = session.parked[0]
            if not _is_over(job):
                yield from self._alone(job, None, _Outage())
            with self._parking:
                session.parked.popleft()

    def fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Settle what a `group` that broke off has left, except for what waits in a parked session."""
        for job in jobs:
            if not job.is_done and not self._is_out(job):
                job.settle(error=_broken_off(error))

    def lose(self, session: LogSession) -> None:
        """A `parked` was cut off: the write that it was at may be stored, or not."""
        with self._parking:
            for job in session.parked or ():
                job.is_lost = True

    def unpark(self, session: LogSession, error: BaseException) -> None:
        """Settle what a `parked` that broke off has left."""
        while True:
            with self._parking:
                if not session.parked:
                    session.parked = None
                    return
                job = session.parked[0]
            if not job.is_done:
                job.settle(error=_broken_off(error))
            with self._parking:
                session.parked.popleft()

    def _batches(self, jobs: Sequence[Job]) -> Generator[list[Job]]:
        """Cut a group into what can be one transaction: statements whose outcomes do not depend on each other."""
        batch: list[Job] = []
        children: set[int] = set()  # sessions whose next write must know what became of the last one
        tenant = None
        for job in jobs:
            session, intent = job.op.session, job.op.intent
            if self._is_out(job):
                continue
            is_apart = intent is None or id(session) in children
            if batch and (is_apart or (self.settings.row_security and job.op.tenant != tenant)):
                yield _sorted(batch)
                batch, children = [], set()
                if self._is_out(job):
                    continue
            if job.is_lost or intent is None or call_of(intent) is None:
                if batch:
                    yield _sorted(batch)
                    batch, children = [], set()
                if not self._is_out(job):
                    yield [job]
                continue
            tenant = job.op.tenant
            batch.append(job)
            # A claim that fails leaves another run's epoch, which may be the very number that this session expects.
            if intent.cursor.ns or intent.claim is not None:
                children.add(id(session))
        if batch:
            yield _sorted(batch)

    def _is_out(self, job: Job) -> bool:
        """Whether a write is not for this group to make: it waits behind a parked one, its session has failed, or
        somebody else has made it."""
        if job.is_done:
            return True
        with self._parking:
            parked = job.op.session.parked
            if parked is not None:
                if job not in parked:
                    parked.append(job)
                return True
        return _is_over(job)

    def _together(self, jobs: list[Job], park: Callable[[LogSession], None] | None, outage: _Outage) -> Script[None]:
        calls = [self.texts.qualified(_call(job)) for job in jobs]
        try:
            rows = yield from self._flush(calls, jobs[0].op.tenant, jobs)
        except Exception as error:
            is_lost = isinstance(error, psycopg.Error) and fault_of(error) is Fault.RECONNECT
            for job in jobs:
                job.is_lost = job.is_lost or is_lost
                if not self._is_out(job):
                    yield from self._alone(job, park, outage)
            return
        for job, found in zip(jobs, rows, strict=True):
            if found:
                _settle(job, None, None)
            elif not _is_over(job):
                yield from self._fenced(job)

    def _alone(self, job: Job, park: Callable[[LogSession], None] | None, outage: _Outage) -> Script[None]:
        """Run one write with all patience there is."""
        began, tried = time.monotonic(), 0
        if outage.error is not None:
            _settle(job, None, outage.error)
            return
        while True:
            try:
                yield from self._attempt(job)
                return
            except psycopg.Error as error:
                fault = fault_of(error)
                job.is_lost = job.is_lost or fault is Fault.RECONNECT
                if fault is Fault.LOCKED and park is not None:
                    with self._parking:
                        job.op.session.parked = deque([job])
                    park(job.op.session)
                    return
                try:
                    seconds = self._next_pause(error, tried, began)
                except StorageError as final:
                    if fault is Fault.RECONNECT:
                        outage.error = final
                    _settle(job, None, final)
                    return
            except Exception as error:
                _settle(job, None, error)
                return
            tried += 1
            yield Pause(seconds)

    def _attempt(self, job: Job) -> Script[None]:
        op = job.op
        call = None if op.intent is None else call_of(op.intent)
        if call is None:
            _hit(job, "before")
            job.unit = job.unit or _Unit()
            result = yield from self._unit(op, job.unit, job)
            _settle(job, result, None)
            return
        found = (yield from self._flush([self.texts.qualified(call)], op.tenant, [job]))[0]
        if found:
            _settle(job, None, None)
            return
        assert op.intent is not None, "it has a statement"
        lookup = lookup_of(op.intent) if job.is_lost else None
        if lookup is not None and (yield from self._flush([self.texts.qualified(lookup)], op.tenant))[0]:
            _settle(job, None, None)  # the answer was lost, not the write
            return
        yield from self._fenced(job)

    def _fenced(self, job: Job) -> Script[None]:
        """A statement found its fence broken; where the namespace was made by somebody else, the rule decides."""
        op = job.op
        assert op.intent is not None, "only statements are fenced"
        error: Exception | None = log.conflict(op.intent.cursor.place)
        if op.intent.makes_line and op.intent.claim is None:
            try:
                unit = _Unit()
                yield from self._again(lambda: self._unit(op, unit))
                error = None
            except StorageError as known:
                error = known
        _settle(job, None, error)

    # One round trip

    def _flush(self, calls: Sequence[Call], tenant: str, jobs: Sequence[Job] = ()) -> Script[list[list[Row]]]:
        """Send calls as one transaction; gives the rows of each."""
        lead = self._preamble(tenant)
        if jobs and _failpoints.armed():
            return (yield from self._flush_in_parts([*lead, *calls], jobs))[len(lead) :]
        rows = yield Flush([*lead, *calls])
        return rows[len(lead) :]

    def _flush_in_parts(self, calls: Sequence[Call], jobs: Sequence[Job]) -> Script[list[list[Row]]]:
        """As one flush, with a moment before the commit at which a test can stop it."""
        for job in jobs:
            _hit(job, "before")

        def sent() -> None:
            for job in jobs:
                _hit(job, "sent")

        if not any(_failpoints.is_set(f"{job.op.kind}.uncommitted") for job in jobs):
            return (yield Flush(calls, sent))
        try:
            rows = yield Flush([_BEGIN, *calls])
            for job in jobs:
                _hit(job, "uncommitted")
        except Exception as error:
            if not isinstance(error, psycopg.Error) or fault_of(error) is not Fault.RECONNECT:
                yield Flush([_ROLLBACK])
            raise
        yield Flush([_COMMIT], sent)
        return rows[1:]

    def _preamble(self, tenant: str) -> list[Call]:
        """What a transaction must be told first: settings the connection does not have, and whose rows it may see."""
        settings = dict(self._always)
        if self.settings.row_security:
            settings["clew.tenant"] = tenant
        if not settings:
            return []
        calls = (f"set_config('{name}', ${index}, true)" for index, name in enumerate(settings, 1))
        return [Call(f"select {', '.join(calls)}", tuple(settings.values()))]

    # A transaction of several round trips

    def _unit(self, op: LogOp[Any], unit: _Unit, job: Job | None = None) -> Script[Any]:
        """Run a write's rule as one transaction, unless an earlier attempt was committed and only its answer was lost.
        It may be committed as late as between the question and the rule, which then refuses: so it is asked twice."""
        if unit.witness is not None and (yield from self._is_there(unit.witness, op.tenant)):
            return unit.result
        try:
            return (yield from self._transaction(op.steps, _BEGIN, op.tenant, locks=True, job=job, unit=unit))
        except psycopg.Error:
            raise
        except Exception:
            if unit.witness is None or not (yield from self._is_there(unit.witness, op.tenant)):
                raise
            return unit.result

    def _is_there(self, witness: Call, tenant: str) -> Script[bool]:
        return bool((yield from self._again(lambda: self._flush([witness], tenant)))[0])

    def _transaction(
        self,
        steps: Callable[[], Steps[T]],
        begin: Call,
        tenant: str,
        *,
        locks: bool,
        job: Job | None = None,
        unit: _Unit | None = None,
    ) -> Script[T]:
        witness: Call | None = None
        lead = [begin, *self._preamble(tenant)]
        rule, is_committed = steps(), False
        try:
            try:
                asked: Query | Together = next(rule)
                while True:
                    queries = asked.queries if isinstance(asked, Together) else (asked,)
                    calls = [self.texts.call(query.name, query.params, locks=locks) for query in queries]
                    is_committed = isinstance(asked, Together) and asked.is_last and not _failpoints.armed()
                    sent = [*lead, *calls, *([_COMMIT] if is_committed else ())]
                    rows = (yield Flush(sent))[len(lead) : len(lead) + len(calls)]
                    lead = []
                    if witness is None and queries[0].name in _ADDS and rows[0][0][0]:
                        witness = self._witness(queries[0].name, calls[0].params)
                    asked = rule.send(cast("Any", rows if isinstance(asked, Together) else rows[0]))
            except StopIteration as stop:
                result: T = stop.value
            if job is not None:
                _hit(job, "uncommitted")
            if unit is not None:
                unit.witness, unit.result = witness, result
            if not lead and not is_committed:
                yield Flush([_COMMIT])
        except psycopg.Error as error:
            if fault_of(error) is not Fault.RECONNECT:
                yield Flush([_ROLLBACK])
            raise
        except Exception:
            if not lead and not is_committed:
                yield Flush([_ROLLBACK])
            raise
        return result

    def _witness(self, name: str, params: tuple[Any, ...]) -> Call:
        """Asks whether a row is there that nobody but this transaction can have added."""
        values = (params[0], params[-1]) if name == "head_add" else (*params[:4], params[5])
        return Call(self.texts.text(_ADDS[name]), values)

    # Trying again

    def _once(self, attempt: Callable[[], Script[T]]) -> Script[T]:
        """Run something that is part of a transaction of somebody else's, which an error has ended."""
        try:
            return (yield from attempt())
        except psycopg.Error as error:
            raise typed(error, self.where) from error

    def _again(self, attempt: Callable[[], Script[T]]) -> Script[T]:
        """Run something that may be run twice until it works, or patience ends."""
        began, tried = time.monotonic(), 0
        while True:
            try:
                return (yield from attempt())
            except psycopg.Error as error:
                seconds = self._next_pause(error, tried, began)
            tried += 1
            yield Pause(seconds)

    def _next_pause(self, error: psycopg.Error, tried: int, began: float) -> float:
        """How long to wait before the next attempt; raises what callers see if there is none.

        After a lost connection there is always one: only it can tell what became of the attempt before.
        """
        seconds, fault = time.monotonic() - began, fault_of(error)
        match fault:
            case Fault.FATAL:
                is_over = True
            case Fault.TIMEOUT:
                is_over = tried + 1 >= _TIMEOUT_TRIES
            case Fault.LOCKED:
                is_over = seconds > self.settings.lock_wait
            case Fault.AGAIN:
                is_stale = error.sqlstate not in ("40001", "40P01") and tried >= _STALE_TRIES
                is_over = is_stale or seconds > self.settings.retry_for
            case Fault.RECONNECT:
                is_over = tried > 0 and seconds > self.settings.retry_for
        if is_over:
            raise typed(error, self.where, seconds=seconds) from error
        return 0.0 if fault is Fault.AGAIN and tried == 0 else pause(tried)


class _Outage:
    """Whether a group has found the server gone for longer than patience lasts: nobody else waits as long again."""

    def __init__(self) -> None:
        self.error: StorageError | None = None


@dataclass(slots=True)
class _Unit:
    """The attempts at one write. `witness` asks whether the last one that was to be committed was, with `result`."""

    witness: Call | None = None
    result: Any = None


class _Load:
    """One load on its way through `PostgresTables.load`."""

    def __init__(self, op: LogOp[Any]) -> None:
        self.op = op
        self.tenant = op.tenant
        self.result: Any = None
        self._rule = op.steps()
        self._query: Query | None = None
        self._pending: dict[tuple[Any, ...], list[Row]] = {}

    def begin(self) -> bool:
        """Whether it wants to know something."""
        return self._advance(None)

    def asks(self) -> tuple[str, tuple[Any, ...]]:
        """What it wants to know: of a head at once also what is pending behind it."""
        assert self._query is not None, "only asked while it wants to know something"
        name, params = self._query
        return ("head_load" if name == "head_read" else name, params)

    def answer(self, rows: list[Row]) -> bool:
        """Give it the answer; whether it wants to know more."""
        assert self._query is not None, "only answered what it asked"
        if self._query.name != "head_read":
            return self._advance(rows)
        if rows:
            head = rows[0][:_HEAD_COLUMNS]
            place = (self._query.params[0], head[0], head[2], head[3])
            self._pending[place] = [row[_HEAD_COLUMNS:] for row in rows if row[_HEAD_COLUMNS] is not None]
            rows = [head]
        return self._advance(rows)

    def _advance(self, rows: list[Row] | None) -> bool:
        try:
            query = next(self._rule) if rows is None else self._rule.send(rows)
            while query.name == "pending_read" and query.params in self._pending:
                query = self._rule.send(self._pending[query.params])
        except StopIteration as stop:
            self.result = stop.value
            return False
        except Exception as error:
            self.result = error
            return False
        self._query = query
        return True


def _call(job: Job) -> Call:
    call = None if job.op.intent is None else call_of(job.op.intent)
    assert call is not None, "only statements travel together"
    return call


def _sorted(jobs: list[Job]) -> list[Job]:
    """In the order in which every process takes locks; of one thread, as they came."""
    return sorted(jobs, key=lambda job: (job.op.tenant, job.op.session.thread_id))


def _broken_off(error: BaseException) -> BaseException:
    if isinstance(error, StorageError):
        return error
    hint = "run it again: it goes on from what is stored"
    return StorageError("the write was interrupted; it may be stored", hint=hint)


def _is_over(job: Job) -> bool:
    """Whether an earlier write of the session has failed; then this one is not made."""
    error = job.op.session.error
    if error is not None and not job.is_done:
        job.settle(error=error)
    return error is not None


def _hit(job: Job, moment: str) -> None:
    _failpoints.hit(f"{job.op.kind}.{moment}")


def _settle(job: Job, result: Any, error: Exception | None) -> None:
    try:
        _hit(job, "after")
    except _failpoints.InjectedFailureError as injected:
        error = injected
    job.settle(result, error)
