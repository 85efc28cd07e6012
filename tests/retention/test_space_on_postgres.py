"""The space that deleted threads took in PostgreSQL: a vacuum makes it free for what is written next."""

from __future__ import annotations

import operator
import os
from typing import Annotated, Any, TypedDict

import psycopg

from clew.checkpoint.postgres import PostgresSaver
from clew.graph import START, StateGraph
from tests.both import on

_TABLES = ("clew_head", "clew_step", "clew_fork", "clew_pending", "clew_spill")


class Notes(TypedDict):
    notes: Annotated[list[bytes], operator.add]


def test_what_was_deleted_makes_room_for_what_comes(database: str) -> None:
    graph = StateGraph(Notes).add_node("note", lambda state: {"notes": [os.urandom(1500)]}).add_edge(START, "note")
    with PostgresSaver.from_conn_string(database) as saver, psycopg.connect(database, autocommit=True) as connection:
        run: Any = graph.compile(checkpointer=saver)

        def write() -> int:
            for thread in range(40):
                for _ in range(5):
                    run.invoke({"notes": [os.urandom(1500)]}, on(f"t{thread}"))
            return size(connection)

        first = write()
        for thread in range(40):
            saver.delete_thread(f"t{thread}")
        for table in _TABLES:
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
            connection.execute(f"vacuum {table}")
        after = size(connection)
        again = write()
    assert after < first / 2, (first, after)  # pages at the end of a table go back to the file system
    assert again < first * 1.1, (first, again)  # and no other page is left unused


def size(connection: psycopg.Connection[Any]) -> int:
    """Bytes of the tables with their indexes, on disk."""
    return sum(
        connection.execute("select pg_total_relation_size(%s::regclass)", (table,)).fetchone()[0]  # type: ignore[index]
        for table in _TABLES
    )
