"""A store on PostgreSQL: single calls, batches, and searches among items of one user, near and 2 ms away.

Each library has a pool of one connection, made the way its documentation shows, with its defaults.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from benchmarks import postgres
from benchmarks.library import Library
from benchmarks.measure import Row, seconds

ITEMS = 2000  # in the namespace that is searched
BATCH = 50
VECTORS = 2000
DIMS = 64
ROUNDS = 3
POSTGRES = True
FAR = f"{postgres.ROUND_TRIP * 1e3:g} ms away"
ROWS = (
    Row("put", "store on PostgreSQL: put", "us"),
    Row("get", "get", "us"),
    Row("put_batch", f"{BATCH} puts in one batch", "us"),
    Row("get_batch", f"{BATCH} gets in one batch", "us"),
    Row("recent", f"the last 10 of {ITEMS:,} items", "us"),
    Row("equal", f"10 of {ITEMS:,} items by a field", "us"),
    Row("greater", f"10 of {ITEMS:,} items by a number", "us"),
    Row("nested", f"10 of {ITEMS:,} items by two fields", "us"),
    Row("namespaces", "the 21 namespaces", "us"),
    Row("near", f"10 of {VECTORS:,} vectors, by meaning", "us"),
    Row("mixed_far", f"a batch of gets and puts, {FAR}", "ms"),
    Row("get_far", f"get, {FAR}", "ms"),
)


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [[float((hash_of(text) >> n) & 7) - 3.4 for n in range(DIMS)] for text in texts]


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode().ljust(16, b"~")[:16]) * 0x9E3779B97F4A7C15


def value(number: int) -> dict[str, Any]:
    return {"n": number, "kind": f"kind {number % 20}", "score": number / 7, "text": f"a memory of {number} " * 8}


def measure(library: Library) -> dict[str, float]:
    with postgres.database() as database:
        with library.postgres_store(database.near) as store:
            figures = near_figures(library, store)
        with library.postgres_store(database.far) as store:
            figures |= far_figures(library, store)
    with postgres.database() as database:
        index = {"dims": DIMS, "embed": embed, "fields": ["text"]}
        with library.postgres_store(database.near, index=index) as store:
            figures["near"] = vector_figure(library, store)
    return figures


def near_figures(library: Library, store: Any) -> dict[str, float]:
    ops = library.module("store.base")
    fill(ops, store, ITEMS)
    numbers = itertools.count(ITEMS)
    keys = [str(number) for number in range(BATCH)]
    user = ("users", "7")
    timed = {
        "put": lambda: store.put(("single",), str(next(numbers) % 100), value(1)),
        "get": lambda: store.get(user, "5"),
        "put_batch": lambda: store.batch([ops.PutOp(("batch",), key, value(2)) for key in keys]),
        "get_batch": lambda: store.batch([ops.GetOp(user, key) for key in keys]),
        "recent": lambda: store.search(user),
        "equal": lambda: store.search(user, filter={"kind": "kind 7"}),
        "greater": lambda: store.search(user, filter={"score": {"$gt": 9}}),
        "nested": lambda: store.search(user, filter={"kind": "kind 3", "n": {"$gte": 900}}),
        "namespaces": lambda: store.list_namespaces(),
    }
    return {name: seconds(work, repeats=60, warm_up=10) * 1e6 for name, work in timed.items()}


def far_figures(library: Library, store: Any) -> dict[str, float]:
    ops = library.module("store.base")
    batch = [ops.GetOp(("users", "7"), "5"), ops.GetOp(("users", "7"), "6"), ops.PutOp(("single",), "far", value(3))]
    timed = {"mixed_far": lambda: store.batch(batch), "get_far": lambda: store.get(("users", "7"), "5")}
    return {name: seconds(work, repeats=20, warm_up=8) * 1e3 for name, work in timed.items()}


def vector_figure(library: Library, store: Any) -> float:
    fill(library.module("store.base"), store, VECTORS)
    return seconds(lambda: store.search(("users", "7"), query="a memory of 77"), repeats=40, warm_up=10) * 1e6


def fill(ops: Any, store: Any, count: int) -> None:
    """`count` items of one user, and some of twenty others."""
    places = [*((("users", "7"), str(n)) for n in range(count)), *((("others", str(n)), "k") for n in range(20))]
    puts = [ops.PutOp(namespace, key, value(n)) for n, (namespace, key) in enumerate(places)]
    for start in range(0, len(puts), 200):
        store.batch(puts[start : start + 200])
    with store.conn.connection() as connection:
        connection.execute("analyze")
        if not connection.autocommit:
            connection.commit()
