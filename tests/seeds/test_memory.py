"""Short-term memory by thread, long-term memory by store, and going back: as documents of the field describe it."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver, MemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.graph import START, MessagesState, StateGraph
from clew.runtime import Runtime
from clew.store.memory import InMemoryStore
from clew.types import Overwrite
from clew.warnings import MissingThreadIdWarning
from tests.both import Drive, on


class Chat(TypedDict):
    messages: Annotated[list[str], operator.add]
    data: str


def echo(state: Chat) -> Any:
    return {"messages": [f"heard {len(state['messages'])}"]}


def chat(saver: Any) -> Any:
    return StateGraph(Chat).add_node(echo).add_edge(START, "echo").compile(checkpointer=saver)


def test_threads_are_isolated(drive: Drive, saver: Any) -> None:
    graph = chat(saver)
    alice, bob = on("user-alice"), on("user-bob")

    drive.invoke(graph, {"messages": ["Hi from Alice"]}, alice)
    drive.invoke(graph, {"messages": ["Hi from Bob"]}, bob)

    assert drive.get_state(graph, alice).values["messages"] == ["Hi from Alice", "heard 1"]
    assert drive.get_state(graph, bob).values["messages"] == ["Hi from Bob", "heard 1"]


def test_a_thread_remembers_over_turns(drive: Drive, saver: Any) -> None:
    graph = chat(saver)
    for text in ("one", "two", "three"):
        state = drive.invoke(graph, {"messages": [text]}, on("s"))

    assert state["messages"] == ["one", "heard 1", "two", "heard 3", "three", "heard 5"]


def test_a_file_remembers_over_savers(drive: Drive, tmp_path: Path) -> None:
    path = str(tmp_path / "chat.db")
    for turn in (1, 2):
        with SqliteSaver.from_conn_string(path) as saver:
            state = drive.invoke(chat(saver), {"messages": [f"turn {turn}"]}, on("s"))

    assert state["messages"] == ["turn 1", "heard 1", "turn 2", "heard 3"]


def test_the_async_saver_is_opened_by_async_with(tmp_path: Path) -> None:
    import asyncio

    async def main() -> Any:
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "chat.db")) as saver:
            await saver.setup()
            await saver.setup()
            return await chat(saver).ainvoke({"messages": ["hi"]}, on("s"))

    assert asyncio.run(main())["messages"] == ["hi", "heard 1"]


def test_both_names_of_the_memory_saver_are_one() -> None:
    assert MemorySaver is InMemorySaver


def test_without_a_thread_id_nothing_is_remembered(drive: Drive, saver: Any) -> None:
    graph = chat(saver)

    for _ in range(2):
        with pytest.warns(MissingThreadIdWarning, match="thread_id"):
            assert drive.invoke(graph, {"messages": ["Hello"]})["messages"] == ["Hello", "heard 1"]


def test_browse_replay_and_fork(drive: Drive, saver: Any) -> None:
    graph = chat(saver)
    drive.invoke(graph, {"messages": ["start"]}, on("s"))
    states = drive.get_state_history(graph, on("s"))

    past = states[-2]
    assert drive.invoke(graph, None, past.config)["messages"] == ["start", "heard 1"]

    fork = drive.update_state(graph, past.config, {"messages": ["edited"]})
    assert drive.invoke(graph, None, fork)["messages"] == ["start", "edited", "heard 2"]


def test_update_then_resume(drive: Drive, saver: Any) -> None:
    graph = chat(saver)
    drive.invoke(graph, {"messages": ["start"]}, on("s"), interrupt_before=["echo"])

    drive.update_state(graph, on("s"), {"data": "manually_updated"})
    state = drive.invoke(graph, None, on("s"))

    assert state == {"messages": ["start", "heard 1"], "data": "manually_updated"}


def test_update_appends_and_overwrite_replaces(drive: Drive, saver: Any) -> None:
    graph = chat(saver)
    drive.update_state(graph, on("s"), {"messages": ["A", "B"]}, as_node="echo")

    drive.update_state(graph, on("s"), {"messages": ["C"]})
    assert drive.get_state(graph, on("s")).values["messages"] == ["A", "B", "C"]
    drive.update_state(graph, on("s"), {"messages": Overwrite(["C"])})
    assert drive.get_state(graph, on("s")).values["messages"] == ["C"]


class Reply(TypedDict):
    user_id: str
    response: str


def test_preferences_in_the_store_reach_every_thread(drive: Drive, saver: Any) -> None:
    store = InMemoryStore()
    store.put(("alice", "preferences"), "language", {"preference": "short"})

    def respond(state: Reply, runtime: Runtime) -> Any:
        found = runtime.store.get((state["user_id"], "preferences"), "language")
        return {"response": f"using {found.value['preference']}" if found else "no preference"}

    builder = StateGraph(Reply).add_node(respond).add_edge(START, "respond")
    graph = builder.compile(checkpointer=saver, store=store)

    for thread in ("thread-1", "thread-2"):
        assert drive.invoke(graph, {"user_id": "alice"}, on(thread))["response"] == "using short"
    assert drive.invoke(graph, {"user_id": "bob"}, on("thread-3"))["response"] == "no preference"


def test_store_operations() -> None:
    store = InMemoryStore()
    facts = ("user-123", "facts")

    store.put(facts, "location", {"city": "Lisbon"})
    assert store.get(facts, "location").value == {"city": "Lisbon"}
    assert [item.key for item in store.search(facts, filter={"city": "Lisbon"})] == ["location"]
    store.delete(facts, "location")
    assert store.get(facts, "location") is None


def test_messages_state_chat_over_two_turns(drive: Drive, saver: Any) -> None:
    from langchain_core.messages import AIMessage, HumanMessage

    def model(state: MessagesState) -> Any:
        asked = [message for message in state["messages"] if isinstance(message, HumanMessage)]
        return {"messages": [AIMessage(f"you have asked {len(asked)}")]}

    graph = StateGraph(MessagesState).add_node(model).add_edge(START, "model").compile(checkpointer=saver)
    drive.invoke(graph, {"messages": [("user", "one")]}, on())
    state = drive.invoke(graph, {"messages": {"role": "user", "content": "two"}}, on())

    assert [message.content for message in state["messages"]] == ["one", "you have asked 1", "two", "you have asked 2"]
    assert len({message.id for message in drive.get_state(graph, on()).values["messages"]}) == 4
