"""The 20-node chain on SQLite, durable at each superstep: WAL, and synchronous FULL for both libraries."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from benchmarks.library import Library
from benchmarks.measure import Faster, Row, seconds
from benchmarks.work.chain import NODES, chain, step

ROUNDS = 5
ROWS = (
    Row("sync", "20-node chain, SQLite (WAL, FULL), durability sync: per superstep", "us", Faster(4)),
    Row("async", "20-node chain, SQLite (WAL, FULL), durability async: per superstep", "us", Faster(8)),
)


def measure(library: Library) -> dict[str, float]:
    return {durability: measure_durability(library, durability) for durability in ("sync", "async")}


def measure_durability(library: Library, durability: str) -> float:
    with tempfile.TemporaryDirectory() as folder, library.sqlite_saver(Path(folder) / "bench.db") as saver:
        graph = chain(library, step, checkpointer=saver)
        threads = itertools.count()

        def turn() -> None:
            config = {"configurable": {"thread_id": f"thread-{next(threads)}"}}
            graph.invoke({"count": 0}, config, durability=durability)

        return seconds(turn, repeats=12, warm_up=2) / NODES * 1e6
