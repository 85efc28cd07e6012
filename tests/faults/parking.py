"""Runs that stand still in the middle, as a process that was suspended does, and wake up when the world has moved on.

A run stands at one effect, on whatever thread drives it, until it is released. Nothing is unwound in between: its
session, its cursors and its nodes are as they were.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from clew import _failpoints
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver

SECONDS = 20


@dataclass
class Parking:
    """Stops the run that passes the `number`-th effect failpoint; later runs pass freely."""

    number: int
    at: str = ""
    passed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    settled: threading.Event = field(default_factory=threading.Event)  # parked, or ended before that
    gate: threading.Event = field(default_factory=threading.Event)

    def hit(self, name: str) -> None:
        if not name.startswith("effect.") or self.at:
            return
        with self.lock:
            self.passed += 1
            if self.passed != self.number:
                return
            self.at = name
        self.settled.set()
        assert self.gate.wait(SECONDS), "nobody released the run"


@contextmanager
def failpoints(hit: Callable[[str], None]) -> Iterator[None]:
    """Call `hit` at every failpoint of this process."""
    before = _failpoints.hit, _failpoints.armed
    _failpoints.hit, _failpoints.armed = hit, lambda: True
    try:
        yield
    finally:
        _failpoints.hit, _failpoints.armed = before


@dataclass
class Background:
    """Work on a thread of its own, and how it ended."""

    work: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None
    settled: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Background:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error
        finally:
            self.settled.set()

    def join(self) -> Background:
        self.thread.join(SECONDS)
        assert not self.thread.is_alive(), "the run hangs"
        return self


def park(work: Callable[[], Any], number: int) -> tuple[Parking, Background]:
    """Start `work` and wait until it stands at its `number`-th effect, or has ended."""
    parking = Parking(number)
    with failpoints(parking.hit):
        run = Background(work, settled=parking.settled).start()
        assert parking.settled.wait(SECONDS), "the run hangs"
    return parking, run


def settle(saver: Any) -> None:
    """What a run that stands still had queued is written by its saver all the same; wait until that is done."""
    if isinstance(saver, SqliteSaver):
        saver._writes.drain()
        with saver._writes._mutex:  # the writer thread may be in the middle of the last group
            pass
    if isinstance(saver, PostgresSaver):
        for lane in saver._lanes:
            lane.drain()
            with lane._mutex:
                pass
        # An event loop that stands still carries nothing more, but the server may be at what it had sent.
        busy = "select 1 from pg_stat_activity where datname = current_database() and state = 'active' and pid <> %s"
        with psycopg.connect(saver.conn, autocommit=True) as watcher:
            deadline = time.monotonic() + SECONDS
            while watcher.execute(busy, [watcher.info.backend_pid]).fetchone():
                assert time.monotonic() < deadline, "the server does not come to rest"
                time.sleep(0.001)
