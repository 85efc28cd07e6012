"""Three replicas, many threads, and users who do not wait: whatever is made, stopped and taken back at random, what is
left is what was promised."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

from clew.ids import id_bytes
from tests.service_faults.kit import House, RoundRobin

NODES = ("one", "two", "three")
STRATEGIES = ("enqueue", "enqueue", "reject", "interrupt", "rollback")


@dataclass
class Told:
    """What clients were told."""

    runs: dict[str, str] = field(default_factory=dict)  # run -> thread
    refused: int = 0
    odd: list[tuple[str, int, str]] = field(default_factory=list)

    def note(self, what: str, answer: httpx.Response, fine: tuple[int, ...]) -> None:
        if answer.status_code not in fine:
            self.odd.append((what, answer.status_code, answer.text[:200]))


async def text(client: httpx.AsyncClient, threads: list[str], until: float, told: Told, chance: random.Random) -> None:
    """One user: asks for runs and stops them, on threads that others use, too."""
    while time.monotonic() < until:
        thread = chance.choice(threads if chance.random() < 0.5 else threads[:12])
        known = [run for run, place in list(told.runs.items())[-50:] if place == thread]
        if known and chance.random() < 0.25:
            action = chance.choice(["interrupt", "rollback"])
            answer = await client.post(f"/threads/{thread}/runs/{known[-1]}/cancel?action={action}")
            told.note("cancel", answer, (202, 404))
            continue
        orders = {node: {"sleep": chance.choice([0, 0.01, 0.05])} for node in NODES}
        strategy = chance.choice(STRATEGIES)
        body = {
            "assistant_id": "row", "input": {"orders": orders}, "multitask_strategy": strategy,
            "stream_mode": ["updates"], "durability": chance.choice(["sync", "async"]),
        }  # fmt: skip
        answer = await client.post(f"/threads/{thread}/runs", json=body)
        told.note("run", answer, (200, 409))
        if answer.status_code == 200:
            told.runs[answer.json()["run_id"]] = thread
        told.refused += answer.status_code == 409


async def play(port: int, threads: int, users: int, seconds: float, seed: int) -> tuple[Told, list[str]]:
    told = Told()
    limits = httpx.Limits(max_connections=users)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30) as client:
        made = [(await client.post("/threads", json={})).json()["thread_id"] for _ in range(threads)]
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(text(client, made, until, told, random.Random(f"{seed} {user}")) for user in range(users))
        )
    return told, made


@pytest.mark.parametrize(
    ("threads", "users", "seconds"), [(12, 8, 2.5), pytest.param(500, 32, 60.0, marks=pytest.mark.long)]
)
def test_what_is_left_is_what_was_promised(threads: int, users: int, seconds: float, replicated: House) -> None:
    house = replicated
    replicas = [house.replica(grace=2.0).start() for _ in range(3)]
    with RoundRobin([replica.port for replica in replicas]) as proxy:
        told, made = asyncio.run(play(proxy.port, threads, users, seconds, seed=4))
    with contextlib.closing(psycopg.connect(house.database, autocommit=True)) as connection:
        waiting = "select count(*) from clew_run where status in ('pending', 'running')"
        house.until(lambda: connection.execute(waiting).fetchone() == (0,), 60)
        assert told.odd == []
        assert len(told.runs) > 20
        check_runs(house, connection, told)
        check_threads(connection, made)


def check_runs(house: House, connection: Any, told: Told) -> None:
    """Each run that was promised has ended, once, or was taken back without a trace."""
    rows = connection.execute("select run_id, thread, status, created_at, attempt, cancel from clew_run").fetchall()
    there = {run: (thread, status, created, attempt, cancel) for run, thread, status, created, attempt, cancel in rows}
    assert set(there) <= set(told.runs)
    stored = {bytes(run) for (run,) in connection.execute("select distinct run_id from clew_step")}
    lines: dict[str, list[tuple[float, str, str, str]]] = defaultdict(list)
    for kind in ("began", "ran"):
        for line in house.ledger.lines(kind):
            lines[line["run"]].append((line["at"], kind, line["node"], line["thread"]))
    for run in told.runs:
        did = sorted(lines[run])
        if run not in there:
            assert id_bytes(run) not in stored, "it was taken back"
            continue
        _, status, _, attempt, cancel = there[run]
        assert (status, attempt <= 1) in (("success", True), ("interrupted", True)), there[run]
        assert cancel != "rollback", "then it would have been taken back"
        ran = [node for _, kind, node, _ in did if kind == "ran"]
        assert ran == list(NODES[: len(ran)]), "each node once, in order"
        if status == "success":
            assert len(ran) == 3
        if len(ran) > 1:
            assert id_bytes(run) in stored, "what an interrupted run has done is kept"
        events = house.events(run)
        assert [seq for seq, *_ in events] == list(range(1, len(events) + 1))
    check_order(there, lines)
    ends = Counter(there[run][1] if run in there else "taken back" for run in told.runs)
    assert min(ends["success"], ends["interrupted"], ends["taken back"]) > 5, ends


def check_order(there: dict[str, tuple[Any, ...]], lines: dict[str, list[tuple[float, str, str, str]]]) -> None:
    """On each thread one run at a time, in the order in which they were made."""
    of_threads: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for run, did in lines.items():
        for at, _, _, thread in did:
            of_threads[thread].append((at, run))
    for did in of_threads.values():
        order = [
            run for (_, run), (_, before) in zip(sorted(did), [(0, ""), *sorted(did)], strict=False) if run != before
        ]
        assert len(order) == len(set(order)), "one run ends before the next one begins"
        made = [there[run][2] for run in order if run in there]
        assert made == sorted(made), "those that wait start in their order"


def check_threads(connection: Any, made: list[str]) -> None:
    """A thread says how its last run has left it."""
    query = """
        select thread.status, (
            select run.status from clew_run as run where run.thread = thread.thread order by created_at desc limit 1
        ) from clew_thread as thread where thread.thread = any(%s)
    """
    for status, last in connection.execute(query, (made,)):
        assert status in ("idle", "interrupted"), (status, last)
        if last == "success":
            assert status == "idle"
