"""A cancelled run and the run after it: what was on its way to storage arrives before the caller goes on."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
from pathlib import Path
from typing import Annotated, Any, TypedDict

from clew.checkpoint.sqlite import SqliteSaver
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
