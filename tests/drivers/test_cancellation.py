"""Cancelling a run under asyncio ends it at once, whatever its nodes wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.func import entrypoint, task
from clew.graph import START, StateGraph


class State(TypedDict, total=False):
    a: int
    b: int


class Waiting:
    """Nodes that wait for ever, and what happened to them."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gate = threading.Event()
        self.ended: list[str] = []
        self.loop = asyncio.get_running_loop()

    async def node(self, state: Any) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append("node")

    def node_on_a_thread(self, state: Any) -> Any:
        self.loop.call_soon_threadsafe(self.begun.set)
        self.gate.wait(10)


def graph_of(*actions: Any) -> Any:
    builder = StateGraph(State)
    for name, action in zip("ab", actions, strict=False):
        builder.add_node(f"node_{name}", action).add_edge(START, f"node_{name}")
    return builder.compile(checkpointer=InMemorySaver())


def one_node(waiting: Waiting) -> Any:
    return graph_of(waiting.node)


def two_nodes(waiting: Waiting) -> Any:
    return graph_of(waiting.node, waiting.node)


def node_on_a_thread(waiting: Waiting) -> Any:
    return graph_of(waiting.node_on_a_thread)


def subgraph(waiting: Waiting) -> Any:
    return graph_of(graph_of(waiting.node))


def task_of_an_entrypoint(waiting: Waiting) -> Any:
    @task
    async def wait() -> Any:
        return await waiting.node(None)

    @entrypoint(checkpointer=InMemorySaver())
    async def work(given: Any) -> Any:
        return await wait()

    return work


CONFIG = {"configurable": {"thread_id": "1"}}


@pytest.mark.parametrize("build", [one_node, two_nodes, node_on_a_thread, subgraph, task_of_an_entrypoint])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_cancelled_run_ends_at_once(build: Callable[[Waiting], Any], is_streamed: bool) -> None:
    async def collect(graph: Any) -> None:
        async for _ in graph.astream({"a": 1}, CONFIG):
            pass

    async def cancel() -> list[str]:
        waiting = Waiting()
        graph = build(waiting)
        run: Awaitable[Any] = collect(graph) if is_streamed else graph.ainvoke({"a": 1}, CONFIG)
        running = asyncio.ensure_future(run)
        await waiting.begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)
        waiting.gate.set()
        return waiting.ended

    ended = asyncio.run(cancel())

    assert set(ended) == (set() if build is node_on_a_thread else {"node"})


def test_cancelled_run_can_be_continued() -> None:
    async def cancel_and_continue() -> Any:
        waiting = Waiting()
        tries: list[int] = []

        async def node(state: Any) -> Any:
            tries.append(1)
            return await waiting.node(state) if len(tries) == 1 else {"b": state["a"] + 1}

        graph = graph_of(node)
        running = asyncio.ensure_future(graph.ainvoke({"a": 1}, CONFIG))
        await waiting.begun.wait()
        running.cancel()
        await asyncio.wait([running])
        return await graph.ainvoke(None, CONFIG)

    assert asyncio.run(cancel_and_continue()) == {"a": 1, "b": 2}


def test_wait_for_around_a_run_times_out() -> None:
    async def limited() -> None:
        await asyncio.wait_for(one_node(Waiting()).ainvoke({"a": 1}, CONFIG), 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
