"""States and histories over HTTP, through the field's own client."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from langgraph_sdk.errors import APIStatusError, BadRequestError, NotFoundError

from clew.checkpoint.sqlite import SqliteSaver
from tests.both import on
from tests.server.kit import Api, InProcess, agent, answered, make_app, said


@pytest.fixture
def thread(api: Api) -> str:
    """A thread on which the agent is about to ask."""
    return api.threads.create(graph_id="agent", supersteps=[said("hello"), answered("hi")])["thread_id"]


def test_a_state_has_the_platforms_fields(api: Api, thread: str) -> None:
    state = api.threads.get_state(thread)

    assert set(state) == {
        "values", "next", "tasks", "metadata", "created_at", "checkpoint", "parent_checkpoint", "interrupts",
        "checkpoint_id", "parent_checkpoint_id",
    }  # fmt: skip
    assert state["next"] == ["talk"]
    assert state["checkpoint"]["thread_id"] == thread
    assert state["checkpoint"]["checkpoint_id"] == state["checkpoint_id"]
    assert state["metadata"]["source"] == "update"
    (task,) = state["tasks"]
    assert (task["name"], task["error"], task["interrupts"], task["state"]) == ("talk", None, [], None)
    assert task["checkpoint"]["checkpoint_ns"].startswith("talk:")


def test_a_state_is_read_at_any_checkpoint(api: Api, thread: str) -> None:
    newest, first = api.threads.get_history(thread)

    assert newest["parent_checkpoint"] == first["checkpoint"]
    assert api.threads.get_state(thread, checkpoint_id=first["checkpoint_id"])["values"] == first["values"]
    assert api.threads.get_state(thread, checkpoint=first["checkpoint"])["next"] == ["reply"]
    assert api.threads.get_state(thread, subgraphs=True)["tasks"][0]["state"] is not None
    picked = api.request("GET", f"/threads/{thread}/state?select=next&select=values.mood").json()
    assert picked == {"values": {"mood": "calm"}, "next": ["talk"]}
    with pytest.raises(NotFoundError):
        api.threads.get_state(thread, checkpoint_id="1f1e5989-1501-6a97-bace-1af57314cff5")


def test_a_thread_without_a_state_has_an_empty_one(api: Api) -> None:
    made = api.threads.create()

    state = api.threads.get_state(made["thread_id"])

    assert (state["values"], state["next"], state["tasks"], state["created_at"]) == ({}, [], [], None)
    assert state["checkpoint"] == {"thread_id": made["thread_id"], "checkpoint_ns": "", "checkpoint_id": None}
    assert api.threads.get_history(made["thread_id"]) == []


def test_a_state_is_written_and_forked(api: Api, thread: str) -> None:
    first = api.threads.get_history(thread)[-1]

    written = api.threads.update_state(thread, {"mood": "glad"}, as_node="reply")
    forked = api.threads.update_state(thread, {"mood": "odd"}, as_node="reply", checkpoint=first["checkpoint"])

    assert set(written) == {"checkpoint", "configurable", "checkpoint_id"}
    assert written["checkpoint"]["checkpoint_id"] == written["checkpoint_id"]
    assert api.threads.get_state(thread, checkpoint_id=written["checkpoint_id"])["values"]["mood"] == "glad"
    newest = api.threads.get_state(thread)
    assert newest["checkpoint_id"] == forked["checkpoint_id"]
    assert newest["parent_checkpoint"] == first["checkpoint"]
    assert [message["content"] for message in newest["values"]["messages"]] == ["hello"]
    assert api.threads.get(thread)["status"] == "interrupted"
    api.threads.update_state(thread, None, as_node="__end__")
    assert api.threads.get(thread)["status"] == "idle"


def test_a_write_that_cannot_be_is_refused(api: Api, thread: str) -> None:
    with pytest.raises(BadRequestError, match="nobody"):
        api.threads.update_state(thread, {"mood": "x"}, as_node="nobody")
    for body, status in (({"values": {"mood": 1}, "checkpoint_id": "nothing"}, 404), ({"values": "text"}, 422)):
        answer = api.request("POST", f"/threads/{thread}/state", json=body)
        assert answer.status_code == status

    assert len(api.threads.get_history(thread)) == 2


def test_a_history_is_read_in_pages(api: Api, thread: str) -> None:
    for number in range(3):
        api.threads.update_state(thread, {"mood": str(number)}, as_node="reply")
    everything = [state["checkpoint_id"] for state in api.threads.get_history(thread)]

    first = api.threads.get_history(thread, limit=2)
    then = api.threads.get_history(thread, limit=10, before=first[-1]["checkpoint"])

    assert [state["checkpoint_id"] for state in [*first, *then]] == everything
    linked = api.request("GET", f"/threads/{thread}/history?limit=1&before={everything[0]}").json()
    assert [state["checkpoint_id"] for state in linked] == [everything[1]]
    assert [state["metadata"]["step"] for state in api.threads.get_history(thread, metadata={"step": 0})] == [0]
    assert api.request("POST", f"/threads/{thread}/history", json={"limit": 0}).status_code == 422


def test_a_thread_without_a_graph_takes_no_state(here: InProcess) -> None:
    made = here.threads.create()

    with pytest.raises(APIStatusError, match="belongs to no graph"):
        here.threads.update_state(made["thread_id"], {"mood": "x"}, as_node="reply")


def test_what_a_run_asked_is_shown() -> None:
    saver = SqliteSaver(":memory:")
    with asyncio.Runner() as runner:
        api = InProcess(make_app(saver, None), runner, "ada")
        id = api.threads.create(graph_id="agent")["thread_id"]
        agent().compile(checkpointer=saver).invoke({"messages": [("user", "hello")]}, on(id))

        thread, state = api.threads.get(id), api.threads.get_state(id, subgraphs=True)

    ((task_id, (asked,)),) = thread["interrupts"].items()
    assert asked["value"] == "how are you?"
    assert (state["tasks"][0]["id"], state["interrupts"][0]["id"]) == (task_id, asked["id"])
    assert state["tasks"][0]["state"]["next"] == ["ask"]
    assert (thread["title"], thread["last_message_at"] is not None) == ("hello", True)


def test_a_state_that_cannot_be_read_does_not_spoil_the_list(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    with asyncio.Runner() as runner:
        with SqliteSaver.from_conn_string(path) as saver:
            api = InProcess(make_app(saver, None), runner, "ada")
            good, bad = (api.threads.create(graph_id="agent", supersteps=[said("hello")]) for _ in range(2))
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "update clew_step set body = x'00' where line in (select line from clew_head where thread = ?)",
                (bad["thread_id"],),
            )
            connection.commit()
        with SqliteSaver.from_conn_string(path) as saver:
            api = InProcess(make_app(saver, None), runner, "ada")
            shown = {each["thread_id"]: each for each in api.threads.search()}

    assert shown[good["thread_id"]]["values"] == good["values"]
    assert shown[bad["thread_id"]]["values"] is None
    assert shown[bad["thread_id"]]["error"]["error"] == "CorruptRecordError"
