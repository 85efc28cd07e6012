"""Values that cannot be stored: the error names node, channel and the path inside; the thread stays as it was."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest

from clew.errors import SerializationError
from clew.func import entrypoint, task
from clew.graph import START, StateGraph
from clew.types import Command, Send, interrupt
from tests.both import Drive, on


class Box(TypedDict):
    log: Annotated[list[Any], operator.add]
    value: Any


class Stranger:
    """A class that no schema mentions."""


DURABILITIES = ["sync", "async", "exit"]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_value_of_a_node(drive: Drive, saver: Any, durability: str) -> None:
    builder = StateGraph(Box).add_node("first", lambda state: {"log": ["first"]})
    builder.add_node("node", lambda state: {"value": {"rows": [1, {"lock": threading.Lock()}]}})
    graph = builder.add_edge(START, "first").add_edge("first", "node").compile(checkpointer=saver)

    with pytest.raises(SerializationError) as caught:
        drive.invoke(graph, {"log": ["in"]}, on(), durability=durability)

    text = str(caught.value)
    assert "'value'" in text
    assert "'node'" in text or durability == "exit"  # which saves no writes, only states
    assert "lock" in text
    assert caught.value.path == "['rows'][1]['lock']"
    assert drive.get_state(graph, on()).values["log"] in ((["in", "first"]), ["in"], [])
    assert all("value" not in snapshot.values for snapshot in drive.get_state_history(graph, on()))


def test_value_of_one_of_several_nodes(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Box).add_node("good", lambda state: {"log": ["good"]})
    builder.add_node("bad", lambda state: {"log": [threading.Lock()]})
    graph = builder.add_edge(START, "good").add_edge(START, "bad").compile(checkpointer=saver)

    with pytest.raises(SerializationError) as caught:
        drive.invoke(graph, {"log": []}, on(), durability="sync")

    assert "'log'" in str(caught.value)
    assert "'bad'" in str(caught.value)
    assert caught.value.path == "[0]"
    assert drive.get_state(graph, on()).values["log"] in ([], ["good"])


def test_class_that_is_not_registered_comes_with_the_call_that_registers_it(drive: Drive, saver: Any) -> None:
    graph = StateGraph(Box).add_node("node", lambda state: {"value": [Stranger()]}).add_edge(START, "node")
    compiled = graph.compile(checkpointer=saver)

    with pytest.raises(SerializationError, match="Stranger") as caught:
        drive.invoke(compiled, {"log": []}, on(), durability="sync")

    assert "register" in str(caught.value.hint)


def test_input(drive: Drive, saver: Any) -> None:
    graph = StateGraph(Box).add_node("node", lambda state: {"log": ["x"]}).add_edge(START, "node")
    compiled = graph.compile(checkpointer=saver)

    with pytest.raises(SerializationError, match="lock"):
        drive.invoke(compiled, {"value": threading.Lock()}, on())

    assert drive.get_state_history(compiled, on()) == []


def test_update(drive: Drive, saver: Any) -> None:
    graph = StateGraph(Box).add_node("node", lambda state: {"log": ["x"]}).add_edge(START, "node")
    compiled = graph.compile(checkpointer=saver)
    drive.invoke(compiled, {"log": []}, on())
    before = drive.get_state_history(compiled, on())

    with pytest.raises(SerializationError, match="'value'"):
        drive.update_state(compiled, on(), {"value": threading.Lock()})

    assert drive.get_state_history(compiled, on()) == before


def test_packet_of_a_send(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Box).add_node("start", lambda state: Command(goto=Send("node", {"deep": threading.Lock()})))
    builder.add_node("node", lambda state: {"log": ["x"]})
    graph = builder.add_edge(START, "start").compile(checkpointer=saver)

    with pytest.raises(SerializationError, match="lock") as caught:
        drive.invoke(graph, {"log": []}, on(), durability="sync")

    assert "'start'" in str(caught.value)


def test_question_and_answer(drive: Drive, saver: Any) -> None:
    def asks(state: Box) -> Any:
        return {"log": [interrupt({"what": threading.Lock()} if state["value"] else "fine")]}

    graph = StateGraph(Box).add_node("asks", asks).add_edge(START, "asks").compile(checkpointer=saver)
    with pytest.raises(SerializationError, match="lock"):
        drive.invoke(graph, {"log": [], "value": True}, on("question"), durability="sync")
    drive.invoke(graph, {"log": [], "value": False}, on())
    before = drive.get_state(graph, on())

    with pytest.raises(SerializationError, match="lock"):
        drive.invoke(graph, Command(resume=threading.Lock()), on())

    assert drive.get_state(graph, on()) == before
    assert drive.invoke(graph, Command(resume="yes"), on())["log"] == ["yes"]


def test_result_of_a_child_task(drive: Drive, saver: Any) -> None:
    @task
    def child() -> Any:
        return {"lock": threading.Lock()}

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        child().result()
        return "done"

    with pytest.raises(SerializationError, match="child") as caught:
        drive.invoke(workflow, "go", on(), durability="sync")

    assert caught.value.path == "['lock']"


def test_cycle_and_depth_are_refused_with_a_path(drive: Drive, saver: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    graph = StateGraph(Box).add_node("node", lambda state: {"value": loop}).add_edge(START, "node")

    with pytest.raises(SerializationError, match="'value'"):
        drive.invoke(graph.compile(checkpointer=saver), {"log": []}, on(), durability="sync")


def test_a_coroutine_that_was_not_awaited_is_named(drive: Drive, saver: Any) -> None:
    async def later() -> int:
        return 1

    made: list[Any] = []

    def node(state: Box) -> Any:
        made.append(later())
        return {"value": made[0]}

    graph = StateGraph(Box).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)
    with pytest.raises(SerializationError, match="coroutine"):
        drive.invoke(graph, {"log": []}, on(), durability="sync")
    made[0].close()


def test_without_a_checkpointer_any_value_will_do() -> None:
    lock = threading.Lock()
    graph = StateGraph(Box).add_node("node", lambda state: {"value": lock}).add_edge(START, "node").compile()

    assert graph.invoke({"log": []})["value"] is lock
    assert asyncio.run(graph.ainvoke({"log": []}))["value"] is lock
