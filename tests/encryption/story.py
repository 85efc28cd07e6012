"""A program whose every value is a secret: state, writes, a failure, a question, an answer, metadata, a large leaf."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from clew.graph import END, START, StateGraph
from clew.storage.records import SPILL_FROM
from clew.types import Command, interrupt

SECRETS = (
    "SECRET-input",
    "SECRET-state",
    "SECRET-write",
    "SECRET-metadata",
    "SECRET-question",
    "SECRET-answer",
    "SECRET-error",
    "SECRET-child",
    "SECRET-leaf",
)


class State(TypedDict, total=False):
    log: Annotated[list[str], list.__add__]
    leaf: str
    fails: bool


def leaf(marker: str = "SECRET-leaf") -> str:
    """A text that is kept once per thread."""
    return marker * (2 * SPILL_FROM // len(marker))


def first(state: State) -> State:
    return {"log": ["SECRET-state"], "leaf": leaf()}


def sibling(state: State) -> State:
    return {"log": ["SECRET-write"]}


def failing(state: State) -> State:
    if state["fails"]:
        raise RuntimeError("SECRET-error")
    return {"log": ["mended"]}


def within(state: State) -> State:
    answer = interrupt({"question": "SECRET-question"})
    return {"log": ["SECRET-child", answer]}


def graph_on(saver: Any) -> Any:
    """The graph: `first`, then `sibling` beside `failing`, then a subgraph that asks."""
    child = StateGraph(State).add_node("within", within).add_edge(START, "within").add_edge("within", END)
    graph = StateGraph(State).add_node("first", first).add_node("sibling", sibling).add_node("failing", failing)
    graph.add_node("child", child.compile())
    graph.add_edge(START, "first")
    graph.add_edge("first", "sibling").add_edge("first", "failing")
    graph.add_edge(["sibling", "failing"], "child").add_edge("child", END)
    return graph.compile(checkpointer=saver)


def on(thread: str, **configurable: Any) -> Any:
    """The config of a thread, with a secret in its metadata."""
    return {"configurable": {"thread_id": thread, **configurable}, "metadata": {"user": "SECRET-metadata"}}


def fail(saver: Any, thread: str) -> None:
    """Run until `failing` fails; what its sibling wrote waits."""
    try:
        graph_on(saver).invoke({"log": ["SECRET-input"], "fails": True}, on(thread), durability="sync")
    except RuntimeError:
        return
    raise AssertionError("the node did not fail")


def ask(saver: Any, thread: str) -> None:
    """Go on after the failure, to the question."""
    graph_on(saver).invoke(Command(update={"fails": False}), on(thread), durability="sync")


def finish(saver: Any, thread: str) -> dict[str, Any]:
    """Answer."""
    return graph_on(saver).invoke(Command(resume="SECRET-answer"), on(thread), durability="sync")
