"""One superstep with 500 tasks, each started by a `Send`."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from benchmarks.library import Library
from benchmarks.measure import Faster, Row, seconds

TASKS = 500
ROUNDS = 3
ROWS = (
    Row("sync", "500-way Send, sync: per task", "us", Faster(8)),
    Row("async", "500-way Send, async: per task", "us", Faster(8)),
)


class State(TypedDict):
    results: Annotated[list[int], operator.add]


def work(state: Any) -> dict[str, list[int]]:
    return {"results": [state["number"]]}


async def work_async(state: Any) -> dict[str, list[int]]:
    return {"results": [state["number"]]}


def fan_out(library: Library, node: Any) -> Any:
    send = library.module("types").Send
    graph = library.state_graph(State)
    graph.add_node("plan", lambda _: {})
    graph.add_node("work", node)
    graph.set_entry_point("plan")
    graph.add_conditional_edges("plan", lambda _: [send("work", {"number": number}) for number in range(TASKS)])
    return graph.compile()


def measure(library: Library) -> dict[str, float]:
    graph = fan_out(library, work)
    assert graph.invoke({"results": []}) == {"results": list(range(TASKS))}
    return {
        "sync": seconds(lambda: graph.invoke({"results": []}), repeats=5) / TASKS * 1e6,
        "async": asyncio.run(measure_async(library)) / TASKS * 1e6,
    }


async def measure_async(library: Library) -> float:
    graph = fan_out(library, work_async)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    for _ in range(6):
        start = loop.time()
        await graph.ainvoke({"results": []})
        times.append(loop.time() - start)
    return sorted(times[1:])[2]
