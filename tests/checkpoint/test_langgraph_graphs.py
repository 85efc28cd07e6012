"""LangGraph's own graphs on clew's savers: the same object serves both."""

from __future__ import annotations

import asyncio
import operator
import os
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver as TheirBase
from langgraph.checkpoint.memory import InMemorySaver as TheirSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from clew.checkpoint.base import BaseCheckpointSaver
from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    answer: str


def plan(state: State) -> State:
    return {"log": ["plan"]}


def ask(state: State) -> State:
    return {"answer": interrupt({"question": len(state["log"])}), "log": ["ask"]}


def work(state: Any) -> State:
    return {"log": [f"work {state['number']}"]}


def spread(state: State) -> list[Send]:
    return [Send("work", {"number": number}) for number in range(3)]


def build(saver: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("ask", ask)
    graph.add_node("work", work)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "ask")
    graph.add_conditional_edges("ask", spread, ["work"])
    graph.add_edge("work", END)
    return graph.compile(checkpointer=saver)


@pytest.fixture(params=["memory", "sqlite"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    if request.param == "memory":
        yield InMemorySaver()
        return
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.db"), synchronous="NORMAL") as opened:
        yield opened


def snapshots(graph: Any, config: Any) -> list[Any]:
    return [
        (snapshot.values, snapshot.next, snapshot.metadata["source"], snapshot.metadata["step"], len(snapshot.tasks))
        for snapshot in graph.get_state_history(config)
    ]


def play(graph: Any) -> list[Any]:
    """Run, interrupt, resume, look at the history, go back and fork."""
    config = {"configurable": {"thread_id": "t"}}
    seen: list[Any] = [graph.invoke({"log": ["in"]}, config)["__interrupt__"][0].value]
    seen.append(graph.get_state(config).next)
    seen.append(graph.invoke(Command(resume="yes"), config))
    seen.append(snapshots(graph, config))
    past = next(found for found in graph.get_state_history(config) if found.next == ("ask",))
    forked = graph.update_state(past.config, {"log": ["forked"]})
    seen.append(graph.invoke(None, forked)["__interrupt__"][0].value)
    seen.append(graph.invoke(Command(resume="no"), config))
    seen.append(snapshots(graph, config))
    seen.append([len(found) for found in (list(graph.get_state_history(config, limit=2)),)])
    seen.append(snapshots(graph, config) == snapshots(graph, config))
    return seen


def test_a_langgraph_graph_behaves_as_on_its_own_saver(saver: Any) -> None:
    assert play(build(saver)) == play(build(TheirSaver()))
    assert saver.verify("t").problems == []


def test_a_langgraph_graph_runs_async_on_the_same_saver(saver: Any) -> None:
    async def run(graph: Any) -> Any:
        config = {"configurable": {"thread_id": "t"}}
        await graph.ainvoke({"log": ["in"]}, config)
        result = await graph.ainvoke(Command(resume="yes"), config)
        return result, [found.values async for found in graph.aget_state_history(config)]

    assert asyncio.run(run(build(saver))) == asyncio.run(run(build(TheirSaver())))


def test_a_saver_passes_for_a_langgraph_saver_and_stays_ours(saver: Any) -> None:
    assert isinstance(saver, TheirBase)
    assert isinstance(saver, BaseCheckpointSaver)
    assert type(saver).__name__ in ("InMemorySaver", "SqliteSaver")


def test_a_long_langgraph_chat_costs_what_its_messages_weigh(tmp_path: Path) -> None:
    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {"log": [random_text()]})
    graph.add_edge(START, "plan")
    path = tmp_path / "threads.db"
    with SqliteSaver.from_conn_string(str(path), synchronous="NORMAL") as saver:
        app = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        for _ in range(80):
            app.invoke({"log": [random_text()]}, config)

        assert len(app.get_state(config).values["log"]) == 160
        assert saver.verify().problems == []
    weight = 160 * len(random_text())
    assert path.stat().st_size < 6 * weight, "each message is a value, an input and a write; a full copy would be 80 x"


def random_text() -> str:
    return os.urandom(300).hex()
