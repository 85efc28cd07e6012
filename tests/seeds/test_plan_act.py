"""An agent over a plain dict that plans and acts in turns, resumed by whoever has the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import END, StateGraph
from tests.both import Drive, on


def plan(state: dict[str, Any]) -> dict[str, Any]:
    todo = [step for step in state["goal"].split() if step not in state.get("done", [])]
    return {**state, "todo": todo}


def act(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "done": [*state.get("done", []), state["todo"][0]]}


def should_continue(state: dict[str, Any]) -> str:
    return "act" if state["todo"] else "end"


def agent(saver: Any) -> Any:
    builder = StateGraph(dict)
    builder.add_node("plan", plan)
    builder.add_node("act", act)
    builder.set_entry_point("plan")
    builder.add_conditional_edges("plan", should_continue, {"act": "act", "end": END})
    builder.add_edge("act", "plan")
    return builder.compile(checkpointer=saver)


def test_agent_acts_until_the_plan_is_empty(drive: Drive, saver: Any) -> None:
    state = drive.invoke(agent(saver), {"goal": "look fetch write"}, on("session"))

    assert state == {"goal": "look fetch write", "todo": [], "done": ["look", "fetch", "write"]}


def test_every_step_can_be_looked_at(drive: Drive, saver: Any) -> None:
    graph = agent(saver)
    drive.invoke(graph, {"goal": "look fetch"}, on("session"))

    history = drive.get_state_history(graph, on("session"))

    assert [snapshot.next for snapshot in reversed(history)] == [
        ("__start__",),
        ("plan",),
        ("act",),
        ("plan",),
        ("act",),
        ("plan",),
        (),
    ]


def test_another_process_s_saver_goes_on_with_the_thread(drive: Drive, tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    with SqliteSaver.from_conn_string(path) as first:
        graph = agent(first)
        stopped = drive.invoke(graph, {"goal": "look fetch write"}, on("session"), interrupt_before=["act"])
        assert stopped.get("done", []) == []
    with SqliteSaver.from_conn_string(path) as second:
        graph = agent(second)
        assert drive.get_state(graph, on("session")).next == ("act",)
        state = drive.invoke(graph, None, on("session"))

    assert state["done"] == ["look", "fetch", "write"]


def test_a_second_message_builds_on_what_is_stored(drive: Drive, saver: Any) -> None:
    graph = agent(saver)
    drive.invoke(graph, {"goal": "look"}, on("session"))
    stored = drive.get_state(graph, on("session")).values

    state = drive.invoke(graph, {**stored, "goal": "look write"}, on("session"))

    assert state["done"] == ["look", "write"]


def test_sessions_do_not_mix(drive: Drive, saver: Any) -> None:
    graph = agent(saver)
    drive.invoke(graph, {"goal": "look"}, on("alice"))
    drive.invoke(graph, {"goal": "write"}, on("bob"))

    assert drive.get_state(graph, on("alice")).values["done"] == ["look"]
    assert drive.get_state(graph, on("bob")).values["done"] == ["write"]
