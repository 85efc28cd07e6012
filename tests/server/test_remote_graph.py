"""LangGraph's `RemoteGraph`, calling a graph that clew serves."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import httpx
import langgraph.graph as langgraph_graph
import pytest
from langgraph.checkpoint.memory import InMemorySaver as PeerSaver
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

import clew.graph as clew_graph
from clew.checkpoint.memory import InMemorySaver
from tests.server.kit import InProcess, answered, said
from tests.server.live import Live, messages


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


class Called:
    """A graph of a service, as LangGraph calls it: blocking, and on an event loop."""

    def __init__(self, live: Live, user: str) -> None:
        self._runner = asyncio.Runner()
        self._http = httpx.AsyncClient(base_url=live.url, headers={"x-api-key": user})
        self._blocking = httpx.Client(base_url=live.url, headers={"x-api-key": user})
        self.threads = SyncLangGraphClient(self._blocking).threads
        self.run = self._runner.run

    def graph(self, name: str) -> Any:
        return RemoteGraph(name, client=LangGraphClient(self._http), sync_client=SyncLangGraphClient(self._blocking))

    def thread(self) -> Any:
        return {"configurable": {"thread_id": self.threads.create()["thread_id"]}}

    def close(self) -> None:
        self._blocking.close()
        self.run(self._http.aclose())
        self._runner.close()


@pytest.fixture
def called(live: Live, request: pytest.FixtureRequest) -> Iterator[Called]:
    made = Called(live, request.node.name)
    yield made
    made.close()


async def collected(parts: Any) -> list[Any]:
    return [part async for part in parts]


def shown(parts: list[Any]) -> list[tuple[int, str, Any]]:
    """The depth, the mode and the data of each part."""
    return [(len(ns), mode, data) for ns, mode, data in parts]


def test_a_remote_graph_is_run(called: Called) -> None:
    graph, config = called.graph("pair"), called.thread()

    assert graph.invoke({"log": ["in"]}) == {"log": ["in", "a", "b"]}
    assert graph.invoke({"log": ["in"]}, config) == {"log": ["in", "a", "b"]}
    assert called.run(graph.ainvoke({"log": []}, config)) == {"log": ["in", "a", "b", "a", "b"]}
    assert graph.get_state(config).values == {"log": ["in", "a", "b", "a", "b"]}
    assert len(list(graph.get_state_history(config))) == 8
    with pytest.raises(RemoteException, match="boom!"):
        called.graph("failing").invoke({"log": []})


def test_a_remote_graph_is_streamed(called: Called) -> None:
    graph = called.graph("pair")
    updates = [{"first": {"log": ["a"]}}, {"second": {"log": ["b"]}}]
    nested = [
        (0, "updates", {"top": {"log": ["top"]}}),
        (2, "custom", "deep"),
        (2, "updates", {"deep": {"log": ["deep"]}}),
        (1, "updates", {"below": {"log": ["top", "deep"]}}),
        (0, "updates", {"sub": {"log": ["top", "top", "deep"]}}),
    ]
    given: Any = {"stream_mode": ["updates", "custom"], "subgraphs": True}

    assert list(graph.stream({"log": []})) == updates
    assert called.run(collected(graph.astream({"log": []}, stream_mode="updates"))) == updates
    assert list(graph.stream({"log": []}, stream_mode="values")) == [{"log": []}, {"log": ["a"]}, {"log": ["a", "b"]}]
    assert shown(list(called.graph("nesting").stream({"log": []}, **given))) == nested
    assert shown(called.run(collected(called.graph("nesting").astream({"log": []}, **given)))) == nested
    chunks = list(called.graph("talking").stream(messages("hi"), stream_mode="messages"))
    assert [chunk["content"] for chunk, _ in chunks] == ["hello", " ", "world"]


def test_a_remote_graph_asks_and_is_answered(called: Called) -> None:
    graph, config = called.graph("asking"), called.thread()

    asked = graph.invoke({"log": []}, config)
    state = graph.get_state(config)
    answered = called.run(graph.ainvoke(Command(resume="again"), config))
    told = graph.invoke(Command(resume={answered["__interrupt__"][0]["id"]: 3}), config)

    assert [each["value"] for each in asked["__interrupt__"]] == [{"question": "how many?"}]
    assert [task.interrupts[0].value for task in state.tasks] == [{"question": "how many?"}]
    assert told == {"log": ["again", 3, "told"]}


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


@pytest.mark.parametrize("library", [clew_graph, langgraph_graph], ids=["clew", "langgraph"])
def test_a_remote_graph_is_a_node(called: Called, library: Any) -> None:
    def around(name: str) -> Any:
        graph = library.StateGraph(Log)
        graph.add_node("local", lambda state: {"log": ["local"]})
        graph.add_node("remote", called.graph(name))
        graph.add_edge("__start__", "local")
        graph.add_edge("local", "remote")
        return graph.compile(checkpointer=InMemorySaver() if library is clew_graph else PeerSaver())

    there = called.thread()
    given = around("pair").invoke({"log": []}, there)
    asked = around("asking").invoke({"log": []}, called.thread())
    given_later = called.run(around("pair").ainvoke({"log": []}, called.thread()))

    assert given == given_later == {"log": ["local", "local", "a", "b"]}
    assert called.threads.get(there["configurable"]["thread_id"])["values"] == {"log": ["local", "a", "b"]}
    assert [each.value for each in asked["__interrupt__"]] == [{"question": "how many?"}]
