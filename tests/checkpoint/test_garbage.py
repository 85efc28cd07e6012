"""What a run leaves behind: nothing that only the garbage collector can free. A chat's messages would hang on it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.graph import START, StateGraph

TURNS = 10


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("backend", ["postgres", "sqlite"])
def test_async_run_leaves_no_reference_cycle(backend: str, durability: str, tmp_path: Path, database: str) -> None:
    where = database if backend == "postgres" else str(tmp_path / "threads.db")
    # A process of its own: what other tests have left to the collector, and their pools' threads, are not there.
    program = [sys.executable, "-m", "tests.checkpoint.test_garbage", backend, durability, where]

    result = subprocess.run(program, capture_output=True, text=True, timeout=60)

    assert (result.stdout, result.stderr, result.returncode) == ("[]\n", "", 0)


def opened(backend: str, where: str) -> AbstractAsyncContextManager[Any]:
    kind: Any = AsyncPostgresSaver if backend == "postgres" else AsyncSqliteSaver
    return kind.from_conn_string(where)


async def left_behind(opening: AbstractAsyncContextManager[Any], durability: Any) -> list[str]:
    """The types of clew's objects that a few runs leave to the garbage collector."""
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
    return sorted(kind.__qualname__ for kind in kinds if kind.__module__.startswith("clew."))


if __name__ == "__main__":
    print(asyncio.run(left_behind(opened(sys.argv[1], sys.argv[3]), sys.argv[2])))
