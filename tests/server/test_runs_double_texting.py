"""What comes of a run on a thread that has one: each strategy, and each way to stop a run, as the platform has them."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.server.live import Blocking, Gate


def begun(client: Blocking, gate: Gate) -> tuple[str, str]:
    """A thread, and a run on it that is held in its second node."""
    thread = client.threads.create()["thread_id"]
    run = client.runs.create(thread, "pair", input={"log": [], "gate": gate.name})
    gate.wait()
    return thread, run["run_id"]


def second(client: Blocking, thread: str, strategy: str | None) -> dict[str, Any]:
    return client.runs.create(thread, "pair", input={"log": [], "gate": None}, multitask_strategy=strategy)


def logs(client: Blocking, thread: str) -> list[list[str]]:
    """What each checkpoint of a thread has, newest first."""
    return [state["values"].get("log", []) for state in client.threads.get_history(thread, limit=100)]


def runs_of(client: Blocking, thread: str) -> list[str]:
    """The run that each checkpoint comes from, newest first."""
    return [state["metadata"]["run_id"] for state in client.threads.get_history(thread, limit=100)]


@pytest.mark.parametrize("strategy", ["enqueue", None])
def test_an_enqueued_run_goes_on_with_what_the_first_gave(anywhere: Blocking, gate: Gate, strategy: str | None) -> None:
    thread, first = begun(anywhere, gate)
    run = second(anywhere, thread, strategy)

    assert anywhere.runs.get(thread, run["run_id"])["status"] == "pending"
    gate.open()
    assert anywhere.runs.join(thread, run["run_id"])["log"] == ["a", "b", "a", "b"]
    assert anywhere.runs.get(thread, first)["status"] == "success"
    assert runs_of(anywhere, thread) == [run["run_id"]] * 4 + [first] * 4


def test_a_rejected_run_changes_nothing(anywhere: Blocking, gate: Gate) -> None:
    thread, first = begun(anywhere, gate)

    with pytest.raises(ConflictError, match="is already running a task"):
        second(anywhere, thread, "reject")

    assert anywhere.runs.get(thread, first)["status"] == "running"
    assert anywhere.threads.get(thread)["status"] == "busy"
    gate.open()
    assert anywhere.runs.join(thread, first)["log"] == ["a", "b"]
    assert [run["run_id"] for run in anywhere.runs.list(thread)] == [first]
    assert anywhere.runs.wait(thread, "pair", input={"log": []}, multitask_strategy="reject")["log"] == list("abab")


def test_an_interrupting_run_begins_where_the_first_was(anywhere: Blocking, gate: Gate) -> None:
    thread, first = begun(anywhere, gate)
    run = second(anywhere, thread, "interrupt")

    assert anywhere.runs.join(thread, run["run_id"])["log"] == ["a", "a", "b"]
    assert anywhere.runs.get(thread, first)["status"] == "interrupted"
    assert runs_of(anywhere, thread) == [run["run_id"]] * 4 + [first] * 3
    assert logs(anywhere, thread) == [["a", "a", "b"], ["a", "a"], ["a"], ["a"], ["a"], [], []]
    assert anywhere.threads.get(thread)["status"] == "idle"


def test_a_run_that_rolls_back_begins_as_if_the_first_had_never_been(anywhere: Blocking, gate: Gate) -> None:
    thread, first = begun(anywhere, gate)
    run = second(anywhere, thread, "rollback")

    assert anywhere.runs.join(thread, run["run_id"])["log"] == ["a", "b"]
    assert logs(anywhere, thread) == [["a", "b"], ["a"], [], []]
    assert set(runs_of(anywhere, thread)) == {run["run_id"]}
    with pytest.raises(NotFoundError):
        anywhere.runs.get(thread, first)


def test_of_runs_that_wait_none_outlives_one_that_interrupts(blocking: Blocking, gate: Gate) -> None:
    thread, first = begun(blocking, gate)
    waiting = second(blocking, thread, "enqueue")["run_id"]
    run = second(blocking, thread, "interrupt")["run_id"]

    blocking.runs.join(thread, run)

    assert [each["status"] for each in blocking.runs.list(thread)] == ["success", "interrupted", "interrupted"]
    assert [each["run_id"] for each in blocking.runs.list(thread)] == [run, waiting, first]


def test_a_run_that_is_interrupted_keeps_what_it_saved(anywhere: Blocking, gate: Gate) -> None:
    thread, run = begun(anywhere, gate)

    left = anywhere.runs.cancel(thread, run, wait=True, action="interrupt")

    assert left == {"log": ["a"], "gate": gate.name}
    assert anywhere.runs.get(thread, run)["status"] == "interrupted"
    assert (anywhere.threads.get(thread)["status"], len(logs(anywhere, thread))) == ("interrupted", 3)
    gate.open()
    assert anywhere.runs.wait(thread, "pair", input=None)["log"] == ["a", "b"]


def test_a_run_that_is_rolled_back_leaves_nothing(anywhere: Blocking, gate: Gate) -> None:
    thread, run = begun(anywhere, gate)

    anywhere.runs.cancel(thread, run, wait=True, action="rollback")

    with pytest.raises(NotFoundError):
        anywhere.runs.get(thread, run)
    assert (anywhere.threads.get(thread)["status"], logs(anywhere, thread)) == ("idle", [])
    assert anywhere.runs.list(thread) == []


def test_a_rollback_leaves_what_was_before_the_run(blocking: Blocking, gate: Gate) -> None:
    thread = blocking.threads.create()["thread_id"]
    blocking.runs.wait(thread, "pair", input={"log": ["before"]})
    run = blocking.runs.create(thread, "pair", input={"log": ["after"], "gate": gate.name})["run_id"]
    gate.wait()

    blocking.runs.cancel(thread, run, wait=True, action="rollback")

    assert blocking.threads.get_state(thread)["values"] == {"log": ["before", "a", "b"]}
    assert len(logs(blocking, thread)) == 4


def test_stopping_without_waiting_is_accepted_at_once(blocking: Blocking, gate: Gate) -> None:
    thread, run = begun(blocking, gate)

    answer = blocking.http.post(f"/threads/{thread}/runs/{run}/cancel", params={"action": "rollback"})

    assert (answer.status_code, answer.content) == (202, b"")
    assert blocking.http.get(f"/threads/{thread}/runs/{run}/join").status_code in (200, 404)  # it may be gone
    assert blocking.runs.list(thread) == []
    assert blocking.threads.get(thread)["status"] == "idle"


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_run_that_waits_is_only_taken_out(anywhere: Blocking, action: str) -> None:
    thread = anywhere.threads.create()["thread_id"]
    run = anywhere.runs.create(thread, "pair", input={"log": []}, after_seconds=3600)["run_id"]

    anywhere.runs.cancel(thread, run, action=action)

    assert anywhere.runs.get(thread, run)["status"] == "interrupted"
    assert anywhere.threads.get(thread)["status"] == "idle"
    assert logs(anywhere, thread) == []


def test_a_run_that_waits_behind_another_is_taken_out_and_the_other_goes_on(blocking: Blocking, gate: Gate) -> None:
    thread, first = begun(blocking, gate)
    run = second(blocking, thread, "enqueue")["run_id"]

    blocking.runs.cancel(thread, run)

    assert blocking.threads.get(thread)["status"] == "busy"
    gate.open()
    assert blocking.runs.join(thread, first)["log"] == ["a", "b"]
    assert blocking.runs.get(thread, run)["status"] == "interrupted"


def test_a_thread_is_deleted_with_its_run(anywhere: Blocking, gate: Gate) -> None:
    thread, run = begun(anywhere, gate)

    anywhere.threads.delete(thread)

    with pytest.raises(NotFoundError):
        anywhere.threads.get(thread)
    with pytest.raises(NotFoundError):
        anywhere.runs.get(thread, run)
    anywhere.threads.create(thread_id=thread)
    assert anywhere.threads.get_state(thread)["values"] == {}
