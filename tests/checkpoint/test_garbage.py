"""What a run leaves behind: nothing that only the garbage collector can free. A chat's messages would hang on it."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.graph import START, StateGraph

TURNS = 10
FEW = TURNS  # objects; one reference cycle through a run holds its session, its cursor and its values, every turn


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("backend", ["postgres", "sqlite"])
def test_async_run_leaves_no_reference_cycle(backend: str, durability: str, tmp_path: Path, database: str) -> None:
    saver: AbstractAsyncContextManager[Any]
    if backend == "postgres":
        saver = AsyncPostgresSaver.from_conn_string(database)
    else:
        saver = AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db"))

    assert asyncio.run(left_behind(saver, durability)) < FEW


async def left_behind(opening: AbstractAsyncContextManager[Any], durability: Any) -> int:
    """How many objects a few runs leave to the garbage collector."""
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
        try:
            await talk()
            return gc.collect()
        finally:
            gc.enable()
