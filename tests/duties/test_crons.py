"""Crons through the clients: made, found, changed, deleted; and what they do when they are due."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from langgraph_sdk.errors import NotFoundError

from clew.checkpoint.sqlite import SqliteSaver
from clew.store.memory import InMemoryStore
from tests.server.kit import AGENT, InProcess, make_app

YEARLY = "0 0 1 1 *"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgres"])
def api(request: pytest.FixtureRequest) -> Iterator[InProcess]:
    """A service for an owner whom no other test knows."""
    saver: Any = SqliteSaver(":memory:")
    if request.param == "postgres":
        saver = request.getfixturevalue("postgres_saver").with_tenant(f"crons-{next(_numbers)}")
    with asyncio.Runner() as runner, InProcess(make_app(saver, InMemoryStore()), runner, "ada") as service:
        yield service


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[tuple[InProcess, Path]]:
    """A service on a file, and the file."""
    path = tmp_path / "crons.db"
    with (
        SqliteSaver(path, synchronous="NORMAL") as saver,
        asyncio.Runner() as runner,
        InProcess(make_app(saver, InMemoryStore()), runner, "ada") as service,
    ):
        yield service, path


def test_a_cron_of_its_own_threads(api: InProcess) -> None:
    cron = api.crons.create(
        "agent",
        schedule="30 9 * * MON-FRI",
        timezone=ZoneInfo("Europe/Berlin"),
        input=HELLO,
        metadata={"name": "daily"},
        config={"configurable": {"tone": "kind"}},
        context={"model": "small"},
        webhook="https://example.com/hook",
        interrupt_before=["talk"],
        multitask_strategy="enqueue",
        end_time=datetime(2096, 1, 1, tzinfo=UTC),
        stream_mode=["values"],
        durability="sync",
    )
    assert cron["assistant_id"] == AGENT
    assert (cron["thread_id"], cron["on_run_completed"], cron["enabled"]) == (None, "delete", True)
    assert (cron["schedule"], cron["timezone"]) == ("30 9 * * MON-FRI", "Europe/Berlin")
    assert cron["end_time"] == "2096-01-01T00:00:00+00:00"
    assert (cron["metadata"], cron["user_id"], cron["error"]) == ({"name": "daily"}, "ada", None)
    due = datetime.fromisoformat(cron["next_run_date"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (due.hour, due.minute, due.weekday() < 5) == (9, 30, True)
    assert due > datetime.now(UTC)
    assert cron["payload"] == {
        "assistant_id": AGENT,
        "schedule": "30 9 * * MON-FRI",
        "input": HELLO,
        "config": {"configurable": {"tone": "kind"}},
        "context": {"model": "small"},
        "webhook": "https://example.com/hook",
        "interrupt_before": ["talk"],
        "multitask_strategy": "enqueue",
        "stream_mode": ["values"],
        "durability": "sync",
    }
    assert api.request("GET", f"/runs/crons/{cron['cron_id']}").json() == cron


def test_found_counted_changed_and_deleted(api: InProcess) -> None:
    thread = api.threads.create()["thread_id"]
    first = api.crons.create("agent", schedule=YEARLY, metadata={"n": 1, "of": "x"}, on_run_completed="keep")
    second = api.crons.create_for_thread(thread, "made", schedule="@daily", metadata={"n": 2}, enabled=False)
    assert (first["on_run_completed"], second["on_run_completed"]) == ("keep", None)
    assert (second["thread_id"], second["enabled"], second["next_run_date"]) == (thread, False, None)

    assert api.crons.search() == [second, first]
    assert api.crons.search(assistant_id="agent") == api.crons.search(enabled=True) == [first]
    assert api.crons.search(thread_id=thread) == api.crons.search(metadata={"n": 2}) == [second]
    assert api.crons.search(sort_by="next_run_date", sort_order="asc") == [second, first]
    assert api.crons.search(limit=1, offset=1, select=["cron_id", "metadata"]) == [
        {"cron_id": first["cron_id"], "metadata": {"n": 1, "of": "x"}}
    ]
    assert (api.crons.count(), api.crons.count(thread_id=thread), api.crons.count(assistant_id="agent")) == (2, 1, 1)
    page = api.request("POST", "/runs/crons/search", json={"limit": 1})
    assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("2", "1")

    changed = api.crons.update(
        first["cron_id"], schedule="@hourly", input={"mood": "new"}, metadata={"n": 3}, timezone="Asia/Tokyo",
        end_time=datetime(2097, 1, 1, tzinfo=UTC), webhook="https://example.com/",
    )  # fmt: skip
    assert (changed["schedule"], changed["timezone"], changed["metadata"]) == (
        "@hourly",
        "Asia/Tokyo",
        {"n": 3, "of": "x"},
    )
    assert (changed["payload"]["input"], changed["payload"]["webhook"]) == ({"mood": "new"}, "https://example.com/")
    assert changed["end_time"].startswith("2097")
    assert changed["next_run_date"] < first["next_run_date"]
    assert api.crons.update(first["cron_id"], end_time=None)["end_time"] is None
    assert api.crons.update(first["cron_id"], enabled=False)["next_run_date"] is None
    assert api.crons.update(second["cron_id"], enabled=True)["next_run_date"] is not None

    api.crons.delete(first["cron_id"])
    with pytest.raises(NotFoundError):
        api.crons.delete(first["cron_id"])
    api.threads.delete(thread)
    assert api.crons.search() == [], "a thread takes its crons along"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"schedule": "* * *"}, "is not a cron schedule"),
        ({"schedule": "0 0 30 2 *"}, "is not a cron schedule"),
        ({"timezone": "Mars/Olympus"}, "is not a time zone"),
        ({"webhook": "http://169.254.169.254/"}, "is not a public one"),
        ({"webhook": "/hook"}, "a relative URL"),
        ({"on_run_completed": "burn"}, "on_run_completed"),
        ({"on_completion": "keep"}, "on_completion"),
        ({"if_not_exists": "create"}, "if_not_exists"),
        ({"on_disconnect": "cancel"}, "on_disconnect"),
        ({"multitask_strategy": "argue"}, "multitask_strategy"),
        ({"end_time": "soon"}, "end_time"),
        ({"durability": "eternal"}, "durability"),
        ({"assistant_id": None}, "assistant_id"),
    ],
)
def test_what_cannot_be_honoured_is_refused(lasting: tuple[InProcess, Path], wrong: dict[str, Any], why: str) -> None:
    api, _ = lasting
    answer = api.request("POST", "/runs/crons", json={"assistant_id": "agent", "schedule": YEARLY, **wrong})
    assert (answer.status_code, why in answer.json()["detail"]) == (422, True), answer.text
    if set(wrong) & {"schedule", "timezone", "webhook", "on_run_completed", "end_time", "durability"}:
        cron = api.crons.create("agent", schedule=YEARLY)["cron_id"]
        assert api.request("PATCH", f"/runs/crons/{cron}", json=wrong).status_code == 422


def test_runs_with_a_webhook_that_is_refused_are_not_made(lasting: tuple[InProcess, Path]) -> None:
    api, _ = lasting
    body = {"assistant_id": "agent", "input": HELLO, "webhook": "http://localhost:9/"}
    assert api.request("POST", "/runs", json=body).status_code == 422
    assert api.request("POST", "/runs/wait", json=body).status_code == 422


def test_what_does_not_exist_is_not_found(lasting: tuple[InProcess, Path]) -> None:
    api, _ = lasting
    body = {"assistant_id": "agent", "schedule": YEARLY}
    assert api.request("POST", "/threads/none/runs/crons", json=body).status_code == 404
    assert api.request("POST", "/runs/crons", json={**body, "assistant_id": "nobody"}).status_code == 404
    assert api.request("GET", "/runs/crons/x%00y").status_code in (404, 422)


def due(path: Path, cron_id: str) -> None:
    """Have a cron be due now."""
    with sqlite3.connect(path) as connection:
        connection.execute("update clew_cron set next_at = 1000000 where cron_id = ?", (cron_id,))
    connection.close()


def until(condition: Any) -> Any:
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not happen"
    return found


def test_when_it_is_due_a_cron_runs_its_assistant_on_its_thread(lasting: tuple[InProcess, Path]) -> None:
    api, path = lasting
    thread = api.threads.create()["thread_id"]
    cron = api.crons.create_for_thread(thread, "agent", schedule=YEARLY, input=HELLO, metadata={"name": "daily"})
    due(path, cron["cron_id"])
    api.app.state.clew.duties.wake("crons")

    (run,) = until(lambda: [run for run in api.runs.list(thread) if run["status"] not in ("pending", "running")])
    assert run["status"] == "success"
    assert run["metadata"] == {
        "name": "daily", "cron_id": cron["cron_id"], "graph_id": "agent", "assistant_id": run["assistant_id"],
    }  # fmt: skip
    messages = api.threads.get_state(thread)["values"]["messages"]
    assert [message["content"] for message in messages] == ["hello", "you said hello"]
    (after,) = api.crons.search()
    assert datetime.fromisoformat(after["next_run_date"]) > datetime.now(UTC) - timedelta(seconds=1)


def test_threads_of_their_own_go_or_stay(lasting: tuple[InProcess, Path]) -> None:
    api, path = lasting
    for kept in ("delete", "keep"):
        cron = api.crons.create(
            "agent", schedule=YEARLY, input=HELLO, metadata={"kind": kept}, on_run_completed=kept, durability="sync"
        )
        due(path, cron["cron_id"])
    api.app.state.clew.duties.wake("crons")

    def ended() -> bool:
        count = api.threads.count()  # the service's loop turns while it answers
        with sqlite3.connect(path) as connection:
            (ended,) = connection.execute("select count(*) from clew_run where status = 'success'").fetchone()
        connection.close()
        return (ended, count) == (2, 1)

    until(ended)
    (thread,) = api.threads.search()
    assert thread["metadata"]["kind"] == "keep"
    assert thread["values"]["messages"][1]["content"] == "you said hello"


def test_a_cron_whose_run_cannot_be_made_says_why_and_goes_on(lasting: tuple[InProcess, Path]) -> None:
    api, path = lasting
    assistant = api.assistants.create("agent")["assistant_id"]
    lost = api.crons.create(assistant, schedule=YEARLY, input=HELLO)
    api.assistants.delete(assistant)
    due(path, lost["cron_id"])
    api.app.state.clew.duties.wake("crons")

    (cron,) = until(lambda: [cron for cron in api.crons.search() if cron["error"]])
    assert cron["error"] == f"there is no assistant '{assistant}'"
    assert datetime.fromisoformat(cron["next_run_date"]) > datetime.now(UTC)


def test_crons_made_through_the_service_are_due_soon_after(lasting: tuple[InProcess, Path]) -> None:
    api, path = lasting
    api.crons.create("agent", schedule="* * * * *", input=HELLO, on_run_completed="keep")
    with sqlite3.connect(path) as connection:
        (at,) = connection.execute("select next_at from clew_cron").fetchone()
    connection.close()
    assert 0 < at / 1_000_000 - time.time() <= 60
