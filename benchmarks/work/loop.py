"""A node that loops back to itself a thousand times."""

from __future__ import annotations

from typing import TypedDict

from benchmarks.library import Library
from benchmarks.measure import Faster, Row, seconds

STEPS = 1_000
ROUNDS = 3
ROWS = (Row("step", "1,000-step loop, no checkpointer: per superstep", "us", Faster(8)),)


class State(TypedDict):
    count: int


def measure(library: Library) -> dict[str, float]:
    graph = library.state_graph(State)
    graph.add_node("work", lambda state: {"count": state["count"] + 1})
    graph.set_entry_point("work")
    graph.add_conditional_edges("work", lambda state: "work" if state["count"] < STEPS else "__end__")
    program = graph.compile()
    config = {"recursion_limit": STEPS + 10}
    assert program.invoke({"count": 0}, config) == {"count": STEPS}
    return {"step": seconds(lambda: program.invoke({"count": 0}, config), repeats=3) / STEPS * 1e6}
