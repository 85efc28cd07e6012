"""What a superstep costs by itself: a chain of 20 nodes without a checkpointer."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from benchmarks.library import Library
from benchmarks.measure import Faster, Row, seconds

NODES = 20
ROUNDS = 5
ROWS = (
    Row("sync", "20-node chain, no checkpointer, sync: per superstep", "us", Faster(8)),
    Row("async", "20-node chain, no checkpointer, async: per superstep", "us", Faster(6)),
)


class State(TypedDict):
    count: int


def step(state: State) -> dict[str, int]:
    return {"count": state["count"] + 1}


async def step_async(state: State) -> dict[str, int]:
    return {"count": state["count"] + 1}


def chain(library: Library, node: Any, **compile_options: Any) -> Any:
    graph = library.state_graph(State)
    graph.add_sequence([(f"node_{place}", node) for place in range(NODES)])
    graph.set_entry_point("node_0")
    return graph.compile(**compile_options)


def measure(library: Library) -> dict[str, float]:
    graph = chain(library, step)
    assert graph.invoke({"count": 0}) == {"count": NODES}
    return {
        "sync": seconds(lambda: graph.invoke({"count": 0}), repeats=60, warm_up=5) / NODES * 1e6,
        "async": asyncio.run(measure_async(library)) / NODES * 1e6,
    }


async def measure_async(library: Library) -> float:
    graph = chain(library, step_async)
    assert await graph.ainvoke({"count": 0}) == {"count": NODES}
    loop = asyncio.get_running_loop()
    times: list[float] = []
    for _ in range(65):
        start = loop.time()
        await graph.ainvoke({"count": 0})
        times.append(loop.time() - start)
    return sorted(times[5:])[len(times[5:]) // 2]
