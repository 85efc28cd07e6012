"""The same programs under all three durabilities: only what is kept of the way differs, never the outcome."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.func import entrypoint, task
from clew.graph import START, StateGraph
from clew.types import Command, Send, interrupt
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@pytest.fixture(params=["sync", "async", "exit"])
def durability(request: pytest.FixtureRequest) -> str:
    return request.param


def say(word: str) -> Any:
    return lambda state: {"log": [word]}


def asking(question: str) -> Any:
    return lambda state: {"log": [interrupt(question)]}


def test_turns_build_on_each_other(drive: Drive, saver: Any, durability: str) -> None:
    builder = StateGraph(Log).add_sequence([(name, say(name)) for name in "abc"]).add_edge(START, "a")
    graph = builder.compile(checkpointer=saver)

    for _ in range(3):
        state = drive.invoke(graph, {"log": ["in"]}, on(), durability=durability)

    assert state["log"] == ["in", "a", "b", "c"] * 3
    assert drive.get_state(graph, on()).values == state
    kept = [snapshot.metadata["source"] for snapshot in drive.get_state_history(graph, on())]
    assert kept == (["loop", "input"] * 3 if durability == "exit" else (["loop"] * 4 + ["input"]) * 3)


def test_questions_survive(drive: Drive, saver: Any, durability: str) -> None:
    builder = StateGraph(Log).add_sequence([("a", say("a")), ("ask", asking("?")), ("b", say("b"))])
    graph = builder.add_edge(START, "a").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on(), durability=durability)

    assert drive.get_state(graph, on()).next == ("ask",)
    assert drive.invoke(graph, Command(resume="yes"), on(), durability=durability)["log"] == ["a", "yes", "b"]


def test_questions_of_nested_graphs_survive(drive: Drive, saver: Any, durability: str) -> None:
    inner = StateGraph(Log).add_sequence([("i", say("i")), ("ask", asking("?"))]).add_edge(START, "i").compile()
    builder = StateGraph(Log).add_sequence([("a", say("a")), ("sub", inner), ("b", say("b"))])
    graph = builder.add_edge(START, "a").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on(), durability=durability)

    state = drive.invoke(graph, Command(resume="yes"), on(), durability=durability)
    assert state["log"] == ["a", "a", "i", "yes", "b"]


def test_memory_of_subgraphs_survives(drive: Drive, saver: Any, durability: str) -> None:
    inner = StateGraph(Log).add_node("note", lambda state: {"log": [str(len(state["log"]))]})
    memory = inner.add_edge(START, "note").compile(checkpointer=True)

    def call(state: Log) -> Any:
        return {"log": memory.invoke({"log": []})["log"][-1:]}

    graph = StateGraph(Log).add_node(call).add_edge(START, "call").compile(checkpointer=saver)
    for _ in range(3):
        state = drive.invoke(graph, {"log": []}, on(), durability=durability)

    assert state["log"] == ["0", "1", "2"]


def test_a_failed_run_goes_on(drive: Drive, saver: Any, durability: str) -> None:
    fails = [True]

    def maybe(state: Log) -> Any:
        if fails.pop():
            fails.append(False)
            raise RuntimeError("power cut")
        return {"log": ["b"]}

    builder = StateGraph(Log).add_sequence([("a", say("a")), ("b", maybe), ("c", say("c"))]).add_edge(START, "a")
    graph = builder.compile(checkpointer=saver)
    with pytest.raises(RuntimeError, match="power cut"):
        drive.invoke(graph, {"log": []}, on(), durability=durability)

    assert drive.get_state(graph, on()).next == ("b",)
    assert drive.invoke(graph, None, on(), durability=durability)["log"] == ["a", "b", "c"]


def test_a_stream_that_is_left_goes_on(drive: Drive, saver: Any, durability: str) -> None:
    builder = StateGraph(Log).add_sequence([(name, say(name)) for name in "abc"]).add_edge(START, "a")
    graph = builder.compile(checkpointer=saver)
    stream = drive.stream(graph, {"log": []}, on(), durability=durability, stream_mode="updates")
    next(stream)
    stream.close()

    assert drive.get_state(graph, on()).values["log"][:1] == ["a"]
    assert drive.invoke(graph, None, on(), durability=durability)["log"] == ["a", "b", "c"]


def test_packets_survive(drive: Drive, saver: Any, durability: str) -> None:
    builder = StateGraph(Log).add_node("work", lambda state: {"log": [state["item"]]}).add_node("sum", say("sum"))
    builder.add_conditional_edges(START, lambda state: [Send("work", {"item": item}) for item in "xyz"], ["work"])
    graph = builder.add_edge("work", "sum").compile(checkpointer=saver)

    stopped = drive.invoke(graph, {"log": []}, on(), durability=durability, interrupt_before=["work"])
    assert stopped["log"] == []
    assert drive.invoke(graph, None, on(), durability=durability)["log"] == ["x", "y", "z", "sum"]


def test_forks_and_replays(drive: Drive, saver: Any, durability: str) -> None:
    builder = StateGraph(Log).add_sequence([(name, say(name)) for name in "ab"]).add_edge(START, "a")
    graph = builder.compile(checkpointer=saver)
    drive.invoke(graph, {"log": ["one"]}, on(), durability=durability)
    first = drive.get_state(graph, on()).config
    drive.invoke(graph, {"log": ["two"]}, on(), durability=durability)

    fork = drive.invoke(graph, {"log": ["other"]}, first, durability=durability)
    assert fork["log"] == ["one", "a", "b", "other", "a", "b"]
    assert drive.get_state(graph, first).values["log"] == ["one", "a", "b"]
    assert drive.get_state(graph, on()).values == fork


def test_workflows_survive(drive: Drive, saver: Any, durability: str) -> None:
    ran: list[str] = []

    @task
    def work(name: str) -> str:
        ran.append(name)
        return name.upper()

    @entrypoint(checkpointer=saver)
    def workflow(given: str, *, previous: Any = None) -> Any:
        return [*(previous or []), work(given).result(), interrupt("?")]

    for turn in ("a", "b"):
        drive.invoke(workflow, turn, on(), durability=durability)
        done = drive.invoke(workflow, Command(resume="yes"), on(), durability=durability)

    assert done == ["A", "yes", "B", "yes"]
    assert ran == ["a", "b"]


def test_exit_publishes_nothing_before_the_end_even_when_an_error_handler_runs() -> None:
    seen: list[int] = []
    config: Any = {"configurable": {"thread_id": "exit-with-handler"}}

    def fails(state: Any) -> Any:
        raise ValueError("no")

    def repair(state: Any) -> Any:
        seen.append(len(list(graph.get_state_history(config))))
        return {"log": ["repaired"]}

    builder = StateGraph(Log)
    builder.add_node("first", lambda _: {"log": ["first"]})
    builder.add_node("fails", fails, error_handler=repair)
    builder.add_edge(START, "first").add_edge("first", "fails")
    graph = builder.compile(checkpointer=InMemorySaver())

    result = graph.invoke({"log": []}, config, durability="exit")

    assert result == {"log": ["first", "repaired"]}
    assert seen == [1]  # the input
