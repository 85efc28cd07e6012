"""What a run leaves behind: nothing that only the garbage collector can free. A chat's messages would hang on it."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.graph import START, StateGraph

TURNS = 10


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("backend", ["postgres", "sqlite"])
def test_async_run_leaves_no_reference_cycle(backend: str, durability: str, tmp_path: Path, database: str) -> None:
    saver: AbstractAsyncContextManager[Any]
    if backend == "postgres":
        saver = AsyncPostgresSaver.from_conn_string(database)
    else:
        saver = AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db"))

    assert asyncio.run(left_behind(saver, durability)) == []


async def left_behind(opening: AbstractAsyncContextManager[Any], durability: Any) -> list[str]:
    """The types of clew's objects that a few runs leave to the garbage collector.

    Not of others': a pool that some other test has left behind makes garbage in its own threads.
    """
    async with opening as saver:
        builder = StateGraph(dict)
        builder.add_node("node", lambda state: state)
        builder.add_edge(START, "node")
        graph = builder.compile(checkpointer=saver)

        async def talk() -> None:
            for turn in range(TURNS):
                await graph.ainvoke({"turn": turn}, {"configurable": {"thread_id": "a"}}, durability=durability)

        await talk()  # what only first runs make
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await talk()
            gc.collect()
            kinds = [type(found) for found in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    ours = [kind for kind in kinds if kind.__module__.startswith("clew.") and not issubclass(kind, psycopg.Connection)]
    return sorted(kind.__qualname__ for kind in ours)
