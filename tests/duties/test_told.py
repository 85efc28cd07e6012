"""The service tells webhooks: of a run that ended well, one that failed, and one that was stopped."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypedDict

import httpx

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import DutySettings, create_app
from tests.duties.test_webhooks import LOCAL, receiver


class Said(TypedDict, total=False):
    said: str


async def answer(state: Said) -> Said:
    match state["said"]:
        case "wait":
            await asyncio.sleep(60)
        case "fail":
            raise ValueError("no answer")
    return {"said": "done"}


async def story(hook: str, got: list[Any]) -> None:
    graph = StateGraph(Said).add_node("answer", answer).add_edge(START, "answer")
    app = create_app({"agent": graph}, SqliteSaver(":memory:"), duties=DutySettings(webhooks=LOCAL))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://clew") as http:

        async def run(said: str) -> tuple[str, str]:
            thread = (await http.post("/threads", json={})).json()["thread_id"]
            body = {"assistant_id": "agent", "input": {"said": said}, "webhook": hook, "metadata": {"asked": said}}
            return thread, (await http.post(f"/threads/{thread}/runs", json=body)).json()["run_id"]

        thread, waiting = await run("wait")
        await run("fail")
        await run("work")
        async with asyncio.timeout(30):
            while (await http.get(f"/threads/{thread}/runs/{waiting}")).json()["status"] != "running":
                await asyncio.sleep(0.01)
            await http.post(f"/threads/{thread}/runs/{waiting}/cancel?wait=1")
            while len(got) < 3:
                await asyncio.sleep(0.01)
    await app.state.clew.drain(0)


def test_a_webhook_is_told_of_every_end_of_a_run_that_began() -> None:
    with receiver() as received:
        asyncio.run(story(received.url, received.got))
    told = {said["metadata"]["asked"]: said for said in (json.loads(body) for _, _, body in received.got)}
    assert {asked: said["status"] for asked, said in told.items()} == {
        "wait": "interrupted",
        "fail": "error",
        "work": "success",
    }
    assert told["work"]["values"] == {"said": "done"}
    assert told["fail"]["error"] == {"error": "ValueError", "message": "no answer"}
    assert told["work"]["ended_at"] is not None
    assert told["work"]["kwargs"]["input"] == {"said": "work"}
