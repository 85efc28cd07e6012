"""The graph that every service runs: two nodes that do nothing. Written against whichever library runs it."""

from __future__ import annotations

from typing import Any, TypedDict


class State(TypedDict, total=False):
    text: str
    count: int


def first(state: State) -> State:
    return {"count": state.get("count", 0) + 1}


def second(state: State) -> State:
    return {"text": f"{state.get('text', '')}!"}


def trivial(library: str = "clew") -> Any:
    """The graph, not compiled."""
    import importlib

    module = importlib.import_module(f"{library}.graph")
    graph = module.StateGraph(State)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(module.START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", module.END)
    return graph
