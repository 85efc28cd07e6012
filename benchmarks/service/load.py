"""The load on one server, from a process of its own: `python -m benchmarks.service.load PORT PID [DATABASE_PID]`.

Prints figures as JSON: for each operation and number of clients requests per second, percentiles in ms, and the
processor time in ms per request of the server, of its database and of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.service.client import Answer, Client
from benchmarks.service.processes import processor_seconds, resident_bytes

CLIENTS = (1, 16, 64)
_RUNS_PER_THREAD = 20
_RUN = {"assistant_id": "agent", "input": {"text": "hello"}}

Work = Callable[[Client, dict[str, Any]], Awaitable[Answer]]


async def create(client: Client, _: dict[str, Any]) -> Answer:
    return await client.request("POST", "/threads", {})


async def state(client: Client, known: dict[str, Any]) -> Answer:
    return await client.request("GET", f"/threads/{known['thread']}/state")


async def history(client: Client, known: dict[str, Any]) -> Answer:
    return await client.request("POST", f"/threads/{known['thread']}/history", {"limit": 10})


async def search(client: Client, _: dict[str, Any]) -> Answer:
    return await client.request("POST", "/threads/search", {"limit": 10})


async def wait(client: Client, known: dict[str, Any]) -> Answer:
    return await client.request("POST", f"/threads/{known['own']}/runs/wait", _RUN)


async def stream(client: Client, known: dict[str, Any]) -> Answer:
    body = {**_RUN, "stream_mode": ["updates"]}
    return await client.request("POST", f"/threads/{known['own']}/runs/stream", body)


OPERATIONS: dict[str, Work] = {
    "create thread": create,
    "GET state": state,
    "POST history (10)": history,
    "POST search (10)": search,
    "runs/wait": wait,
    "runs/stream": stream,
}
NEEDS_OWN = {wait, stream}  # a thread has one run at a time


async def measure(
    port: int, pids: tuple[int, int | None], seconds: float, counts: Sequence[int] = CLIENTS
) -> dict[str, Any]:
    """Every operation, by each number of clients."""
    first = Client(port)
    try:
        thread = await prepared(first)
    finally:
        first.close()
    figures: dict[str, Any] = {}
    for name, work in OPERATIONS.items():
        for count in counts:
            figures[f"{name}, {count}"] = await measured(port, pids, work, count, seconds, thread)
    figures["memory"] = {"resident_mb": resident_bytes(pids[0]) / 1e6}
    return figures


async def prepared(client: Client) -> str:
    """A thread with a history of more than ten checkpoints, beside nine others."""
    threads: list[str] = []
    for number in range(10):
        thread = (await expected(client.request("POST", "/threads", {}))).json()["thread_id"]
        for _ in range(4 if number == 0 else 1):
            await expected(client.request("POST", f"/threads/{thread}/runs/wait", _RUN))
        threads.append(thread)
    found = (await expected(client.request("POST", f"/threads/{threads[0]}/history", {"limit": 10}))).json()
    if len(found) != 10:
        raise SystemExit(f"the history has {len(found)} checkpoints, not 10")
    return threads[0]


async def expected(request: Awaitable[Answer]) -> Answer:
    answer = await request
    if answer.status >= 300:
        raise SystemExit(f"the server answers with {answer.status}: {answer.body[:300]!r}")
    return answer


async def measured(
    port: int, pids: tuple[int, int | None], work: Work, count: int, seconds: float, thread: str
) -> dict[str, float]:
    """One operation by `count` clients for about `seconds`; requests that are under way at the end are waited for."""
    clients = [Client(port) for _ in range(count)]
    known = [{"thread": thread, "own": thread} for _ in clients]
    is_run = work in NEEDS_OWN
    for client, each in zip(clients, known, strict=True):  # each connection is open before the clock runs
        if is_run:
            each["own"] = (await expected(client.request("POST", "/threads", {}))).json()["thread_id"]
        else:
            await expected(work(client, each))
    answers: list[Answer] = []
    others = time.process_time(), *(processor_seconds(pid) for pid in pids)
    start = time.perf_counter()

    async def go_on(client: Client, each: dict[str, Any]) -> None:
        own = 0
        while time.perf_counter() - start < seconds:
            if is_run and own == _RUNS_PER_THREAD:
                each["own"], own = (await client.request("POST", "/threads", {})).json()["thread_id"], 0
            answers.append(await work(client, each))
            own += 1

    await asyncio.gather(*(go_on(client, each) for client, each in zip(clients, known, strict=True)))
    took = time.perf_counter() - start
    after = time.process_time(), *(processor_seconds(pid) for pid in pids)
    for client in clients:
        client.close()
    client_cpu, server_cpu, database_cpu = (
        (end - begin) / len(answers) * 1e3 for begin, end in zip(others, after, strict=True)
    )
    good = [answer for answer in answers if answer.status < 300 and b"__error__" not in answer.body]
    whole = sorted(answer.whole * 1e3 for answer in good) or [float("nan")]
    return {
        "per_second": len(good) / took,
        "p50": statistics.median(whole),
        "p99": whole[int(0.99 * (len(whole) - 1))],
        "first": statistics.median([answer.first * 1e3 for answer in good] or [float("nan")]),
        "failed": len(answers) - len(good),
        "server_cpu": server_cpu,
        "database_cpu": database_cpu,
        "client_cpu": client_cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("pid", type=int)
    parser.add_argument("database_pid", type=int, nargs="?")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.port, (options.pid, options.database_pid), options.seconds))))
