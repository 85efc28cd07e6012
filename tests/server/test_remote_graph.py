"""LangGraph's `RemoteGraph`, calling a graph that clew serves."""

from __future__ import annotations

from typing import Any

import httpx
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from tests.server.kit import InProcess, answered, said


def test_a_remote_graph_looks_at_threads_and_changes_them(here: InProcess) -> None:
    id = here.threads.create(graph_id="agent", supersteps=[said("hello"), answered("hi")])["thread_id"]
    transport = httpx.ASGITransport(here.app)
    http = httpx.AsyncClient(transport=transport, base_url="http://clew", headers={"x-api-key": here.user})
    graph = RemoteGraph("agent", client=LangGraphClient(http))
    config: Any = {"configurable": {"thread_id": id}}

    async def use() -> tuple[Any, ...]:
        drawn = await graph.aget_graph(xray=True)
        state = await graph.aget_state(config, subgraphs=True)
        made = await graph.aupdate_state(config, {"mood": "glad"}, as_node="reply")
        return drawn, state, made, [found async for found in graph.aget_state_history(config)]

    drawn, state, made, history = here.runner.run(use())

    assert set(drawn.nodes) >= {"__start__", "reply", "talk:ask", "__end__"}
    assert state.next == ("talk",)
    assert [task.name for task in state.tasks] == ["talk"]
    assert history[0].config["configurable"]["checkpoint_id"] == made["configurable"]["checkpoint_id"]
    assert [found.values["mood"] for found in history[:2]] == ["glad", "calm"]


def test_a_remote_graph_blocks_as_well(served: str) -> None:
    with httpx.Client(base_url=served, headers={"x-api-key": "remote graph"}) as http:
        client = SyncLangGraphClient(http)
        graph = RemoteGraph("agent", sync_client=client)
        id = client.threads.create(graph_id="agent", supersteps=[said("hello")])["thread_id"]

        state = graph.get_state({"configurable": {"thread_id": id}})

        assert state.next == ("reply",)
        assert set(graph.get_graph().nodes) >= {"reply", "talk"}
