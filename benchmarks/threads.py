"""`python -m benchmarks threads`: lists and searches of 100,000 threads, by clew alone.

Two tenants of one database have 100,000 threads each: in one they are of a thousand owners, in the other of a single
one. A search is asked by one owner of many, by the one who has all, and for everyone; through `clew.threads`, and
through the application's routes (called without a network).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import postgres
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.threads import EVERYONE, Threads

THREADS = 100_000
OWNERS = {"many": 1000, "one": 1}
GOAL = 10.0  # ms
WHO = {"one of 1,000": ("many", "user-500"), "one with all": ("one", "user-0"), "everyone": ("many", EVERYONE)}
SORTS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")
COLUMNS = (
    "tenant, thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, "
    "ttl_minutes, ttl_strategy, title, title_key, metadata, body"
)
_CITIES = "Rome Oslo Lima Cairo Quito Delhi Hanoi Perth Seoul Tunis".split()


def rows(tenant: str, count: int) -> Iterator[tuple[Any, ...]]:
    """The threads of a tenant, as rows."""
    chance = random.Random(7)
    for n in range(count):
        made = 1_700_000_000_000_000 + n * 60_000_000
        active = made + chance.randrange(10**11)
        title = f"Trip to {chance.choice(_CITIES)} with {chance.randrange(10**4)} bags, plan {n}"
        status = chance.choices(("idle", "interrupted", "error", "busy"), (90, 6, 3, 1))[0]
        metadata = {"graph_id": "agent", "kind": chance.choice("abcd"), "customer": f"c{n % 5000}", "number": n}
        thread = f"{chance.getrandbits(32):08x}-0000-4000-8000-{n:012}"
        fixed = (tenant, thread, f"user-{n % OWNERS[tenant]}", status, int(chance.random() < 0.1))
        times = (made, active + chance.randrange(10**10), active, active, None, None, None)
        yield *fixed, *times, title, title.casefold(), json.dumps(metadata), None


def fill_sqlite(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for tenant in OWNERS:
            connection.executemany(
                f"insert into clew_thread ({COLUMNS}) values ({', '.join('?' * 16)})", rows(tenant, count)
            )
        connection.commit()


def fill_postgres(conninfo: str, count: int) -> None:
    import psycopg

    with psycopg.connect(conninfo, autocommit=True) as connection:
        with connection.cursor().copy(f"copy clew_thread ({COLUMNS}) from stdin") as copy:
            for tenant in OWNERS:
                for row in rows(tenant, count):
                    copy.write_row(row)
        connection.execute("vacuum analyze clew_thread")


@contextmanager
def filled(database: str, count: int) -> Iterator[Any]:
    """A saver whose database has the threads."""
    if database == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "threads.db"
            with SqliteSaver.from_conn_string(str(path), synchronous="NORMAL") as saver:
                saver.setup()
                fill_sqlite(path, count)
                yield saver
        return
    with postgres.server(), postgres.database() as place, PostgresSaver.from_conn_string(place.near) as saver:
        saver.setup()
        fill_postgres(place.near, count)
        yield saver


def questions(threads: Threads, count: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is asked, by name."""
    search, number = threads.search, threads.count
    middle = f"{1_700_000_000_000_000 + count // 2 * 60_000_000}:x"
    some = [thread.id for thread in search(limit=10, offset=5)]
    yield "list: first page", lambda: threads.list(limit=10)
    yield "list: a page in the middle", lambda: threads.list(limit=10, after=middle)
    yield "list: of a status, in the middle", lambda: threads.list(limit=10, after=middle, status="error")
    for sort in SORTS:
        for is_descending in (True, False):
            name = f"search: by {sort}, {'descending' if is_descending else 'ascending'}"
            yield name, lambda sort=sort, way=is_descending: search(limit=10, sort_by=sort, is_descending=way)
    wanted: dict[str, dict[str, Any]] = {
        "status idle": {"status": "idle"},
        "status busy": {"status": "busy"},
        "status busy, by created_at": {"status": "busy", "sort_by": "created_at"},
        "archived ones": {"archived": True},
        "archived and others": {"archived": None},
        "ten ids": {"ids": some},
        "metadata: one in four": {"metadata": {"kind": "b"}},
        "metadata: one in 5,000": {"metadata": {"customer": "c500"}},
        "metadata: a number": {"metadata": {"number": count // 2 + 500}},
        "metadata: none": {"metadata": {"customer": "nobody"}},
        "metadata and status": {"metadata": {"kind": "b"}, "status": "busy"},
        "title: one in ten": {"text": "rome"},
        "title: one": {"text": f"plan {count // 2 + 500}"},
        "title: none": {"text": "moon"},
    }
    for name, filters in wanted.items():
        yield f"search: {name}", lambda filters=filters: search(limit=10, **filters)
    counted: dict[str, dict[str, Any]] = {
        "all": {},
        "status busy": {"status": "busy"},
        "metadata: one in 5,000": {"metadata": {"customer": "c500"}},
        "metadata: one in four": {"metadata": {"kind": "b"}},
        "title: none": {"text": "moon"},
        "title: one in ten": {"text": "rome"},
    }
    for name, filters in counted.items():
        yield f"count: {name}", lambda filters=filters: number(**filters)


def requests(saver: Any, user: str | None) -> Iterator[tuple[str, Callable[[], object]]]:
    """The same through the routes, as one user or as everyone."""
    from benchmarks.service.graph import trivial  # needs the extra "server"
    from clew.server import Owner, create_app

    async def owner(request: object) -> Owner:
        return Owner(user)

    app = create_app({"agent": trivial()}, saver, auth=owner)
    runner = asyncio.Runner()

    def post(path: str, **body: Any) -> Callable[[], object]:
        return lambda: runner.run(call(app, path, body))

    yield "POST /threads/search", post("/threads/search", limit=10)
    yield "POST /threads/search, without values", post("/threads/search", limit=10, select=["thread_id", "title"])
    yield (
        "POST /threads/search, metadata and sort",
        post("/threads/search", limit=10, metadata={"customer": "c500"}, sort_by="created_at", select=["thread_id"]),
    )
    yield "POST /threads/count, status", post("/threads/count", status="busy")
    with runner:
        runner.run(app.state.clew.drain(0))


async def call(app: Any, path: str, body: Any) -> bytes:
    """The body of an application's answer to a request."""
    sent: list[bytes] = []
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        sent.append(message.get("body", b""))

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("clew", 80)}, receive, send)
    if status != 200:
        raise SystemExit(f"POST {path} was answered with {status}: {b''.join(sent)!r}")
    return b"".join(sent)


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The median and the 99th percentile of one call, in ms."""
    times: list[float] = []
    for number in range(repeats + 3):
        start = time.perf_counter()
        work()
        if number >= 3:
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), sorted(times)[int(0.99 * (len(times) - 1))]


def measure(database: str, count: int, repeats: int) -> dict[str, dict[str, tuple[float, float]]]:
    """p50 and p99 in ms, by question and by who asks."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with filled(database, count) as saver:
        for who, (tenant, user) in WHO.items():
            bound = saver.with_tenant(tenant)
            for name, work in questions(Threads(bound).of(user), count):
                found.setdefault(name, {})[who] = timed(work, repeats)
            for name, work in requests(bound, user if isinstance(user, str) else None):
                found.setdefault(name, {})[who] = timed(work, repeats)
    return found


def table(database: str, found: dict[str, dict[str, tuple[float, float]]]) -> str:
    lines = [f"| {database}, p50 / p99 in ms | {' | '.join(WHO)} |", "|---|" + "---:|" * len(WHO)]
    for name, figures in found.items():
        cells = (f"{p50:.1f} / {p99:.1f}{' (!)' if p50 > GOAL else ''}" for p50, p99 in figures.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__)
    parser.add_argument("--threads", type=int, default=THREADS, help="how many threads each tenant has")
    parser.add_argument("--repeats", type=int, default=30, help="how often each question is asked")
    parser.add_argument("--database", choices=("SQLite", "PostgreSQL"), action="append", help="default: both")
    parser.add_argument("--json", action="store_true", help="print the figures instead of the tables")
    options = parser.parse_args(arguments)
    found = {
        database: measure(database, options.threads, options.repeats)
        for database in options.database or ("SQLite", "PostgreSQL")
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"\n{options.threads:,} threads per tenant; (!) is above {GOAL:g} ms\n")
    print("\n\n".join(table(database, figures) for database, figures in found.items()))
