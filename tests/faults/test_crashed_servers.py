"""The database server dies under load: what was shown is there afterwards, or with `commit="fast"` a beginning of it.

What was shown is noted outside of the database; the graph is so simple that a thread's whole state is known from it.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import StorageUnavailableError, ThreadConflictError
from clew.graph import START, StateGraph
from tests.faults.stories import Log
from tests.postgres import Server

THREADS = 6
SECONDS = 60


@pytest.fixture(scope="module")
def crashing() -> Iterator[Server]:
    """A server whose commits are as durable as by default; running."""
    with tempfile.TemporaryDirectory(prefix="clew-pg-") as home:
        server = Server(Path(home))
        server.create()
        server.start()
        try:
            yield server
        finally:
            if server.is_running():
                server.stop("immediate")


def chat(saver: Any) -> Any:
    """A graph whose log after any number of turns is known: see `expected`."""
    graph = StateGraph(Log)
    for name in ("ask", "say"):
        graph.add_node(name, lambda state, name=name: {"log": [f"{name} {len(state['log'])}"]})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "say")
    return graph.compile(checkpointer=saver)


def expected(length: int) -> list[str]:
    return [f"{('in', 'ask', 'say')[place % 3]} {place}" for place in range(length)]


def is_gapless(log: list[str], has_lost: bool) -> bool:
    """Whether each entry is the consequence of what is before it; `has_lost`: an input may follow on anything."""
    if not has_lost:
        return log == expected(len(log))
    kinds = [entry.split()[0] for entry in log]
    return all(
        kind == "in" or (log[place] == f"{kind} {place}" and kinds[place - 1] == {"ask": "in", "say": "ask"}[kind])
        for place, kind in enumerate(kinds)
    )


def on(thread: int) -> Any:
    return {"configurable": {"thread_id": f"t{thread}"}}


@dataclass
class Load:
    """Turns on several threads, half of them under asyncio; `shown` is what each thread's callers have seen last."""

    graph: Any
    turns: int
    durability: Any = "sync"
    shown: list[int] = field(default_factory=lambda: [0] * THREADS)
    ends: list[BaseException | None] = field(default_factory=lambda: [None] * THREADS)

    def start(self) -> None:
        self.workers = [threading.Thread(target=self.live, args=(n,)) for n in range(0, THREADS, 2)]
        self.workers.append(threading.Thread(target=lambda: asyncio.run(self.alive_all())))
        for worker in self.workers:
            worker.start()

    def wait(self) -> None:
        for worker in self.workers:
            worker.join(SECONDS)
            assert not worker.is_alive(), "a run hangs"

    def until(self, count: int) -> None:
        """Wait until so much has been shown."""
        deadline = time.monotonic() + SECONDS
        while sum(self.shown) < count:
            assert time.monotonic() < deadline, self.ends
            time.sleep(0.002)

    def live(self, thread: int) -> None:
        try:
            for turn in range(self.turns):
                given = {"log": [f"in {3 * turn}"], "total": 0}
                for shown in self.graph.stream(given, on(thread), stream_mode="updates", durability=self.durability):
                    self.see(thread, shown)
        except BaseException as error:
            self.ends[thread] = error

    async def alive(self, thread: int) -> None:
        try:
            for turn in range(self.turns):
                given = {"log": [f"in {3 * turn}"], "total": 0}
                chunks = self.graph.astream(given, on(thread), stream_mode="updates", durability=self.durability)
                async for shown in chunks:
                    self.see(thread, shown)
        except BaseException as error:
            self.ends[thread] = error

    async def alive_all(self) -> None:
        await asyncio.gather(*(self.alive(n) for n in range(1, THREADS, 2)))

    def see(self, thread: int, shown: Any) -> None:
        ((_, update),) = shown.items()
        self.shown[thread] = int(update["log"][0].split()[1]) + 1


