"""A fan-out of 50 tasks on PostgreSQL: how often the saver asks the server and waits, counted on the wire.

Counted is the fan-out superstep alone: from its first task's start until the run, whose last superstep it is, returns,
so that all of it is stored by then. A round trip is a flush that the client waits for, on any of its connections.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from benchmarks import postgres
from benchmarks.library import Library
from benchmarks.measure import AtMost, Row
from tests.proxy import Proxy

TASKS = 50
GAP = 0.01  # seconds between the ends of two tasks that trickle
ROUNDS = 1
POSTGRES = True
ROWS = (
    Row("at_once", f"{TASKS} tasks that finish at once: superstep", "round trips", AtMost(3)),
    Row("at_once_run", "the whole run", "round trips"),
    Row("at_once_statements", "statements of the superstep", "statements"),
    Row("trickle", f"{TASKS} tasks that finish one after another: superstep", "round trips", AtMost(TASKS)),
    Row("trickle_far", f"the same with {postgres.ROUND_TRIP * 1e3:g} ms more per round trip", "round trips"),
)


class State(TypedDict):
    results: Annotated[list[int], operator.add]


def measure(library: Library) -> dict[str, float]:
    at_once = asyncio.run(count(library, finish_at_once))
    trickle = asyncio.run(count(library, finish_in_turn))
    far = asyncio.run(count(library, finish_in_turn, latency=postgres.ROUND_TRIP / 2))
    return {
        "at_once": at_once["round_trips"],
        "at_once_run": at_once["run"],
        "at_once_statements": at_once["statements"],
        "trickle": trickle["round_trips"],
        "trickle_far": far["round_trips"],
    }


Finish = Callable[[int], Awaitable[None]]  # returns when the task of this number may end


def finish_at_once() -> Finish:
    """All tasks end when the last one has begun."""
    everyone, begun = asyncio.Event(), [0]

    async def finish(number: int) -> None:
        begun[0] += 1
        if begun[0] == TASKS:
            everyone.set()
        await everyone.wait()

    return finish


def finish_in_turn() -> Finish:
    async def finish(number: int) -> None:
        await asyncio.sleep((number + 1) * GAP)

    return finish


async def count(library: Library, finishing: Callable[[], Finish], latency: float = 0.0) -> dict[str, float]:
    """Round trips and statements of the fan-out superstep, and round trips of the run."""
    with postgres.database() as database, Proxy.to(database.near, latency=latency) as proxy:
        async with library.async_postgres_saver(proxy.conninfo(database.near)) as saver:
            counted: dict[str, float] = {}
            graph = fan_out(library, saver, proxy, finishing, counted)
            for thread in ("warm", "fan"):  # statements are prepared in the first run
                proxy.reset()
                state = await graph.ainvoke({"results": []}, {"configurable": {"thread_id": thread}}, durability="sync")
                assert sorted(state["results"]) == list(range(TASKS))
                counted["round_trips"], counted["statements"] = proxy.round_trips, len(proxy.statements)
                counted["run"] = counted["before"] + counted["round_trips"]
    return counted


def fan_out(
    library: Library, saver: Any, proxy: Proxy, finishing: Callable[[], Finish], counted: dict[str, float]
) -> Any:
    send = library.module("types").Send
    finish: list[Finish] = []

    async def plan(state: Any) -> Any:
        finish[:] = [finishing()]
        counted.clear()
        return {}

    async def work(task: Any) -> Any:
        if not counted:
            counted["before"] = proxy.round_trips
            proxy.reset()
        await finish[0](task["number"])
        return {"results": [task["number"]]}

    graph = library.state_graph(State)
    graph.add_node("plan", plan)
    graph.add_node("work", work)
    graph.set_entry_point("plan")
    graph.add_conditional_edges("plan", lambda _: [send("work", {"number": number}) for number in range(TASKS)])
    return graph.compile(checkpointer=saver)
