"""What these tests share: a database as the service's duties use it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypedDict

import psycopg

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server.assistants import Assistants
from clew.server.duties import Duties, DutySettings
from clew.server.registry import Registry, default_id
from clew.storage import runs
from clew.storage.log import Place
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.runs import NewRun, RunRow
from clew.storage.session import LogSession
from clew.threads import Threads

SECOND = 1_000_000  # microseconds
MINUTE = 60 * SECOND
AGENT = default_id("agent")


class Said(TypedDict, total=False):
    said: str


def duties_of(saver: Any, *, store: Any = None, **settings: Any) -> Duties:
    """The duties of a replica that serves a graph called "agent"."""
    graph = StateGraph(Said)
    graph.add_node("reply", lambda state: {"said": "yes"})
    graph.add_edge(START, "reply")
    assistants = Assistants(saver, Registry({"agent": graph}, saver), datetime.now(UTC))
    return Duties(saver, assistants, DutySettings(**settings), store=store)


class Office:
    """The rules of one database, each in a transaction of its own."""

    def __init__(self, saver: Any, url: str = "") -> None:
        self.saver = saver
        self.url = url  # or path, of the database
        self.threads = Threads(saver).of("ada")

    @property
    def tenant(self) -> str:
        return self.saver.tenant

    def do(self, steps: Callable[[], Steps[Any]], kind: str = "duty") -> Any:
        session = LogSession(self.saver, "office", self.saver.codec(frozenset()), self.saver.tenant)
        return self.saver.run(LogOp(session, steps, kind=kind))

    def sql(self, statement: str) -> None:
        """Change rows behind the saver's back."""
        if isinstance(self.saver, SqliteSaver):
            with sqlite3.connect(self.url) as connection:
                connection.execute(statement)
            connection.close()
        else:
            with psycopg.connect(self.url) as connection:
                connection.execute(statement.encode())

    def place(self, thread: str) -> Place:
        return self.saver.place(thread)

    def run(self, thread: str, run_id: str, owner: str = "w", **request: Any) -> RunRow:
        """A run that a worker is at."""
        self.threads.create(thread, if_exists="do_nothing")
        self.do(lambda: runs.add_run(self.place(thread), NewRun(run_id, "assistant", request, {"n": 1})))
        (claimed,) = self.do(lambda: runs.claim_runs(self.place(thread), owner, MINUTE, 1))
        return claimed
