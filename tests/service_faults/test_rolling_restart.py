"""Replicas that are replaced one after the other while users go on: nothing is lost, and retries mend what fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from typing import Any

import httpx
import psycopg
import pytest

from tests.service_faults.kit import House, RoundRobin

ORDERS = {"orders": {node: {"sleep": 0.1} for node in ("one", "two", "three")}}


async def user(port: int, until: float, told: dict[str, str], retries: Counter[str], name: int) -> None:
    """Makes run after run, and waits for each; asks again where an answer fails, under the same key."""
    number = 0
    while time.monotonic() < until:
        number += 1
        thread = await asked(port, retries, "POST", "/threads", f"{name}-{number}-thread", {})
        if thread is None:
            continue
        path, body = f"/threads/{thread['thread_id']}/runs", {"assistant_id": "row", "input": ORDERS}
        run = await asked(port, retries, "POST", path, f"{name}-{number}", body)
        assert run is not None
        told[run["run_id"]] = thread["thread_id"]
        values = await asked(port, retries, "GET", f"{path}/{run['run_id']}/join", "", None)
        assert values.get("log") == [f"{run['run_id']}:{node}" for node in ("one", "two", "three")], values


async def asked(port: int, retries: Counter[str], method: str, path: str, key: str, body: Any) -> Any:
    """What is answered, sooner or later; a connection for each request, as of somebody else each time."""
    for _ in range(200):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
            try:
                headers = {"idempotency-key": key} if key else {}
                answer = await client.request(method, path, json=body, headers=headers)
                if answer.status_code == 200:
                    return answer.json()
                assert answer.status_code in (502, 503), (path, answer.status_code, answer.text)
            except (httpx.TransportError, ValueError):
                pass
        retries[method] += 1
        await asyncio.sleep(0.05)
    raise AssertionError(f"{method} {path} was never answered")


def is_busy(house: House, pid: int) -> bool:
    """Whether a process is in the middle of a node."""
    ran = {(line["run"], line["node"]) for line in house.ledger.lines("ran")}
    began = [line for line in house.ledger.lines("began") if line["pid"] == pid]
    return any((line["run"], line["node"]) not in ran for line in began)


@pytest.mark.parametrize(("users", "rounds"), [(4, 1), pytest.param(16, 4, marks=pytest.mark.long)])
def test_replicas_are_replaced_under_load(users: int, rounds: int, replicated: House) -> None:
    house = replicated
    replicas = [house.replica(grace=0.0).start() for _ in range(3)]
    told: dict[str, str] = {}
    retries: Counter[str] = Counter()
    is_over = threading.Event()
    errors: list[BaseException] = []

    async def load() -> None:
        until = time.monotonic() + 600
        tasks = [asyncio.create_task(user(proxy.port, until, told, retries, name)) for name in range(users)]
        while not is_over.is_set():
            await asyncio.sleep(0.02)
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run() -> None:
        try:
            asyncio.run(load())
        except BaseException as error:
            errors.append(error)

    with RoundRobin([replica.port for replica in replicas]) as proxy:
        loading = threading.Thread(target=run)
        loading.start()
        try:
            for _ in range(rounds):
                for replica in replicas:
                    count = len(told)
                    house.until(lambda count=count: len(told) > count + 2 or errors)
                    house.until(lambda pid=replica.pid: is_busy(house, pid) or errors)
                    replica.stop()
                    replica.start()
            count = len(told)
            house.until(lambda: len(told) > count + 3 or errors)
        finally:
            is_over.set()
            loading.join(30)
        assert errors == []
        with contextlib.closing(psycopg.connect(house.database, autocommit=True)) as connection:
            waiting = "select count(*) from clew_run where status in ('pending', 'running')"
            house.until(lambda: connection.execute(waiting).fetchone() == (0,))
            rows = connection.execute("select run_id, status, attempt, epoch from clew_run").fetchall()
    ended = {run: (status, attempt) for run, status, attempt, _ in rows}
    assert set(told) <= set(ended)
    assert set(ended.values()) == {("success", 1)}, "nobody was lost, and nothing counts as an attempt"
    assert max(epoch for *_, epoch in rows) > 1, "runs were handed back"
    epochs = {run: epoch for run, _, _, epoch in rows}
    effects = Counter((line["run"], line["node"]) for line in house.ledger.lines("ran"))
    assert all(count <= epochs[run] for (run, _), count in effects.items())
    assert effects.total() <= 3 * len(rows) + sum(epoch - 1 for epoch in epochs.values())
