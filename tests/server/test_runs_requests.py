"""What a request for a run may say, and what comes of each word of it."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from tests.server.live import Blocking, Client, Gate


def thread_of(client: Client) -> str:
    return client.threads.create()["thread_id"]


def history(client: Client, thread: str) -> list[Any]:
    return client.threads.get_history(thread, limit=100)


def checkpoint_of(client: Client, thread: str, *, step: int) -> dict[str, Any]:
    return next(state["checkpoint"] for state in history(client, thread) if state["metadata"]["step"] == step)


# What a run begins with


@pytest.mark.parametrize("given", [{}, {"log": []}])
def test_an_input_that_is_empty_is_one(blocking: Blocking, given: Any) -> None:
    thread = thread_of(blocking)

    assert blocking.runs.wait(thread, "pair", input=given)["log"] == ["a", "b"]
    assert blocking.runs.wait(thread, "pair", input=given)["log"] == ["a", "b", "a", "b"]


def test_no_input_goes_on(anywhere: Blocking) -> None:
    thread = thread_of(anywhere)
    anywhere.runs.wait(thread, "pair", input={"log": []}, interrupt_before=["second"])

    found = anywhere.threads.get(thread)
    assert (found["status"], found["interrupts"], found["values"]) == ("interrupted", {}, {"log": ["a"]})
    assert anywhere.runs.list(thread)[0]["status"] == "success"
    assert anywhere.runs.wait(thread, "pair", input=None) == {"log": ["a", "b"]}
    assert anywhere.threads.get(thread)["status"] == "idle"


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ({"interrupt_before": "*"}, [[], ["a"]]),
        ({"interrupt_after": "*"}, [["a"], ["a", "b"]]),
        ({"interrupt_after": ["first"]}, [["a"], ["a", "b"]]),
        ({"interrupt_before": ["second"], "interrupt_after": ["second"]}, [["a"], ["a", "b"]]),
    ],
)
def test_breakpoints(client: Client, words: dict[str, Any], seen: list[list[str]]) -> None:
    thread = thread_of(client)

    first = client.runs.wait(thread, "pair", input={"log": []}, **words)
    then = client.runs.wait(thread, "pair", input=None, **words)

    assert [first["log"], then["log"]] == seen


def test_a_run_begins_again_from_a_checkpoint(anywhere: Blocking) -> None:
    thread = thread_of(anywhere)
    anywhere.runs.wait(thread, "pair", input={"log": ["in"]})
    checkpoint = checkpoint_of(anywhere, thread, step=1)

    replayed = anywhere.runs.wait(thread, "pair", checkpoint_id=checkpoint["checkpoint_id"])
    forked = anywhere.runs.wait(thread, "pair", input={"log": ["fork"]}, checkpoint=checkpoint)

    assert replayed == {"log": ["in", "a", "b"]}
    assert forked == {"log": ["in", "a", "fork", "a", "b"]}
    assert anywhere.threads.get_state(thread)["values"] == forked


def test_a_run_goes_on_from_a_state_that_was_written(client: Client) -> None:
    thread = thread_of(client)
    client.runs.wait(thread, "pair", input={"log": ["in"]})
    checkpoint = checkpoint_of(client, thread, step=1)

    client.threads.update_state(thread, {"log": ["written"]}, as_node="first", checkpoint=checkpoint)

    assert client.threads.get(thread)["status"] == "interrupted"
    assert client.runs.wait(thread, "pair", input=None)["log"] == ["in", "a", "written", "b"]


def test_a_checkpoint_is_the_threads_own(blocking: Blocking) -> None:
    thread, other = thread_of(blocking), thread_of(blocking)
    blocking.runs.wait(other, "pair", input={"log": ["other"]})
    checkpoint = checkpoint_of(blocking, other, step=1)

    refused = blocking.http.post(f"/threads/{thread}/runs", json={"assistant_id": "pair", "checkpoint": checkpoint})
    failed = blocking.runs.wait(thread, "pair", checkpoint_id=checkpoint["checkpoint_id"], raise_error=False)

    assert refused.status_code == 422
    assert set(failed) == {"__error__"}
    assert history(blocking, thread) == []


# Commands


def test_a_command_answers_a_question(client: Client) -> None:
    thread = thread_of(client)
    (asked,) = client.runs.wait(thread, "asking", input={"log": []})["__interrupt__"]

    again = client.runs.wait(thread, "asking", command={"resume": "again"})
    (asked_again,) = again["__interrupt__"]
    told = client.runs.wait(thread, "asking", command={"resume": {asked_again["id"]: 5}})

    assert asked["value"] == asked_again["value"] == {"question": "how many?"}
    assert again["log"] == ["again"]
    assert told == {"log": ["again", 5, "told"]}
    assert (client.threads.get(thread)["status"], client.threads.get(thread)["interrupts"]) == ("idle", {})


def test_a_command_goes_to_nodes_and_changes_the_state(client: Client) -> None:
    thread = thread_of(client)
    client.runs.wait(thread, "pair", input={"log": []})

    went = client.runs.wait(thread, "pair", command={"goto": "second"})
    sent = client.runs.wait(thread, "pair", command={"goto": {"node": "second", "input": {"log": []}}})
    both = client.runs.wait(thread, "pair", command={"goto": ["second"], "update": {"log": ["new"]}})
    pairs = client.runs.wait(thread, "pair", command={"goto": "second", "update": [["log", ["x"]], ["log", ["y"]]]})

    assert went["log"] == [*"abb"]
    assert sent["log"] == [*"abbb"]
    assert both["log"] == [*"abbb", "new", "b"]
    assert pairs["log"] == [*"abbb", "new", "b", "x", "y", "b"]


def test_a_command_goes_before_an_input(client: Client) -> None:
    thread = thread_of(client)
    client.runs.wait(thread, "pair", input={"log": []})

    assert client.runs.wait(thread, "pair", input={"log": ["in"]}, command={"goto": "second"})["log"] == [*"abb"]


def test_an_answer_to_no_question_is_refused_if_that_is_asked_for(anywhere: Blocking) -> None:
    thread = thread_of(anywhere)
    (asked,) = anywhere.runs.wait(thread, "asking", input={"log": []})["__interrupt__"]
    before = anywhere.threads.get_state(thread)

    refused = anywhere.runs.wait(
        thread, "asking", command={"resume": {"0" * 32: 1}}, strict_resume=True, raise_error=False
    )

    assert refused["__error__"]["error"] == "UnknownInterruptError"
    assert anywhere.runs.list(thread)[0]["status"] == "error"
    assert anywhere.threads.get_state(thread) == before
    assert anywhere.threads.get(thread)["status"] == "interrupted"
    assert anywhere.runs.wait(thread, "asking", command={"resume": {asked["id"]: 2}}, strict_resume=True) == {
        "log": [2, "told"]
    }
    assert anywhere.http.get("/info").json()["flags"]["strict_resume"] is True


# How it is kept


@pytest.mark.parametrize(("durability", "kept"), [("sync", 4), ("async", 4), ("exit", 2), (None, 4)])
def test_checkpoints_are_kept_as_asked(anywhere: Blocking, durability: str | None, kept: int) -> None:
    """ "exit" keeps the input, which is safe before anything runs, and the end."""
    thread = thread_of(anywhere)

    anywhere.runs.wait(thread, "pair", input={"log": []}, durability=durability)

    assert len(history(anywhere, thread)) == kept


def test_the_old_word_for_durability_is_understood(blocking: Blocking) -> None:
    thread = thread_of(blocking)

    with pytest.warns(DeprecationWarning, match="checkpoint_during"):
        blocking.runs.wait(thread, "pair", input={"log": []}, checkpoint_during=False)

    assert len(history(blocking, thread)) == 2


def test_a_run_waits_as_long_as_it_was_told(anywhere: Blocking) -> None:
    thread, begun = thread_of(anywhere), time.monotonic()

    run = anywhere.runs.create(thread, "pair", input={"log": []}, after_seconds=0.3)
    at_first = anywhere.runs.get(thread, run["run_id"])["status"]
    joined = anywhere.runs.join(thread, run["run_id"])

    assert (at_first, joined) == ("pending", {"log": ["a", "b"]})
    assert time.monotonic() - begun >= 0.3


def test_the_same_key_makes_one_run(anywhere: Blocking) -> None:
    thread, headers = thread_of(anywhere), {"idempotency-key": f"once {uuid.uuid4()}"}

    made = [anywhere.runs.create(thread, "pair", input={"log": []}, headers=headers)["run_id"] for _ in range(3)]
    waited = anywhere.runs.wait(thread, "pair", input={"log": []}, headers=headers)

    assert len(set(made)) == 1
    assert waited == {"log": ["a", "b"]}
    assert len(anywhere.runs.list(thread)) == 1


# What is refused, and what is let pass


def test_a_request_does_not_say_whose_database_it_is_nor_who_asks(blocking: Blocking) -> None:
    thread = thread_of(blocking)
    own = {"checkpoint_tenant": "other", "__pregel_resuming": True, "langgraph_auth_user_id": "eve", "run_id": "x"}
    assistant = blocking.assistants.create("telling", config={"configurable": own})["assistant_id"]

    for name in ("telling", assistant):
        told = blocking.runs.wait(thread, name, input={"x": 1}, config={"configurable": own | {"mine": 1}})
        said = told["configurable"]
        assert said["mine"] == 1
        assert "checkpoint_tenant" not in said
        assert said["langgraph_auth_user_id"] == blocking.http.headers["x-api-key"]
        assert said["run_id"] == blocking.runs.list(thread)[0]["run_id"]
    assert len(history(blocking, thread)) == 6


@pytest.mark.parametrize(
    "words",
    [
        {"durability": "never"},
        {"multitask_strategy": "queue"},
        {"if_not_exists": "maybe"},
        {"on_disconnect": "stop"},
        {"on_completion": "archive"},
        {"after_seconds": -1},
        {"after_seconds": "soon"},
        {"after_seconds": 1e300},
        {"stream_mode": 7},
        {"interrupt_before": "second"},
        {"interrupt_after": [1]},
        {"config": {"tags": "x"}},
        {"config": {"configurable": []}},
        {"config": {"recursion_limit": "many"}},
        {"config": {"recursion_limit": 0}},
        {"context": 5},
        {"metadata": []},
        {"command": {"jump": "second"}},
        {"command": {"goto": 5}},
        {"command": []},
        {"checkpoint": "x"},
        {"webhook": "x" * 3000},
        {"strict_resume": "perhaps"},
        {"assistant_id": None},
    ],
)
def test_what_cannot_be_honoured_is_refused(blocking: Blocking, words: dict[str, Any]) -> None:
    thread = thread_of(blocking)
    for path in (f"/threads/{thread}/runs", f"/threads/{thread}/runs/wait", "/runs/stream"):
        answer = blocking.http.post(path, json={"assistant_id": "pair", "input": {"log": []}, **words})

        assert answer.status_code == 422, answer.text
        assert isinstance(answer.json()["detail"], str)
    assert blocking.runs.list(thread) == []


def test_what_is_for_tracing_is_let_pass_and_what_nobody_knows_is_named(blocking: Blocking) -> None:
    thread = thread_of(blocking)

    traced = blocking.runs.wait(thread, "pair", input={"log": []}, langsmith_tracing={"project_name": "p"})
    streamed = list(blocking.runs.stream(thread, "pair", input={"log": []}, feedback_keys=["thumbs"]))
    answer = blocking.http.post("/runs/wait", json={"assistant_id": "pair", "input": {"log": []}, "wings": 2})

    assert traced == {"log": ["a", "b"]}
    assert streamed[-1].event == "end"
    assert answer.json() == traced
    assert answer.headers["x-clew-ignored"] == "'wings'"
    assert "x-clew-ignored" not in blocking.http.get(f"/threads/{thread}").headers


def test_a_run_of_higher_priority_goes_first_only_on_other_threads(blocking: Blocking, gate: Gate) -> None:
    thread = thread_of(blocking)
    blocking.runs.create(thread, "pair", input={"log": ["first"], "gate": gate.name})
    gate.wait()
    late = blocking.http.post(
        f"/threads/{thread}/runs", json={"assistant_id": "pair", "input": {"log": ["second"], "gate": None}}
    ).json()
    urgent = blocking.http.post(
        f"/threads/{thread}/runs", json={"assistant_id": "pair", "input": {"log": ["third"]}, "priority": 9}
    ).json()
    gate.open()

    assert blocking.runs.join(thread, urgent["run_id"])["log"] == [
        "first", "a", "b", "second", "a", "b", "third", "a", "b",
    ]  # fmt: skip
    assert blocking.runs.get(thread, late["run_id"])["status"] == "success"


def test_metadata_do_not_say_where_checkpoints_come_from(client: Client) -> None:
    thread = thread_of(client)

    said = {"parents": "none", "source": "fork", "step": 7, "mine": 1}
    client.runs.wait(thread, "pair", input={"log": []}, metadata=said)

    metadata = client.threads.get_state(thread)["metadata"]
    assert {name: metadata[name] for name in said} == {"parents": {}, "source": "loop", "step": 2, "mine": 1}
    assert client.threads.search(ids=[thread])[0]["values"] == {"log": ["a", "b"]}
