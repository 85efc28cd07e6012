"""The 20-node chain with the memory saver, each run on a thread of its own."""

from __future__ import annotations

import itertools

from benchmarks.library import Library
from benchmarks.measure import Faster, Row, seconds
from benchmarks.work.chain import NODES, chain, step

ROUNDS = 5
ROWS = (Row("step", "20-node chain, memory saver: per superstep", "us", Faster(8)),)


def measure(library: Library) -> dict[str, float]:
    graph = chain(library, step, checkpointer=library.memory_saver())
    threads = itertools.count()

    def turn() -> None:
        graph.invoke({"count": 0}, {"configurable": {"thread_id": f"thread-{next(threads)}"}})

    return {"step": seconds(turn, repeats=30, warm_up=3) / NODES * 1e6}
