"""Stateful subgraphs called at the same time: different ones are told apart, the same one is refused."""

from __future__ import annotations

import asyncio
import operator
import threading
import warnings
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.errors import ErrorCode, SubgraphOverlapError
from clew.func import entrypoint, task
from clew.graph import START, StateGraph
from clew.types import Command, Send, interrupt
from tests.both import Drive, on

SECONDS = 20


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class Gate:
    """Holds one call inside a stateful subgraph until another has been tried."""

    def __init__(self) -> None:
        self.is_inside = threading.Event()
        self.is_open = threading.Event()

    def inner(self, name: str = "assistant") -> Any:
        def note(state: Log) -> Any:
            self.is_inside.set()
            assert self.is_open.wait(SECONDS)
            return {"log": [f"{name} {len(state['log'])}"]}

        return StateGraph(Log).add_node("note", note).add_edge(START, "note").compile(checkpointer=True, name=name)

    def second(self, call: Callable[[], Any]) -> Any:
        assert self.is_inside.wait(SECONDS)
        try:
            return call()
        finally:
            self.is_open.set()


def counting(name: str) -> Any:
    async def note(state: Log) -> Any:
        await asyncio.sleep(0)  # let others of the loop run
        return {"log": [f"{name} {len(state['log'])}"]}

    return StateGraph(Log).add_node("note", note).add_edge(START, "note").compile(checkpointer=True, name=name)


def around(node: Any, saver: Any) -> Any:
    return StateGraph(Log).add_node("outer", node).add_edge(START, "outer").compile(checkpointer=saver)


def test_same_subgraph_in_two_sent_tasks_at_once_is_refused(drive: Drive, saver: Any) -> None:
    gate = Gate()
    inner = gate.inner()

    def call(state: Any) -> Any:
        def run() -> Any:
            return {"log": inner.invoke({"log": []})["log"][-1:]}

        return run() if state["index"] == 0 else gate.second(run)

    builder = StateGraph(Log).add_node("outer", call)
    builder.add_conditional_edges(START, lambda state: [Send("outer", {"index": i}) for i in (0, 1)], ["outer"])
    graph = builder.compile(checkpointer=saver)

    with pytest.raises(SubgraphOverlapError) as caught:
        drive.invoke(graph, {"log": []}, on())

    assert str(caught.value) == (
        "node 'outer' calls the stateful subgraph 'assistant' again before its earlier call has ended (superstep 1)"
    )
    assert caught.value.hint is not None
    assert "one after another" in caught.value.hint
    assert "checkpointer=True" in caught.value.hint
    assert caught.value.code is ErrorCode.MULTIPLE_SUBGRAPHS
    assert "outer" in drive.get_state(graph, on()).next


def test_same_subgraph_awaited_twice_at_once_in_one_node_is_refused(saver: Any) -> None:
    inner = counting("assistant")

    async def call(state: Log) -> Any:
        await asyncio.gather(inner.ainvoke({"log": []}), inner.ainvoke({"log": []}))
        return {}

    graph = around(call, saver)

    with pytest.raises(SubgraphOverlapError, match="node 'outer' calls the stateful subgraph 'assistant' again"):
        asyncio.run(graph.ainvoke({"log": []}, on()))


def test_after_a_refusal_the_thread_goes_on_with_the_remedy(saver: Any) -> None:
    inner = counting("assistant")
    is_parallel = True

    async def call(state: Log) -> Any:
        if is_parallel:
            await asyncio.gather(inner.ainvoke({"log": []}), inner.ainvoke({"log": []}))
        return {"log": [(await inner.ainvoke({"log": []}))["log"][-1] for _ in range(2)]}

    graph = around(call, saver)
    with pytest.raises(SubgraphOverlapError):
        asyncio.run(graph.ainvoke({"log": []}, on()))
    is_parallel = False
    state = asyncio.run(graph.ainvoke(None, on()))

    assert len(state["log"]) == 2


def test_same_subgraph_in_two_child_tasks_at_once_is_refused(drive: Drive, saver: Any) -> None:
    gate = Gate()
    inner = gate.inner()

    @task
    def ask(index: int) -> str:
        def run() -> Any:
            return inner.invoke({"log": []})["log"][-1]

        return run() if index == 0 else gate.second(run)

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        futures = [ask(0), ask(1)]
        return [future.result() for future in futures]

    with pytest.raises(SubgraphOverlapError, match="stateful subgraph 'assistant' again"):
        drive.invoke(workflow, "go", on())


