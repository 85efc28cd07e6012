"""What these tests share: a database as the service's duties use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clew.storage import runs
from clew.storage.log import Place
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.runs import NewRun, RunRow
from clew.storage.session import LogSession
from clew.threads import Threads

SECOND = 1_000_000  # microseconds
MINUTE = 60 * SECOND


class Office:
    """The rules of one database, each in a transaction of its own."""

    def __init__(self, saver: Any) -> None:
        self.saver = saver
        self.threads = Threads(saver).of("ada")

    @property
    def tenant(self) -> str:
        return self.saver.tenant

    def do(self, steps: Callable[[], Steps[Any]], kind: str = "duty") -> Any:
        session = LogSession(self.saver, "office", self.saver.codec(frozenset()), self.saver.tenant)
        return self.saver.run(LogOp(session, steps, kind=kind))

    def place(self, thread: str) -> Place:
        return self.saver.place(thread)

    def run(self, thread: str, run_id: str, owner: str = "w", **request: Any) -> RunRow:
        """A run that a worker is at."""
        self.threads.create(thread, if_exists="do_nothing")
        self.do(lambda: runs.add_run(self.place(thread), NewRun(run_id, "assistant", request, {"n": 1})))
        (claimed,) = self.do(lambda: runs.claim_runs(self.place(thread), owner, MINUTE, 1))
        return claimed
