"""A small graph whose state tells exactly which steps have counted."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from clew.graph import END, START, StateGraph


class State(TypedDict):
    xs: Annotated[list[int], operator.add]


def chain(saver: Any, *, meets: Callable[[int], None] = lambda number: None, length: int = 2) -> Any:
    """Nodes one after the other, each of which adds its number; `meets` is called in each."""
    graph = StateGraph(State)
    names = [f"n{number}" for number in range(1, length + 1)]
    for number, name in enumerate(names, 1):

        def node(state: State, number: int = number) -> dict[str, list[int]]:
            meets(number)
            return {"xs": [number]}

        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=saver)


def on(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def values(graph: Any, thread: str) -> list[int]:
    return graph.get_state(on(thread)).values["xs"]
