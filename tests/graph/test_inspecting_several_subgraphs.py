"""Each of several stateful subgraphs in one node can be looked at, by the order of the calls."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.graph import START, StateGraph


class Left(TypedDict):
    left: int


class Right(TypedDict):
    right: int


def _graph() -> Any:
    left = StateGraph(Left).add_node("add", lambda state: {"left": state["left"] + 1})
    left = left.add_edge(START, "add").compile(checkpointer=True)
    right = StateGraph(Right).add_node("add", lambda state: {"right": state["right"] + 1})
    right = right.add_edge(START, "add").compile(checkpointer=True)

    def both(state: Left) -> Left:
        return {"left": left.invoke({"left": 1})["left"] + right.invoke({"right": 10})["right"]}

    return StateGraph(Left).add_node("both", both).add_edge(START, "both").compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize(("ns", "values"), [("both", {"left": 2}), ("both|1", {"right": 11})])
def test_each_of_several_subgraphs_of_a_node_is_read_with_its_own_channels(ns: str, values: dict[str, int]) -> None:
    graph = _graph()
    graph.invoke({"left": 0}, {"configurable": {"thread_id": "1"}})

    state = graph.get_state({"configurable": {"thread_id": "1", "checkpoint_ns": ns}})

    assert values == state.values


def test_a_namespace_of_no_subgraph_is_refused() -> None:
    with pytest.raises(ValueError, match="subgraph nowhere not found in graph"):
        _graph().get_state({"configurable": {"thread_id": "1", "checkpoint_ns": "nowhere"}})
