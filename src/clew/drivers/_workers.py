"""A process-wide set of daemon threads that run what must not run on the caller's thread.

Invariant: submitting never waits: a thread is added when none is idle. How many tasks of one run are active at once
is the run's business, not this module's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

_IDLE_SECONDS = 10.0


class Workers:
    """Threads that end after some idle seconds."""

    __slots__ = ("_idle", "_jobs", "_lock")

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` on some thread; `job` must not raise."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
        threading.Thread(target=self._work, args=(job,), name="clew-node", daemon=True).start()

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            del job
            with self._lock:
                self._idle += 1
            job = self._next()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._jobs.get(timeout=_IDLE_SECONDS)
        except Empty:
            pass
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                return None
        return self._jobs.get()  # a job was promised to this thread between the timeout and the lock


workers = Workers()


def _renew() -> None:
    """In a forked child there are no threads: start with none."""
    global workers
    workers = Workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def submit(job: Callable[[], None]) -> None:
    """Run `job` on a worker thread."""
    workers.submit(job)
