"""The 20-node chain on SQLite, durable at each superstep, beside what a bare commit costs on the same disk.

Both libraries write in WAL mode. With synchronous FULL each commit waits for the disk, so a durable superstep cannot be
cheaper than one bare commit; NORMAL shows what is left without that wait.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Literal

from benchmarks.library import Library
from benchmarks.measure import Faster, Row, seconds
from benchmarks.work.chain import NODES, chain, step

ROUNDS = 5
ROWS = (
    Row("sync", "20-node chain, SQLite FULL, durability sync: per superstep", "us", Faster(4)),
    Row("async", "20-node chain, SQLite FULL, durability async: per superstep", "us", Faster(8)),
    Row("sync_normal", "20-node chain, SQLite NORMAL, durability sync: per superstep", "us"),
    Row("async_normal", "20-node chain, SQLite NORMAL, durability async: per superstep", "us"),
    Row("bare", "one bare commit on this disk, SQLite FULL", "us"),
)
Synchronous = Literal["FULL", "NORMAL"]


def measure(library: Library) -> dict[str, float]:
    return {
        "sync": measure_chain(library, "sync", "FULL"),
        "async": measure_chain(library, "async", "FULL"),
        "sync_normal": measure_chain(library, "sync", "NORMAL"),
        "async_normal": measure_chain(library, "async", "NORMAL"),
        "bare": measure_bare_commit(),
    }


def measure_chain(library: Library, durability: str, synchronous: Synchronous) -> float:
    with tempfile.TemporaryDirectory() as folder, library.sqlite_saver(Path(folder) / "b.db", synchronous) as saver:
        graph = chain(library, step, checkpointer=saver)
        threads = itertools.count()

        def turn() -> None:
            config = {"configurable": {"thread_id": f"thread-{next(threads)}"}}
            graph.invoke({"count": 0}, config, durability=durability)

        return seconds(turn, repeats=12, warm_up=2) / NODES * 1e6


def measure_bare_commit() -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as connection,
    ):
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("create table log (body blob)")

        def commits() -> None:
            for _ in range(NODES):
                connection.execute("insert into log values (zeroblob(300))")

        return seconds(commits, repeats=12, warm_up=2) / NODES * 1e6