def test_same_subgraph_in_two_child_tasks_one_after_another_remembers(drive: Drive, saver: Any) -> None:
    inner = StateGraph(Log).add_node("note", lambda state: {"log": [f"note {len(state['log'])}"]})
    assistant = inner.add_edge(START, "note").compile(checkpointer=True)

    @task
    def ask() -> str:
        return assistant.invoke({"log": []})["log"][-1]

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return [ask().result()]

    assert drive.invoke(workflow, "go", on()) == ["note 0"]
    assert drive.invoke(workflow, "go", on()) == ["note 1"]


def test_different_subgraphs_at_once_are_kept_apart_with_a_warning(saver: Any) -> None:
    fruit, veg = counting("fruit"), counting("veg")

    async def call(state: Log) -> Any:
        done = await asyncio.gather(fruit.ainvoke({"log": []}), veg.ainvoke({"log": []}))
        return {"log": [one["log"][-1] for one in done]}

    graph = around(call, saver)
    with pytest.warns(UserWarning, match="runs several stateful subgraphs") as caught:
        asyncio.run(graph.ainvoke({"log": []}, on()))
    with pytest.warns(UserWarning, match="unique node name"):
        state = asyncio.run(graph.ainvoke({"log": []}, on()))

    assert state["log"] == ["fruit 0", "veg 0", "fruit 1", "veg 1"]
    assert "node 'outer'" in str(caught[0].message)


def test_different_subgraphs_one_after_another_need_no_names() -> None:
    fruit, veg = counting("fruit"), counting("veg")

    async def call(state: Log) -> Any:
        return {"log": [(await graph.ainvoke({"log": []}))["log"][-1] for graph in (fruit, veg)]}

    graph = around(call, InMemorySaver())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(graph.ainvoke({"log": []}, on()))
        state = asyncio.run(graph.ainvoke({"log": []}, on()))

    assert state["log"] == ["fruit 0", "veg 0", "fruit 1", "veg 1"]


@pytest.mark.parametrize("mode", [False, None])
def test_same_subgraph_without_memory_may_run_twice_at_once(saver: Any, mode: Any) -> None:
    inner = StateGraph(Log).add_node("note", lambda state: {"log": ["noted"]}).add_edge(START, "note")
    compiled = inner.compile(checkpointer=mode)

    async def call(state: Log) -> Any:
        done = await asyncio.gather(compiled.ainvoke({"log": []}), compiled.ainvoke({"log": []}))
        return {"log": [line for one in done for line in one["log"]]}

    assert asyncio.run(around(call, saver).ainvoke({"log": []}, on())) == {"log": ["noted", "noted"]}


def test_wrapped_under_unique_names_the_same_assistant_runs_in_parallel(drive: Drive, saver: Any) -> None:
    def assistant(name: str) -> Any:
        def note(state: Log) -> Any:
            return {"log": [f"{name} {len([line for line in state['log'] if line.startswith(name)])}"]}

        inner = StateGraph(Log).add_node("note", note).add_edge(START, "note").compile(checkpointer=True)
        return StateGraph(Log).add_node(name, inner).add_edge(START, name).compile()

    fruit, veg = assistant("fruit"), assistant("veg")

    def call_fruit(state: Log) -> Any:
        return {"log": fruit.invoke({"log": []})["log"][-1:]}

    def call_veg(state: Log) -> Any:
        return {"log": veg.invoke({"log": []})["log"][-1:]}

    builder = StateGraph(Log).add_node(call_fruit).add_node(call_veg)
    graph = builder.add_edge(START, "call_fruit").add_edge(START, "call_veg").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, {"log": []}, on())["log"] == ["fruit 0", "veg 0", "fruit 1", "veg 1"]


def test_question_in_the_second_of_two_calls_leaves_the_first_alone(drive: Drive, saver: Any) -> None:
    ran: list[str] = []

    def assistant(name: str, *, asks: bool) -> Any:
        def note(state: Log) -> Any:
            ran.append(name)
            return {"log": [interrupt(f"{name}?") if asks else name]}

        return StateGraph(Log).add_node("note", note).add_edge(START, "note").compile(checkpointer=True, name=name)

    quiet, asker = assistant("quiet", asks=False), assistant("asker", asks=True)

    def call(state: Log) -> Any:
        return {"log": quiet.invoke({"log": []})["log"] + asker.invoke({"log": []})["log"]}

    graph = around(call, saver)
    drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, Command(resume="yes"), on())

    assert state == {"log": ["quiet", "yes"]}
    assert ran == ["quiet", "asker", "asker"]
