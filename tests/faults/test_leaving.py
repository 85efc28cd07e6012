"""Whoever reads a stream goes away in the middle: nothing hangs, nothing goes on, and the thread can be continued."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.func import task
from clew.graph import START, StateGraph
from tests.faults.stories import Log

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class Bench:
    """A graph whose nodes run until the test lets them: one that speaks, and others that call a child task."""

    def __init__(self, others: int) -> None:
        self.gate = threading.Event()
        self.children = 0
        self.graph = self.built(others)

    def built(self, others: int) -> Any:
        @task
        def child() -> int:
            self.children += 1
            return 1

        def speaks(state: Any, writer: Any) -> Any:
            writer("hello")
            self.gate.wait(20)
            return {"log": []}

        def calls(state: Any) -> Any:
            self.gate.wait(20)
            return {"log": [str(child().result())]}

        graph = StateGraph(Log)
        graph.add_node("a speaks", speaks)
        graph.add_edge(START, "a speaks")
        for number in range(others):
            graph.add_node(f"calls{number:02}", calls)
            graph.add_edge(START, f"calls{number:02}")
        return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("others", [0, 1, 40])
def test_closing_a_stream_while_nodes_run_stops_them(others: int) -> None:
    bench = Bench(others)
    stream = bench.graph.stream({"log": ["in"]}, CONFIG, stream_mode="custom")
    assert next(stream) == "hello"

    bench.gate.set()
    stream.close()

    assert bench.children == 0
    after = bench.graph.invoke(None, CONFIG)
    assert after["log"] == ["in", *["1"] * others]
    assert bench.children == others


@pytest.mark.parametrize("others", [0, 1, 40])
def test_closing_an_async_stream_while_sync_nodes_run_stops_the_run(others: int) -> None:
    bench = Bench(others)

    async def leave() -> None:
        stream = bench.graph.astream({"log": ["in"]}, CONFIG, stream_mode="custom")
        assert await anext(stream) == "hello"
        await stream.aclose()

    asyncio.run(leave())
    assert bench.children == 0
    bench.gate.set()

    assert bench.graph.invoke(None, CONFIG)["log"] == ["in", *["1"] * others]


def test_a_sibling_that_finishes_while_its_stream_is_closed_is_not_repeated() -> None:
    ran: list[str] = []
    is_read = threading.Event()

    def quick(state: Any) -> Any:
        ran.append("quick")
        return {"log": ["quick"]}

    def slow(state: Any) -> Any:
        is_read.wait(20)
        ran.append("slow")
        return {"log": ["slow"]}

    builder = StateGraph(Log).add_node("quick", quick).add_node("slow", slow)
    graph = builder.add_edge(START, "quick").add_edge(START, "slow").compile(checkpointer=InMemorySaver())
    stream = graph.stream({"log": []}, CONFIG, stream_mode="updates")
    assert next(stream) == {"quick": {"log": ["quick"]}}
    is_read.set()
    stream.close()

    result = graph.invoke(None, CONFIG)

    assert result["log"] == ["quick", "slow"]
    assert ran == ["quick", "slow"]