def stored(saver: Any, *, has_lost: bool = False) -> list[int]:
    """How long each thread's log is; each must be a gapless beginning, and go on. `has_lost`: callers went on where the
    server had lost a part of a turn, or several turns."""
    graph = chat(saver)
    lengths = []
    for thread in range(THREADS):
        state = graph.get_state(on(thread))
        log = state.values.get("log", [])
        waiting = [task.result for task in state.tasks if task.result]
        assert is_gapless(log, has_lost), log
        report = saver.verify(f"t{thread}")
        assert report.is_intact, report.problems
        history = list(graph.get_state_history(on(thread)))
        ids = [one.config["configurable"]["checkpoint_id"] for one in history]
        parents = [one.parent_config and one.parent_config["configurable"]["checkpoint_id"] for one in history]
        assert parents == [*ids[1:], None][: len(ids)], "a hole in the history"
        lengths.append(len(log) + len(waiting))
        if state.next:
            end = graph.invoke(None, on(thread))["log"]
            assert is_gapless(end, has_lost), end
            assert end[-1].startswith("say")
    return lengths


@pytest.mark.parametrize("crash", ["immediate", "kill"])
def test_a_server_that_crashes_loses_nothing_that_was_shown(
    crashing: Server, crash: Literal["immediate", "kill"]
) -> None:
    with PostgresSaver.from_conn_string(crashing.conninfo(), tenant=crash, retry_for=0.2, pool_timeout=0.5) as saver:
        load = Load(chat(saver), turns=10_000)
        load.start()
        load.until(60 * THREADS)
        crashing.kill() if crash == "kill" else crashing.stop("immediate")
        load.wait()
        assert {type(error) for error in load.ends} == {StorageUnavailableError}

    crashing.start()
    with PostgresSaver.from_conn_string(crashing.conninfo(), tenant=crash) as saver:
        found = stored(saver)

    assert all(length >= shown for length, shown in zip(found, load.shown, strict=True)), (found, load.shown)


def test_a_server_that_crashes_loses_at_most_a_suffix_of_fast_commits(crashing: Server, record_property: Any) -> None:
    conninfo = crashing.conninfo()
    with PostgresSaver.from_conn_string(
        conninfo, tenant="fast", commit="fast", retry_for=0.2, pool_timeout=0.5
    ) as saver:
        load = Load(chat(saver), turns=10_000)
        load.start()
        load.until(60 * THREADS)
        crashing.kill()
        load.wait()
        assert {type(error) for error in load.ends} == {StorageUnavailableError}

    crashing.start()
    with PostgresSaver.from_conn_string(conninfo, tenant="fast", commit="fast") as saver:
        found = stored(saver)

    lost = [max(0, shown - length) for length, shown in zip(found, load.shown, strict=True)]
    record_property("shown", sum(load.shown))
    record_property("lost", sum(lost))


@pytest.mark.parametrize(
    ("commit", "durability"),
    [
        ("durable", "sync"),
        ("fast", "sync"),
        pytest.param("durable", "async", marks=pytest.mark.long),
        pytest.param("durable", "exit", marks=pytest.mark.long),
        pytest.param("fast", "async", marks=pytest.mark.long),
        pytest.param("fast", "exit", marks=pytest.mark.long),
    ],
)
def test_runs_outlive_a_server_that_comes_back(
    crashing: Server, commit: Literal["durable", "fast"], durability: str
) -> None:
    """With fast commits the server may have lost what a run stands on: it stops, or the next input goes on from what is
    left."""
    settings: Any = {"tenant": f"back {commit} {durability}", "commit": commit}
    with PostgresSaver.from_conn_string(crashing.conninfo(), **settings) as saver:
        load = Load(chat(saver), turns=40, durability=durability)
        load.start()
        load.until(20 * THREADS)
        crashing.kill()
        crashing.start()
        load.wait()

        found = stored(saver, has_lost=commit == "fast")

    allowed = {type(None)} if commit == "durable" else {type(None), ThreadConflictError}
    assert {type(error) for error in load.ends} <= allowed, load.ends
    if commit == "durable":
        assert found == [3 * 40] * THREADS
