"""A cancelled run and the run after it: what was on its way to storage arrives before the caller goes on."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import ThreadConflictError
from clew.graph import START, StateGraph

THREAD: dict[str, Any] = {"configurable": {"thread_id": "1"}}


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Watched(SqliteSaver):
    """Says when a write has been asked for."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()

    async def arun(self, op: Any) -> Any:
        if op.is_write:
            self.asked.set()
        return await super().arun(op)


def test_a_run_cancelled_while_it_takes_the_thread_does_not_take_it_from_the_next_run(tmp_path: Path) -> None:
    path = str(tmp_path / "clew.db")

    async def main() -> None:
        saver = Watched(path)
        builder = StateGraph(State)
        builder.add_node("node", lambda _: {"log": ["node"]})
        builder.add_edge(START, "node")
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({"log": ["first"]}, THREAD)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("begin immediate")
        saver.asked.clear()
        run = asyncio.create_task(graph.ainvoke({"log": ["cancelled"]}, THREAD))
        await saver.asked.wait()
        run.cancel()
        await asyncio.sleep(0)
        blocker.execute("rollback")
        blocker.close()
        await asyncio.wait([run])
        assert run.cancelled()
        done = await graph.ainvoke({"log": ["last"]}, THREAD)
        assert done["log"] == ["first", "node", "last", "node"]  # the cancelled input had not been taken in
        await saver.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_run_whose_thread_was_taken_starts_and_shows_nothing_more(durability: Any) -> None:
    runs: list[str] = []
    builder = StateGraph(State)
    for name in ("first", "second"):
        builder.add_node(name, lambda _, name=name: runs.append(name) or {"log": [name]})
    builder.add_edge(START, "first").add_edge("first", "second")
    graph = builder.compile(checkpointer=InMemorySaver())
    older = graph.stream({"log": []}, THREAD, durability=durability, stream_mode=["tasks", "updates"])
    next(older)
    graph.update_state(THREAD, {"log": ["taken"]}, as_node="second")
    with pytest.raises(ThreadConflictError):
        list(older)
    assert "second" not in runs
    assert graph.get_state(THREAD).values["log"] == ["taken"]


def test_leaving_a_stream_whose_thread_was_taken_is_no_error(tmp_path: Path) -> None:
    builder = StateGraph(State)
    builder.add_node("node", lambda _: {"log": ["node"]})
    builder.add_edge(START, "node")
    with SqliteSaver(str(tmp_path / "clew.db")) as saver, SqliteSaver(str(tmp_path / "clew.db")) as elsewhere:
        graph, taker = builder.compile(checkpointer=saver), builder.compile(checkpointer=elsewhere)
        older = graph.stream({"log": []}, THREAD, stream_mode="tasks")
        next(older)
        with saver._writes._mutex:  # its writes wait while the thread is taken
            assert next(older)["result"] == {"log": ["node"]}
            taker.update_state(THREAD, {"log": ["taken"]}, as_node="node")
        older.close()
        assert taker.get_state(THREAD).values["log"] == ["taken"]
