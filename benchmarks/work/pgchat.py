"""Many chats at once on PostgreSQL: 64 threads, 10 turns each, through a pool of 16 connections.

`near` is the server as it is, `far` one behind a network that adds 2 ms to each round trip. The rows of hand-written
SQL say what the same bytes cost with the same durability and nothing around them (see `benchmarks.raw`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from benchmarks import postgres, raw
from benchmarks.library import Library
from benchmarks.measure import AtLeast, Faster, Row
from benchmarks.work.chat import Words

THREADS = 64
TURNS = 10
CONNECTIONS = 16
ROUNDS = 3
POSTGRES = True
_CHAT = f"{THREADS} chats of {TURNS} turns, PostgreSQL, pool of {CONNECTIONS}"
ROWS = (
    Row("near", f"{_CHAT}, asyncio: turns", "/s", Faster(8)),
    Row("near_sync", "the same with durability sync: turns", "/s"),
    Row("near_threads", "the same with OS threads: turns", "/s"),
    Row("far", "the same with asyncio and 2 ms more per round trip: turns", "/s", Faster(8)),
    Row("far_threads", "the same with OS threads and 2 ms more: turns", "/s"),
    Row("cpu", "asyncio: processor time of the client per turn", "ms"),
    Row("raw", "the same bytes by hand-written SQL, each statement alone: turns", "/s"),
    Row("share", "asyncio, as a part of that", "%", AtLeast(60)),
    Row("raw_far", "the same with 2 ms more per round trip: turns", "/s"),
    Row("share_far", "asyncio with 2 ms more, as a part of that", "%", AtLeast(60)),
    Row("raw_grouped", "the same bytes by hand-written SQL, one statement for all that wait: turns", "/s"),
)

_words = Words()  # all texts are made beforehand
QUESTIONS = [_words.text(30) for _ in range(50)]
ANSWERS = [_words.text(90) for _ in range(50)]
RESULTS = [(_words.text(60), _words.identifier()) for _ in range(50)]


def measure(library: Library) -> dict[str, float]:
    near, cpu = asyncio.run(measure_async(library, far=False))
    far, _ = asyncio.run(measure_async(library, far=True))
    with postgres.database() as database:
        by_hand = raw.singly(database.near, chats=THREADS, turns=TURNS, connections=CONNECTIONS)
        by_hand_far = raw.singly(database.far, chats=THREADS, turns=TURNS, connections=CONNECTIONS)
        grouped = raw.grouped(database.near, chats=THREADS, turns=TURNS, connections=2)
    return {
        "near": near,
        "near_sync": asyncio.run(measure_async(library, far=False, durability="sync"))[0],
        "near_threads": measure_threads(library, far=False),
        "far": far,
        "far_threads": measure_threads(library, far=True),
        "cpu": cpu,
        "raw": by_hand,
        "share": near / by_hand * 100,
        "raw_far": by_hand_far,
        "share_far": far / by_hand_far * 100,
        "raw_grouped": grouped,
    }


async def measure_async(library: Library, *, far: bool, durability: str = "async") -> tuple[float, float]:
    """Turns per second, and milliseconds of this process's processor time per turn."""
    with postgres.database() as database:
        async with library.async_postgres_saver(database.far if far else database.near, CONNECTIONS) as saver:
            graph = chat(library, saver, is_async=True)

            async def talk(thread: str, turns: int) -> None:
                config = {"configurable": {"thread_id": thread}}
                for turn in range(1, turns + 1):
                    message = HumanMessage(QUESTIONS[turn % 50])
                    state = await graph.ainvoke({"messages": [message]}, config, durability=durability)
                    assert len(state["messages"]) == turn * 3

            await asyncio.gather(*(talk(f"warm-{number}", 1) for number in range(THREADS)))
            start, start_cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(talk(f"chat-{number}", TURNS) for number in range(THREADS)))
            elapsed, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    turns = THREADS * TURNS
    return turns / elapsed, cpu / turns * 1e3


def measure_threads(library: Library, *, far: bool) -> float:
    with (
        postgres.database() as database,
        library.postgres_saver(database.far if far else database.near, CONNECTIONS) as saver,
        ThreadPoolExecutor(THREADS) as executor,
    ):
        graph = chat(library, saver, is_async=False)

        def talk(thread: str, turns: int) -> None:
            config = {"configurable": {"thread_id": thread}}
            for turn in range(1, turns + 1):
                state = graph.invoke({"messages": [HumanMessage(QUESTIONS[turn % 50])]}, config)
                assert len(state["messages"]) == turn * 3

        at_once(executor, lambda number: talk(f"warm-{number}", 1))
        start = time.perf_counter()
        at_once(executor, lambda number: talk(f"chat-{number}", TURNS))
        return THREADS * TURNS / (time.perf_counter() - start)


def at_once(executor: ThreadPoolExecutor, work: Callable[[int], None]) -> None:
    for future in [executor.submit(work, number) for number in range(THREADS)]:
        future.result()


def chat(library: Library, saver: Any, *, is_async: bool) -> Any:
    """A user's message in, a model's answer and a tool's result out."""

    def model(state: Any) -> Any:
        return {"messages": [AIMessage(ANSWERS[len(state["messages"]) % 50])]}

    def tool(state: Any) -> Any:
        text, call = RESULTS[len(state["messages"]) % 50]
        return {"messages": [ToolMessage(text, tool_call_id=call)]}

    async def model_async(state: Any) -> Any:
        return model(state)

    async def tool_async(state: Any) -> Any:
        return tool(state)

    graph = library.state_graph(library.module("graph").MessagesState)
    graph.add_node("model", model_async if is_async else model)
    graph.add_node("tool", tool_async if is_async else tool)
    graph.set_entry_point("model")
    graph.add_edge("model", "tool")
    return graph.compile(checkpointer=saver)
