"""A thread that has runs: what may be done to it meanwhile, and what becomes of them when it goes."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, TypedDict

import httpx

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import create_app


class State(TypedDict, total=False):
    x: int


class Gate:
    """A graph that waits in its node until it is let through."""

    def __init__(self) -> None:
        self.entered, self.left, self.open = asyncio.Event(), asyncio.Event(), asyncio.Event()
        graph = StateGraph(State)
        graph.add_node("wait", self.wait)
        graph.add_edge(START, "wait")
        self.graph = graph

    async def wait(self, state: State) -> State:
        self.entered.set()
        try:
            await self.open.wait()
        finally:
            self.left.set()
        return {"x": 2}


def test_a_busy_thread_is_not_written_to_and_goes_with_its_run(tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate()
        with SqliteSaver.from_conn_string(str(tmp_path / "t.db"), synchronous="NORMAL") as saver:
            app = create_app({"gate": gate.graph}, saver)
            transport = httpx.ASGITransport(app)
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://clew") as client,
                app.router.lifespan_context(app),
            ):
                thread = (await client.post("/threads", json={})).json()["thread_id"]
                path = f"/threads/{thread}"
                made = await client.post(f"{path}/runs", json={"assistant_id": "gate", "input": {"x": 1}})
                await gate.entered.wait()
                written = await client.post(f"{path}/state", json={"values": {"x": 9}, "as_node": "wait"})
                assert (written.status_code, written.json()["hint"]) == (409, "wait for it, or cancel it")
                assert (await client.get(path)).json()["status"] == "busy"
                assert (await client.delete(f"{path}/runs/{made.json()['run_id']}")).status_code == 409

                assert (await client.delete(path)).status_code == 204
                await asyncio.wait_for(gate.left.wait(), 5)
                for _ in range(100):
                    if not app.state.clew.worker.has(made.json()["run_id"]):
                        break
                    await asyncio.sleep(0.02)
                assert not app.state.clew.worker.has(made.json()["run_id"])
                assert (await client.get(path)).status_code == 404
                assert (await client.get(f"{path}/runs/{made.json()['run_id']}")).status_code == 404
                assert [each async for each in saver.alist({"configurable": {"thread_id": thread}})] == []

    asyncio.run(work())


def test_a_run_that_waits_keeps_its_thread_busy_until_it_is_taken_out() -> None:
    async def work() -> None:
        app = create_app({"gate": Gate().graph}, SqliteSaver(":memory:"))
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://clew") as client,
            app.router.lifespan_context(app),
        ):
            thread: dict[str, Any] = (await client.post("/threads", json={})).json()
            path = f"/threads/{thread['thread_id']}"
            body = {"assistant_id": "gate", "input": {"x": 1}, "after_seconds": 1000}
            run = (await client.post(f"{path}/runs", json=body)).json()
            assert (await client.post(f"{path}/state", json={"values": {"x": 9}})).status_code == 409
            assert (await client.post(f"{path}/runs/{run['run_id']}/cancel")).status_code == 202
            assert (await client.get(f"{path}/runs/{run['run_id']}")).json()["status"] == "interrupted"
            assert (await client.get(path)).json()["status"] == "idle"
            written = await client.post(f"{path}/state", json={"values": {"x": 9}, "as_node": "wait"})
            assert written.status_code == 200

    asyncio.run(work())


def test_a_run_whose_events_have_gone_gives_what_its_thread_holds() -> None:
    async def work() -> None:
        gate, connection = Gate(), sqlite3.connect(":memory:", check_same_thread=False)
        gate.open.set()
        app = create_app({"gate": gate.graph}, SqliteSaver(connection))
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://clew") as client,
            app.router.lifespan_context(app),
        ):
            thread = (await client.post("/threads", json={})).json()["thread_id"]
            path = f"/threads/{thread}/runs"
            body = {"assistant_id": "gate", "input": {"x": 1}}
            assert (await client.post(f"{path}/wait", json=body)).json() == {"x": 2}
            (run,) = (await client.get(path)).json()
            connection.execute("delete from clew_event")
            connection.commit()
            assert (await client.get(f"{path}/{run['run_id']}/join")).json() == {"x": 2}

    asyncio.run(work())
