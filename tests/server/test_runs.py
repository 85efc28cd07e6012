"""Every method for runs of the field's clients, blocking and asyncio, as they are."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.server.live import Blocking, Client, Gate, values


def thread_of(client: Client) -> str:
    return client.threads.create()["thread_id"]


def test_a_run_is_made_joined_read_listed_and_deleted(client: Client) -> None:
    thread = thread_of(client)

    run = client.runs.create(thread, "pair", input={"log": ["in"]}, metadata={"because": "test"})
    joined = client.runs.join(thread, run["run_id"])
    assert "user-agent" not in client.threads.get_state(thread)["metadata"]
    found = client.runs.get(thread, run["run_id"])

    assert (run["status"], run["thread_id"], run["multitask_strategy"]) == ("pending", thread, "enqueue")
    asked = {"graph_id": "pair", "assistant_id": run["assistant_id"]}
    assert run["metadata"] == {**asked, "because": "test"}
    assert run["kwargs"]["config"]["configurable"].items() >= (asked | {"run_id": run["run_id"]}).items()
    assert (run["kwargs"]["interrupt_before"], run["kwargs"]["durability"]) == (None, "async")
    assert uuid.UUID(run["run_id"]).version == 7
    assert joined == {"log": ["in", "a", "b"]}
    assert (found["status"], found["kwargs"]["input"]) == ("success", {"log": ["in"]})
    assert client.runs.list(thread) == [found]
    assert client.runs.join(thread, run["run_id"]) == joined
    client.runs.delete(thread, run["run_id"])
    assert client.runs.list(thread) == []
    assert client.threads.get_state(thread)["values"] == joined
    with pytest.raises(NotFoundError):
        client.runs.get(thread, run["run_id"])


def test_runs_are_listed_newest_first_by_pages_and_status(anywhere: Blocking) -> None:
    client = anywhere
    thread = thread_of(client)
    for number in range(3):
        client.runs.wait(thread, "pair", input={"log": []}, metadata={"number": number})
    client.runs.wait(thread, "failing", input={"log": []}, raise_error=False)

    assert [run["metadata"].get("number") for run in client.runs.list(thread)] == [None, 2, 1, 0]
    assert [run["metadata"]["number"] for run in client.runs.list(thread, limit=2, offset=1)] == [2, 1]
    assert [run["metadata"]["number"] for run in client.runs.list(thread, status="success")] == [2, 1, 0]
    assert [set(run) for run in client.runs.list(thread, limit=1, select=["run_id", "status"])] == [
        {"run_id", "status"}
    ]
    with pytest.raises(UnprocessableEntityError):
        client.runs.list(thread, status="done")
    with pytest.raises(NotFoundError):
        client.runs.list(str(uuid.uuid4()))


def test_waiting_gives_the_values(client: Client) -> None:
    thread = thread_of(client)
    told: list[Any] = []

    waited = client.runs.wait(thread, "pair", input={"log": ["in"]}, on_run_created=told.append)

    assert waited == {"log": ["in", "a", "b"]}
    assert told == [{"run_id": client.runs.list(thread)[0]["run_id"], "thread_id": thread}]


def test_a_stream_begins_with_metadata_and_ends_with_end(client: Client) -> None:
    thread = thread_of(client)
    told: list[Any] = []

    parts = list(client.runs.stream(thread, "pair", input={"log": ["in"]}, on_run_created=told.append))

    (run,) = client.runs.list(thread)
    assert [part.event for part in parts] == ["metadata", "values", "values", "values", "end"]
    assert parts[0].data == {"run_id": run["run_id"], "attempt": 1}
    assert values(parts) == [{"log": ["in"]}, {"log": ["in", "a"]}, {"log": ["in", "a", "b"]}]
    assert parts[-1].data == {"run_id": run["run_id"], "status": "success"}
    assert {part.id for part in parts} == {None}
    assert told == [{"run_id": run["run_id"], "thread_id": thread}]


def test_a_batch_makes_runs_on_threads_of_their_own(client: Client) -> None:
    made = client.runs.create_batch(
        [{"assistant_id": "pair", "input": {"log": [number]}, "on_completion": "keep"} for number in range(3)]
    )

    assert [client.runs.join(run["thread_id"], run["run_id"]) for run in made] == [
        {"log": [number, "a", "b"]} for number in range(3)
    ]
    assert len({run["thread_id"] for run in made}) == 3


def test_of_a_batch_with_a_run_that_cannot_be_made_none_is(client: Client) -> None:
    with pytest.raises(NotFoundError):
        client.runs.create_batch([{"assistant_id": "pair"}, {"assistant_id": "nothing"}])

    assert client.threads.search() == []


def test_a_stateless_run_takes_its_thread_along(client: Client) -> None:
    told: list[Any] = []

    waited = client.runs.wait(None, "pair", input={"log": ["in"]}, on_run_created=told.append)
    parts = list(client.runs.stream(None, "pair", input={"log": []}))
    run = client.runs.create(None, "pair", input={"log": ["made"]})
    joined = client.runs.join(run["thread_id"], run["run_id"])

    assert waited == {"log": ["in", "a", "b"]}
    assert set(told[0]) >= {"run_id"}
    assert [part.event for part in parts] == ["metadata", "values", "values", "values", "end"]
    assert joined == {"log": ["made", "a", "b"]}
    assert client.threads.search() == []


def test_a_stateless_run_leaves_its_thread_if_asked_to(anywhere: Blocking) -> None:
    client = anywhere

    client.runs.wait(None, "pair", input={"log": []}, on_completion="keep")

    (thread,) = client.threads.search()
    assert (thread["status"], thread["values"]) == ("idle", {"log": ["a", "b"]})


def test_a_running_run_is_stopped(client: Client, gate: Gate) -> None:
    thread = thread_of(client)
    run = client.runs.create(thread, "pair", input={"log": [], "gate": gate.name})
    gate.wait()

    with pytest.raises(ConflictError):
        client.runs.delete(thread, run["run_id"])
    client.runs.cancel(thread, run["run_id"], wait=True)

    assert client.runs.get(thread, run["run_id"])["status"] == "interrupted"
    assert client.threads.get(thread)["status"] == "interrupted"
    assert client.threads.get_state(thread)["next"] == ["second"]


def test_many_runs_are_stopped(client: Client, gate: Gate) -> None:
    thread = thread_of(client)
    runs = [client.runs.create(thread, "pair", input={"log": [], "gate": gate.name}) for _ in range(4)]
    gate.wait()

    client.runs.cancel_many(thread_id=thread, run_ids=[runs[1]["run_id"]])
    client.runs.cancel_many(thread_id=thread, status="pending")
    assert [client.runs.get(thread, run["run_id"])["status"] for run in runs] == ["running", *["interrupted"] * 3]

    client.runs.cancel_many(status="all")
    client.runs.join(thread, runs[0]["run_id"])
    assert client.runs.get(thread, runs[0]["run_id"])["status"] == "interrupted"
    with pytest.raises(NotFoundError):
        client.runs.cancel_many(thread_id=thread, status="all")


def test_a_stream_is_joined_while_the_run_goes_on(client: Client, gate: Gate) -> None:
    thread = thread_of(client)
    run = client.runs.create(
        thread, "pair", input={"log": [], "gate": gate.name}, stream_mode=["values", "updates"], stream_resumable=True
    )
    gate.wait()
    parts = client.runs.join_stream(thread, run["run_id"], stream_mode="updates", last_event_id="-1")
    begun = [next(parts), next(parts)]
    gate.open()
    rest = list(parts)

    assert [(part.event, part.data) for part in begun] == [
        ("metadata", {"run_id": run["run_id"], "attempt": 1}),
        ("updates", {"first": {"log": ["a"]}}),
    ]
    assert [(part.event, part.data) for part in rest] == [
        ("updates", {"second": {"log": ["b"]}}),
        ("end", {"run_id": run["run_id"], "status": "success"}),
    ]


def test_a_run_is_found_on_its_own_thread_only(client: Client) -> None:
    thread, other = thread_of(client), thread_of(client)
    run = client.runs.create(thread, "pair", input={"log": []})["run_id"]
    client.runs.join(thread, run)

    for use in (client.runs.get, client.runs.join, client.runs.cancel, client.runs.delete):
        with pytest.raises(Exception, match=r"404|no run"):
            use(other, run)
    with pytest.raises(NotFoundError):
        list(client.runs.join_stream(other, run))


def test_a_run_needs_an_assistant_and_a_thread_that_there_are(client: Client) -> None:
    with pytest.raises(NotFoundError, match="no assistant 'nothing'"):
        client.runs.create(thread_of(client), "nothing", input={})
    with pytest.raises(NotFoundError, match="no thread"):
        client.runs.create(str(uuid.uuid4()), "pair", input={"log": []})

    made = str(uuid.uuid4())
    client.runs.wait(made, "pair", input={"log": []}, if_not_exists="create")
    assert client.threads.get(made)["values"] == {"log": ["a", "b"]}


def test_a_thread_knows_what_ran_on_it(client: Client) -> None:
    thread = thread_of(client)
    run = client.runs.create(thread, "pair", input={"log": []})
    client.runs.join(thread, run["run_id"])

    assert client.threads.get(thread)["metadata"] == {"graph_id": "pair", "assistant_id": run["assistant_id"]}


@pytest.mark.parametrize(
    ("asked", "context", "configurable"),
    [
        ({}, {"model": "small", "warmth": 1}, {}),
        ({"context": {"model": "big"}}, {"model": "big", "warmth": 1}, {"model": "big"}),
        ({"config": {"configurable": {"model": "big", "secret": 1}}}, {"model": "big", "warmth": 1},
         {"model": "big", "secret": 1}),
        ({"context": {"warmth": 3}, "config": {"configurable": {"warmth": 2}}}, {"model": "small", "warmth": 3},
         {"warmth": 2}),
    ],
)  # fmt: skip
def test_context_and_configurable_say_the_same_where_one_of_them_is_given(
    client: Client, asked: Any, context: Any, configurable: Any
) -> None:
    told = client.runs.wait(None, "tuned", input={}, **asked)

    assert told == {"context": context, "configurable": configurable}


def test_an_assistants_config_and_context_are_under_those_of_the_run(client: Client) -> None:
    assistant = client.assistants.create(
        "telling", config={"tags": ["one"], "recursion_limit": 9, "configurable": {"a": 1, "b": 1}}, context={"c": 1}
    )["assistant_id"]

    told = client.runs.wait(
        None, assistant, input={"x": 1}, config={"tags": ["two"], "configurable": {"b": 2}}, metadata={"m": 1}
    )

    assert (told["tags"], told["limit"]) == (["one", "two"], 9)
    assert {key: told["configurable"][key] for key in ("a", "b", "graph_id", "assistant_id")} == {
        "a": 1, "b": 2, "graph_id": "telling", "assistant_id": assistant,
    }  # fmt: skip
    assert {"thread_id", "run_id", "langgraph_request_id", "langgraph_auth_user_id"} <= set(told["configurable"])
    assert told["user"] == told["configurable"]["langgraph_auth_user_id"]
    assert told["metadata"]["m"] == 1


def test_a_context_is_not_in_the_metadata_of_checkpoints(client: Client) -> None:
    thread = thread_of(client)
    asked = {"context": {"model": "big"}, "config": {"configurable": {"shown": "yes"}}}
    client.runs.wait(thread, "tuned", input={}, **asked)

    (newest, *_) = client.threads.get_history(thread)
    assert newest["metadata"]["shown"] == "yes"
    assert "model" not in newest["metadata"]
