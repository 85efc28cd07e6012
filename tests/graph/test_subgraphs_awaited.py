"""The table of subgraphs once more where everything is async: nodes await their subgraphs on one event loop."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest

from clew.errors import NoSaverError
from clew.graph import START, StateGraph
from clew.types import Command, Send, interrupt
from tests.both import on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def asking(mode: Any, name: str = "inner") -> Any:
    async def ask(state: Log) -> Any:
        return {"log": [f"{name} heard {interrupt(f'{name}?')}"]}

    return StateGraph(Log).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=mode, name=name)


def counting(mode: Any, name: str = "inner") -> Any:
    async def note(state: Log) -> Any:
        await asyncio.sleep(0)
        return {"log": [f"{name} {len(state['log'])}"]}

    return StateGraph(Log).add_node("note", note).add_edge(START, "note").compile(checkpointer=mode, name=name)


def calling(*graphs: Any) -> Any:
    async def call(state: Any) -> Any:
        return {"log": [(await graph.ainvoke({"log": []}))["log"][-1] for graph in graphs]}

    return call


def around(node: Any, saver: Any) -> Any:
    return StateGraph(Log).add_node("outer", node).add_edge(START, "outer").compile(checkpointer=saver)


def turns(graph: Any, *given: Any, thread: str = "t") -> list[Any]:
    async def main() -> list[Any]:
        return [await graph.ainvoke(one, on(thread)) for one in given]

    return asyncio.run(main())


@pytest.mark.parametrize("mode", [None, True])
@pytest.mark.parametrize("is_node", [True, False])
def test_questions(saver: Any, mode: Any, is_node: bool) -> None:
    inner = asking(mode)
    asked, answered = turns(around(inner if is_node else calling(inner), saver), {"log": []}, Command(resume="yes"))

    assert [question.value for question in asked["__interrupt__"]] == ["inner?"]
    assert answered == {"log": ["inner heard yes"]}


def test_no_questions_without_checkpoints(saver: Any) -> None:
    with pytest.raises(NoSaverError, match="checkpointer=False"):
        turns(around(calling(asking(False)), saver), {"log": []})


@pytest.mark.parametrize(("mode", "second"), [(False, "inner 0"), (None, "inner 0"), (True, "inner 1")])
def test_memory_across_invocations(saver: Any, mode: Any, second: str) -> None:
    assert turns(around(calling(counting(mode)), saver), {"log": []}, {"log": []})[1]["log"] == ["inner 0", second]


@pytest.mark.parametrize("mode", [False, None, True])
def test_several_different_subgraphs_in_one_node(saver: Any, mode: Any) -> None:
    graph = around(calling(counting(mode, "fruit"), counting(mode, "veg")), saver)

    again = ["fruit 1", "veg 1"] if mode is True else ["fruit 0", "veg 0"]
    assert turns(graph, {"log": []}, {"log": []})[1]["log"] == ["fruit 0", "veg 0", *again]


@pytest.mark.parametrize("mode", [False, None, True])
def test_same_subgraph_several_times_one_after_another(saver: Any, mode: Any) -> None:
    inner = counting(mode)

    again = "inner 1" if mode is True else "inner 0"
    assert turns(around(calling(inner, inner), saver), {"log": []}, {"log": []})[1]["log"][2:] == [again, again]


def test_questions_of_subgraphs_awaited_at_once_are_all_asked_in_turn(saver: Any) -> None:
    fruit, veg = asking(None, "fruit"), asking(None, "veg")

    async def call(state: Log) -> Any:
        done = await asyncio.gather(fruit.ainvoke({"log": []}), veg.ainvoke({"log": []}))
        return {"log": [one["log"][-1] for one in done]}

    graph = around(call, saver)
    asked: list[str] = []
    given: Any = {"log": []}
    for _ in range(2):
        (state,) = turns(graph, given)
        question = state["__interrupt__"][0]
        asked.append(question.value)
        given = Command(resume={question.id: question.value[:-1]})

    assert turns(graph, given)[0] == {"log": ["fruit heard fruit", "veg heard veg"]}
    assert sorted(asked) == ["fruit?", "veg?"]


def test_questions_of_a_task_group_of_subgraphs(saver: Any) -> None:
    fruit, veg = asking(None, "fruit"), asking(None, "veg")

    async def call(state: Log) -> Any:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(fruit.ainvoke({"log": []}))
            second = group.create_task(veg.ainvoke({"log": []}))
        return {"log": [one.result()["log"][-1] for one in (first, second)]}

    graph = around(call, saver)
    (state,) = turns(graph, {"log": []})
    given: Any = None
    while "__interrupt__" in state:
        given = Command(resume={question.id: "yes" for question in state["__interrupt__"]})
        (state,) = turns(graph, given)

    assert state == {"log": ["fruit heard yes", "veg heard yes"]}


@pytest.mark.parametrize("mode", [False, None])
def test_subgraphs_under_send(saver: Any, mode: Any) -> None:
    builder = StateGraph(Log).add_node("outer", calling(counting(mode)))
    builder.add_conditional_edges(START, lambda state: [Send("outer", {"log": []})] * 3, ["outer"])

    assert turns(builder.compile(checkpointer=saver), {"log": []})[0] == {"log": ["inner 0"] * 3}


def test_state_of_a_waiting_subgraph(saver: Any) -> None:
    graph = around(calling(asking(None)), saver)
    turns(graph, {"log": []})

    snapshot = asyncio.run(graph.aget_state(on(), subgraphs=True))

    assert snapshot.tasks[0].state.next == ("ask",)
    assert [question.value for question in snapshot.tasks[0].state.interrupts] == ["inner?"]
