"""What users get wrong about graphs and writes: the message says what, where and why; the thread stays as it was."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pydantic
import pytest

from clew.errors import EmptyInputError, ErrorCode, GraphError, GraphRecursionError, InvalidUpdateError
from clew.graph import END, START, StateGraph
from clew.types import Command, Send
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]
    plain: str


def thread_with(saver: Any, node: Any, *others: str, schema: Any = Log) -> Any:
    """A graph whose node runs after one that always works."""
    builder = StateGraph(schema).add_node("node", node).add_edge(START, "node")
    for name in others:
        builder.add_node(name, lambda state: {"log": ["other"]})
    return builder.compile(checkpointer=saver)


def fails(drive: Drive, graph: Any, error: Any, match: str, given: Any = None) -> BaseException:
    """Run a thread once well (with `ok` as input), then wrongly; nothing of the failed superstep may be left."""
    with pytest.raises(error, match=match) as caught:
        drive.invoke(graph, given or {"log": ["in"], "plain": "p"}, on())
    state = drive.get_state(graph, on())
    assert state.values == {"log": ["in"], "plain": "p"}
    assert len(drive.get_state_history(graph, on())) == 2
    return caught.value


# -- unknown nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda b: b.add_edge("a", "nowhere"), r"edge ending at unknown node `nowhere` \(from 'a'\)"),
        (lambda b: b.add_edge("nowhere", "a"), "edge starting at unknown node 'nowhere'"),
        (
            lambda b: b.add_conditional_edges("a", lambda state: "x", {"x": "nowhere"}),
            "At 'a' node, '.*' branch found unknown target 'nowhere'",
        ),
        (
            lambda b: b.add_node("b", lambda state: None, destinations=("nowhere",)),
            r"unknown node `nowhere` \(destination of 'b'\)",
        ),
    ],
)
def test_unknown_node_of_an_edge_is_refused_when_compiling(build: Any, match: str) -> None:
    builder = StateGraph(Log).add_node("a", lambda state: None).add_edge(START, "a")
    build(builder)

    with pytest.raises(GraphError, match=match) as caught:
        builder.compile()

    assert caught.value.hint is not None
    assert caught.value.hint.startswith("the nodes are: a")


def test_unknown_node_of_a_goto(drive: Drive, saver: Any) -> None:
    graph = thread_with(saver, lambda state: Command(goto="nowhere", update={"log": ["lost"]}), "other")

    error = fails(drive, graph, InvalidUpdateError, "node 'node' goes to 'nowhere', which is not a node of the graph")

    assert error.hint == "the nodes are: node, other"  # type: ignore[attr-defined]


def test_unknown_node_of_a_send(drive: Drive, saver: Any) -> None:
    graph = thread_with(saver, lambda state: Command(goto=[Send("nowhere", {})]))

    fails(drive, graph, InvalidUpdateError, "node 'node' goes to 'nowhere'")


def test_unknown_node_of_a_path(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("node", lambda state: {"log": ["lost"]}).add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: "nowhere")

    fails(drive, builder.compile(checkpointer=saver), InvalidUpdateError, "'nowhere'")


def test_unknown_node_of_a_command_given_as_input(drive: Drive, saver: Any) -> None:
    graph = thread_with(saver, lambda state: {"log": ["x"]})
    drive.invoke(graph, {"log": ["in"], "plain": "p"}, on())
    before = drive.get_state_history(graph, on())

    with pytest.raises(InvalidUpdateError, match="'nowhere'"):
        drive.invoke(graph, Command(goto="nowhere"), on())

    assert drive.get_state_history(graph, on()) == before


def test_packet_to_the_end(drive: Drive, saver: Any) -> None:
    fails(drive, thread_with(saver, lambda state: Command(goto=Send(END, {}))), InvalidUpdateError, "the END node")


def test_command_to_a_parent_that_is_not_there(drive: Drive, saver: Any) -> None:
    graph = thread_with(saver, lambda state: Command(graph=Command.PARENT, goto="node"))

    fails(drive, graph, InvalidUpdateError, "there is no parent graph")


def test_command_to_a_graph_that_is_not_there(drive: Drive, saver: Any) -> None:
    graph = thread_with(saver, lambda state: Command(graph="elsewhere"))

    fails(drive, graph, InvalidUpdateError, "node 'node' sent a command to graph 'elsewhere', which does not exist")


# -- writes ----------------------------------------------------------------------------------------------------------


def conflicting(saver: Any) -> Any:
    builder = StateGraph(Log)
    for name in ("draft", "critic"):
        builder.add_node(name, lambda state: {"plain": "mine"}).add_edge(START, name)
    return builder.compile(checkpointer=saver)


def test_two_writes_to_a_plain_field(drive: Drive, saver: Any) -> None:
    error = fails(drive, conflicting(saver), InvalidUpdateError, "channel 'plain' received 2 writes in one superstep")

    assert "'critic', 'draft'" in str(error)
    assert "superstep 1" in str(error)
    assert error.code is ErrorCode.INVALID_CONCURRENT_GRAPH_UPDATE  # type: ignore[attr-defined]
    assert "Annotated[" in error.hint  # type: ignore[attr-defined]


def test_after_two_writes_the_thread_takes_new_input(drive: Drive, saver: Any) -> None:
    graph = conflicting(saver)
    fails(drive, graph, InvalidUpdateError, "received 2 writes")
    fixed = thread_with(saver, lambda state: {"plain": "fixed"})

    assert drive.invoke(fixed, {"log": ["more"]}, on()) == {"log": ["in", "more"], "plain": "fixed"}


def test_after_two_writes_the_thread_takes_an_update(drive: Drive, saver: Any) -> None:
    graph = conflicting(saver)
    fails(drive, graph, InvalidUpdateError, "received 2 writes")

    drive.update_state(graph, on(), {"plain": "decided"}, as_node="draft")

    assert drive.get_state(graph, on()).values["plain"] == "decided"


@pytest.mark.parametrize("result", ["text", 3, [1, 2], {"not", "a dict"}])
def test_something_else_than_an_update(drive: Drive, saver: Any, result: Any) -> None:
    error = fails(drive, thread_with(saver, lambda state: result), InvalidUpdateError, "node 'node' returned")

    assert f"of type {type(result).__name__}" in str(error)
    assert error.code is ErrorCode.INVALID_GRAPH_NODE_RETURN_VALUE  # type: ignore[attr-defined]
    assert error.hint == "return a dict of the fields to update, a Command, or None"  # type: ignore[attr-defined]


def test_reducer_that_cannot_take_a_value(drive: Drive, saver: Any) -> None:
    error = fails(drive, thread_with(saver, lambda state: {"log": 3}), TypeError, "can only concatenate list")

    assert any("'log'" in note and "'node'" in note for note in error.__notes__)


@pytest.mark.parametrize("given", ["text", 3, ["a"]])
def test_input_that_is_no_update(drive: Drive, saver: Any, given: Any) -> None:
    graph = thread_with(saver, lambda state: {"log": ["x"]})

    with pytest.raises(InvalidUpdateError, match="the input is"):
        drive.invoke(graph, given, on())

    assert drive.get_state_history(graph, on()) == []


def test_no_input_on_a_new_thread(drive: Drive, saver: Any) -> None:
    graph = thread_with(saver, lambda state: {"log": ["x"]})

    with pytest.raises(EmptyInputError, match="input"):
        drive.invoke(graph, None, on())

    assert drive.get_state_history(graph, on()) == []


class Person(pydantic.BaseModel):
    age: int = 0
    names: Annotated[list[str], operator.add] = []


@pytest.mark.parametrize(
    ("update", "match"),
    [
        ({"age": "old"}, "field 'age' is not valid for Person: Input should be a valid integer"),
        ({"names": [3]}, r"field 'names'\[1\] is not valid for Person: Input should be a valid string"),
    ],
)
def test_invalid_write_to_a_model(drive: Drive, saver: Any, update: Any, match: str) -> None:
    graph = thread_with(saver, lambda state: update, schema=Person)

    with pytest.raises(InvalidUpdateError, match=match):
        drive.invoke(graph, {"names": ["ada"]}, on())

    assert drive.get_state(graph, on()).values["names"] == ["ada"]
    assert len(drive.get_state_history(graph, on())) == 2
    with pytest.raises(InvalidUpdateError, match=match):
        drive.update_state(graph, on(), update, as_node="node")
    assert len(drive.get_state_history(graph, on())) == 2


# -- running ---------------------------------------------------------------------------------------------------------


def test_cycle_past_the_limit_keeps_what_was_done(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("node", lambda state: {"log": ["x"]}).add_edge(START, "node")
    graph = builder.add_edge("node", "node").compile(checkpointer=saver)

    with pytest.raises(GraphRecursionError, match="recursion limit of 3 reached") as caught:
        drive.invoke(graph, {"log": []}, {**on(), "recursion_limit": 3})

    assert caught.value.code is ErrorCode.GRAPH_RECURSION_LIMIT
    assert "condition that ends it" in str(caught.value.hint)
    assert drive.get_state(graph, on()).values["log"] == ["x"] * 3


def test_async_node_under_the_sync_driver_fails_before_anything_runs(saver: Any) -> None:
    ran: list[str] = []

    async def node(state: Log) -> Any:
        ran.append("async")

    def first(state: Log) -> Any:
        ran.append("first")

    graph = StateGraph(Log).add_sequence([first, node]).add_edge(START, "first").compile(checkpointer=saver)

    with pytest.raises(
        TypeError, match=r"node 'node' of graph 'LangGraph' is async only; use ainvoke, astream or abatch"
    ):
        graph.invoke({"log": []}, on())

    assert ran == []
    assert list(graph.get_state_history(on())) == []
