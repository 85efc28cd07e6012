"""Group commit: writes that wait at the same time travel in one transaction.

Whoever gets the lock first is the leader: it takes everything that waits, its own write among it, into one
transaction, and the others find their work done when the lock comes to them. Writes that nobody waits for are drained
by one daemon thread, many to a transaction.

Invariants: writes run in the order in which they were queued; after a write of a session has failed, none of its later
ones is run; a write that fails never takes another session's with it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from clew.storage.operation import LogOp
from clew.storage.session import LogSession
from clew.storage.worker import Worker

_GROUP = 512  # writes in one transaction at most
_GROUP_BYTES = 16 * 1024 * 1024
_PAUSE = (
    0.002  # seconds in which writes that nobody waits for pile up: a short run then commits them itself, at its end
)
_PARKED = 0.002  # seconds between looks at a write that was set aside, since somebody else holds its thread
_QUEUE_BYTES = 64 * 1024 * 1024  # whoever submits more than this helps to write it


_settling = threading.Lock()


class Job:
    """One write on its way, and what came of it."""

    __slots__ = ("error", "is_done", "is_lost", "on_done", "op", "result", "unit")

    def __init__(self, op: LogOp[Any], on_done: Callable[[Job], None] | None = None) -> None:
        self.op = op
        self.on_done = on_done
        self.is_done = False
        self.is_lost = False  # it was sent once, and whether it was carried out is not known
        self.unit: Any = None  # for a backend to keep what can tell
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self, result: Any = None, error: BaseException | None = None) -> None:
        """Record what came of it, once; two may have carried it."""
        with _settling:
            if self.is_done:
                return
            self.result, self.error = result, error
            if error is not None and self.op.session.error is None:
                self.op.session.error = error
            self.is_done = True
        # Who waits holds this job, and this job held who waits: no run should be left to the garbage collector.
        on_done, self.on_done = self.on_done, None
        if on_done is not None:
            on_done(self)


class WriteQueue:
    """Writes that wait for one database; `execute` runs a group as one transaction and settles each job."""

    def __init__(self, execute: Callable[[list[Job]], None]) -> None:
        self._execute = execute
        self._jobs: deque[Job] = deque()
        self._mutex = threading.Lock()
        self._count = threading.Lock()  # held for a moment, to keep count of the bytes that wait
        self._bytes = 0
        self._worker = Worker("clew-writer", self.drain, delay=_PAUSE)

    def run(self, op: LogOp[Any]) -> Job:
        """Queue a write and wait until it is done."""
        return self.run_job(Job(op))

    def run_job(self, job: Job) -> Job:
        """As `run`, for a job that exists."""
        self._push(job)
        while not job.is_done:
            with self._mutex:
                if not job.is_done:
                    self._execute_group()
            if not job.is_done and not self._jobs:
                time.sleep(_PARKED)
        return job

    def post(self, job: Job, *, hurry: bool = False) -> None:
        """Queue a write for the writer thread; with `hurry` somebody waits for it."""
        self._push(job)
        if self._bytes > _QUEUE_BYTES:
            self.drain()
        else:
            self._worker.wake(hurry=hurry)

    def drain(self) -> None:
        """Run everything that is queued, on this thread."""
        while self._jobs:
            with self._mutex:
                self._execute_group()

    def carry(self) -> None:
        """Run what is queued, or wait a moment for who does."""
        with self._mutex:
            self._execute_group()
        if not self._jobs:
            time.sleep(_PARKED)

    def settle(self, session: LogSession) -> None:
        """Wait until every write that `session` queued so far is done."""
        while session.settled < session.submitted:
            with self._mutex:
                self._execute_group()
            if session.settled < session.submitted and not self._jobs:
                time.sleep(_PARKED)

    def close(self, seconds: float) -> bool:
        """Run what is queued; False if another thread kept the database for `seconds`."""
        if not self._mutex.acquire(timeout=seconds):
            return False
        try:
            while self._jobs:
                self._execute_group()
        finally:
            self._mutex.release()
        return True

    def _push(self, job: Job) -> None:
        with self._count:
            self._bytes += job.op.size
        self._jobs.append(job)

    def _execute_group(self) -> None:
        group: list[Job] = []
        size = 0
        while self._jobs and len(group) < _GROUP and size < _GROUP_BYTES:
            job = self._jobs.popleft()
            size += job.op.size
            group.append(job)
        if group:
            with self._count:
                self._bytes -= size
            self._execute(group)
