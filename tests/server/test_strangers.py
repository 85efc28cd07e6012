"""Runs that a replica cannot execute, or that are not its own: it leaves them, and none stands in another's way."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest
from fastapi import FastAPI

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import WorkSettings, create_app
from clew.server.work import strangers


class Said(TypedDict, total=False):
    by: str


def speaker(name: str) -> StateGraph[Any]:
    graph = StateGraph(Said)
    graph.add_node("say", lambda said: {"by": name})
    graph.add_edge(START, "say")
    return graph


@asynccontextmanager
async def served(saver: Any, *graphs: str, runs: int = 8) -> AsyncGenerator[tuple[FastAPI, httpx.AsyncClient]]:
    app = create_app({name: speaker(name) for name in graphs}, saver, work=WorkSettings(max_runs=runs, poll=3600))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://clew")
    async with client:
        assert (await client.get("/assistants/none/graph")).status_code == 404  # the first request starts it
        yield app, client
        await app.state.clew.drain(0)


async def pending(client: httpx.AsyncClient, graph: str) -> str:
    """The path of a run that waits."""
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    run = (await client.post(f"/threads/{thread}/runs", json={"assistant_id": graph, "input": {}})).json()
    return f"/threads/{thread}/runs/{run['run_id']}"


async def looks(app: FastAPI) -> None:
    """Have an application's worker look for runs."""
    await app.state.clew.worker._claim()


async def status(client: httpx.AsyncClient, path: str) -> Any:
    return (await client.get(path)).json()["status"]


async def leaves_it_to_another(saver: Any) -> None:
    async with served(saver, "new", runs=0) as (_, front), served(saver, "old") as (old, client):
        path = await pending(front, "new")
        await looks(old)
        assert await status(client, path) == "pending"
        assert old.state.clew.worker._strangers.passed() == [path.rpartition("/")[2]]
        await looks(old)  # what it has left does not keep it from others
        mine = await pending(client, "old")
        assert (await client.get(f"{mine}/join")).json() == {"by": "old"}
        async with served(saver, "old", "new") as (new, other):
            await looks(new)
            assert (await other.get(f"{path}/join")).json() == {"by": "new"}
            assert (await other.get(path)).json()["attempt"] == 1


def test_a_run_waits_for_a_replica_that_has_its_graph() -> None:
    with SqliteSaver.from_conn_string(":memory:") as saver:
        asyncio.run(leaves_it_to_another(saver))


def test_on_postgres_too(postgres_saver: PostgresSaver) -> None:
    asyncio.run(leaves_it_to_another(postgres_saver))


def test_a_run_whose_graph_nobody_has_ends_by_saying_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "PATIENCE", 0.0)

    async def check(saver: Any) -> None:
        async with served(saver, "gone", runs=0) as (_, front), served(saver, "old") as (old, client):
            path = await pending(front, "gone")
            await looks(old)
            said = (await client.get(f"{path}/join")).json()["__error__"]
            assert "there is no graph 'gone'" in said["message"]

    with SqliteSaver.from_conn_string(":memory:") as saver:
        asyncio.run(check(saver))


def test_a_run_that_cannot_be_read_stands_in_no_way(tmp_path: Path) -> None:
    async def check(saver: Any) -> None:
        async with served(saver, "old", runs=0) as (_, front):
            damaged = await pending(front, "old")
            with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
                connection.execute("update clew_run set body = x'00'")
            sound = await pending(front, "old")
        async with served(saver, "old") as (old, client):
            await looks(old)

            assert (await client.get(f"{sound}/join")).json() == {"by": "old"}
            assert await status(client, damaged) == "pending"
            assert (await client.post(f"{damaged}/cancel")).status_code == 202
            assert await status(client, damaged) == "interrupted"

    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        asyncio.run(check(saver))


def test_a_worker_takes_its_own_tenants_runs_only() -> None:
    async def check(saver: Any) -> None:
        acme, zeta = saver.with_tenant("acme"), saver.with_tenant("zeta")
        async with served(acme, "old", runs=0) as (_, front), served(zeta, "old") as (other, _):
            path = await pending(front, "old")
            await looks(other)

            assert await status(front, path) == "pending"
            assert await other.state.clew.worker.queue.counts() == {}
            assert await other.state.clew.worker.queue.sweep(3) == ([], [], [])

    with SqliteSaver.from_conn_string(":memory:") as saver:
        asyncio.run(check(saver))
