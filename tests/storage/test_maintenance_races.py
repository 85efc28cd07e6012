"""Two clients maintain one thread at once: what one is about to touch has gone, or come, when its turn comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import StorageError
from clew.graph import START, StateGraph
from tests.both import on

RUN = "018f0000-0000-7000-8000-000000000001"


class State(TypedDict):
    number: int


@pytest.fixture
def saver(database: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(database) as saver:
        builder = StateGraph(State).add_node("add", lambda state: {"number": state["number"] + 1})
        graph = builder.add_edge(START, "add").compile(checkpointer=saver)
        graph.invoke({"number": 1}, {**on("source"), "run_id": RUN})
        graph.invoke({"number": 1}, on("other"))
        yield saver


def meanwhile(database: str, statement: str, act: Callable[[], Any]) -> BaseException | None:
    """Call `act` while another client has run `statement` and not committed it yet; gives what was raised."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with psycopg.connect(database) as other, psycopg.connect(database, autocommit=True) as watcher:
        other.execute(statement.encode())
        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 20
        while not watcher.execute(waiting).fetchone():
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.002)
        other.commit()
        thread.join(20)
    return raised[0] if raised else None


def test_a_thread_that_is_copied_to_the_same_name_by_two_is_copied_once(database: str, saver: PostgresSaver) -> None:
    other_copy = (
        "insert into clew_head (tenant, thread, ns, epoch, line, branch, seq, key_seq, top_branch, since, updated_at)"
        " values ('', 'target', '', 1, 77, 0, 0, 0, 0, 0, 0)"
    )

    error = meanwhile(database, other_copy, lambda: saver.copy_thread("source", "target"))

    assert type(error) is StorageError
    assert str(error) == "thread 'target' exists already; 'source' was not copied onto it"
    assert list(saver.list(on("target"))) == []


def test_the_runs_of_a_thread_that_is_deleted_meanwhile_are_gone(database: str, saver: PostgresSaver) -> None:
    deletion = (
        "delete from clew_step where line = (select line from clew_head where thread = 'source');"
        "delete from clew_head where thread = 'source'"
    )

    error = meanwhile(database, deletion, lambda: saver.delete_for_runs([RUN]))

    assert error is None
    assert [thread.thread_id for thread in saver.threads()] == ["other"]
    assert saver.verify().is_intact
