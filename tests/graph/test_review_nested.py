"""Graphs that nodes run by `stream` and `batch`, and what waits beside what: runs through both drivers' odd paths."""

from __future__ import annotations

import asyncio
import operator
import threading
from contextvars import ContextVar
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from clew.checkpoint.memory import InMemorySaver
from clew.errors import StepTimeoutError
from clew.graph import START, StateGraph
from clew.types import Command, RetryPolicy, interrupt

THREAD: dict[str, Any] = {"configurable": {"thread_id": "1"}}


class State(TypedDict, total=False):
    x: int
    log: Annotated[list[Any], operator.add]


def one_node(node: str, function: Any, **compiled: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node(node, function)
    builder.add_edge(START, node)
    return builder.compile(**compiled)


def asking() -> Any:
    return one_node("ask", lambda state: {"log": [(state["x"], interrupt(f"question {state['x']}"))]})


def test_a_question_inside_a_stream_that_a_node_reads_interrupts_the_node() -> None:
    inner = asking()
    graph = one_node("outer", lambda _: {"log": list(inner.stream({"x": 1}))}, checkpointer=InMemorySaver())
    first = graph.invoke({"x": 0}, THREAD)
    assert [question.value for question in first["__interrupt__"]] == ["question 1"]
    assert graph.invoke(Command(resume="yes"), THREAD)["log"] == [{"ask": {"log": [(1, "yes")]}}]


def test_a_question_inside_an_async_stream_that_a_node_reads_interrupts_the_node() -> None:
    inner = asking()

    async def outer(_: State) -> State:
        return {"log": [chunk async for chunk in inner.astream({"x": 1}, stream_mode="updates")]}

    async def main() -> None:
        graph = one_node("outer", outer, checkpointer=InMemorySaver())
        assert "__interrupt__" in await graph.ainvoke({"x": 0}, THREAD)
        done = await graph.ainvoke(Command(resume="yes"), THREAD)
        assert done["log"] == [{"ask": {"log": [(1, "yes")]}}]

    asyncio.run(main())


def test_questions_of_a_batch_inside_a_node_get_their_own_answers() -> None:
    inner = asking()

    def outer(_: State) -> State:
        return {"log": [out["log"] for out in inner.batch([{"x": index} for index in range(8)])]}

    graph = one_node("outer", outer, checkpointer=InMemorySaver())
    result = graph.invoke({"x": 0}, THREAD)
    while "__interrupt__" in result:
        questions = result["__interrupt__"]
        result = graph.invoke(Command(resume={q.id: f"answer to {q.value}" for q in questions}), THREAD)
    assert result["log"] == [[(index, f"answer to question {index}")] for index in range(8)]


def test_a_batch_runs_in_the_callers_context() -> None:
    variable: ContextVar[int] = ContextVar("variable")
    variable.set(7)
    graph = one_node("node", lambda _: {"log": [variable.get()]})
    assert [out["log"] for out in graph.batch([{"x": 1}, {"x": 2}])] == [[7], [7]]


def test_what_a_finished_node_wrote_does_not_wait_for_a_siblings_retry() -> None:
    """The retry's delay is longer than any test: the stream is closed instead of waiting for it."""
    has_failed = threading.Event()

    def fails(_: State) -> State:
        has_failed.set()
        raise ConnectionError

    def finishes(_: State) -> State:
        has_failed.wait()
        return {"log": ["finished"]}

    builder = StateGraph(State)
    builder.add_node("fails", fails, retry_policy=RetryPolicy(initial_interval=3600, jitter=False))
    builder.add_node("finishes", finishes)
    builder.add_edge(START, "fails")
    builder.add_edge(START, "finishes")
    graph = builder.compile(checkpointer=InMemorySaver())
    stream = graph.stream({"x": 1}, THREAD, stream_mode="updates")
    assert next(stream) == {"finishes": {"log": ["finished"]}}
    stream.close()
    assert graph.get_state(THREAD).next == ("fails",)


def test_a_retry_that_waits_alone_is_not_run_when_a_sibling_fails_for_good() -> None:
    both = threading.Barrier(2)
    runs: list[str] = []

    def fails(_: State) -> State:
        runs.append("fails")
        both.wait()
        raise ConnectionError

    def breaks(_: State) -> State:
        both.wait()
        raise ValueError("for good")

    builder = StateGraph(State)
    builder.add_node("fails", fails, retry_policy=RetryPolicy(initial_interval=3600, jitter=False))
    builder.add_node("breaks", breaks)
    builder.add_edge(START, "fails")
    builder.add_edge(START, "breaks")
    with pytest.raises(ValueError, match="for good"):
        builder.compile().invoke({"x": 1})
    assert runs == ["fails"]


@pytest.mark.parametrize("is_async", [False, True])
def test_retries_do_not_lengthen_the_step_timeout(is_async: bool) -> None:
    attempts: list[int] = []

    def fails(_: State) -> State:
        attempts.append(1)
        raise ConnectionError

    policy = RetryPolicy(initial_interval=0.02, backoff_factor=1, max_attempts=10_000, jitter=False)
    builder = StateGraph(State)
    builder.add_node("fails", fails, retry_policy=policy)
    builder.add_edge(START, "fails")
    graph = builder.compile()
    graph.step_timeout = 0.05
    with pytest.raises(StepTimeoutError):
        asyncio.run(graph.ainvoke({"x": 1})) if is_async else graph.invoke({"x": 1})
    assert len(attempts) < 10


class Runs(BaseCallbackHandler):
    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.parents: dict[str, str | None] = {}

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kwargs: Any
    ) -> None:
        self.names[run_id] = kwargs["name"]
        self.parents[kwargs["name"]] = self.names.get(parent_run_id)


@pytest.mark.parametrize("passes_config", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_graph_run_in_a_node_is_traced_under_that_node(passes_config: bool, is_async: bool) -> None:
    inner = one_node("leaf", lambda _: {"log": []}, name="inner")

    def call(_: State, config: RunnableConfig) -> State:
        inner.invoke({"x": 1}, config if passes_config else None)
        return {}

    async def acall(_: State, config: RunnableConfig) -> State:
        await inner.ainvoke({"x": 1}, config if passes_config else None)
        return {}

    graph = one_node("node", acall if is_async else call, name="graph")
    runs = Runs()
    config: dict[str, Any] = {"callbacks": [runs]}
    asyncio.run(graph.ainvoke({"x": 0}, config)) if is_async else graph.invoke({"x": 0}, config)
    assert runs.parents == {"graph": None, "node": "graph", "inner": "node", "leaf": "inner"}


def test_checkpoints_of_a_traced_nested_graph_carry_the_run_id() -> None:
    saver = InMemorySaver()
    graph = one_node("node", one_node("leaf", lambda _: {"log": []}), checkpointer=saver)
    run_id = "0199f0b4-7f53-7000-8000-000000000001"
    graph.invoke({"x": 0}, {**THREAD, "run_id": run_id, "callbacks": [Runs()]})
    stored = list(saver.list(None))
    assert {item.config["configurable"]["checkpoint_ns"].partition(":")[0] for item in stored} == {"", "node"}
    assert {item.metadata["run_id"] for item in stored} == {run_id}
