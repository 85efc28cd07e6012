"""What a whole thread shows: all its runs, to those who come back, too, on any replica."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import pytest
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from tests.server.live import SECONDS, Blocking, Client, Gate, Live

Event = tuple[str | None, str, Any]


def events(response: httpx.Response) -> Iterator[Event]:
    """The events of an answer: id, name and data."""
    said: dict[str, str] = {}
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            key, _, value = line.partition(": ")
            said[key] = value
        elif said:
            yield said.get("id"), said["event"], json.loads(said["data"])
            said = {}


def until(found: Iterator[Event], count: int) -> list[Event]:
    """Events until that many runs have ended."""
    seen: list[Event] = []
    while sum(_is_end(event) for event in seen) < count:
        seen.append(next(found))
    return seen


def _is_end(event: Event) -> bool:
    return event[1] == "metadata" and event[2].get("status") == "run_done"


def read(client: Blocking, thread: str, after: str | None, count: int = 1, **params: Any) -> list[Event]:
    headers = {} if after is None else {"last-event-id": after}
    with client.http.stream("GET", f"/threads/{thread}/stream", params=params, headers=headers) as response:
        assert response.status_code == 200
        return until(events(response), count)


def test_all_runs_of_a_thread_are_one_stream(client: Client) -> None:
    thread = client.threads.create()["thread_id"]
    first = client.runs.create(thread, "pair", input={"log": []}, stream_mode="updates")
    client.runs.join(thread, first["run_id"])
    second = client.runs.create(thread, "failing", input={"log": []}, stream_mode=["values", "updates"])

    parts = list(islice(client.threads.join_stream(thread, last_event_id="-"), 10))

    assert [(part.event, part.data) for part in parts] == [
        ("metadata", {"run_id": first["run_id"], "attempt": 1}),
        ("updates", {"first": {"log": ["a"]}}),
        ("updates", {"second": {"log": ["b"]}}),
        ("metadata", {"status": "run_done", "run_id": first["run_id"]}),
        ("metadata", {"run_id": second["run_id"], "attempt": 1}),
        ("values", {"log": ["a", "b"]}),
        ("updates", {"work": {"log": ["work"]}}),
        ("values", {"log": ["a", "b", "work"]}),
        ("error", {"error": "ValueError", "message": "boom!"}),
        ("metadata", {"status": "run_done", "run_id": second["run_id"]}),
    ]


def test_who_comes_back_goes_on_behind_any_event(anywhere: Blocking) -> None:
    thread = anywhere.threads.create()["thread_id"]
    for _ in range(3):
        anywhere.runs.wait(thread, "pair", input={"log": []})
        list(anywhere.runs.stream(thread, "pair", input={"log": []}, stream_mode=["updates", "values"]))

    whole = read(anywhere, thread, "-", count=6)

    ids = [int(id) for id, *_ in whole if id is not None]
    assert len(ids) == len(whole)
    assert ids == sorted(set(ids))
    for place, (id, *_) in enumerate(whole[:-1]):
        left = whole[place + 1 :]
        assert read(anywhere, thread, id, count=sum(map(_is_end, left))) == left


def test_without_an_id_it_begins_now_and_shows_the_next_run(anywhere: Blocking, gate: Gate) -> None:
    thread = anywhere.threads.create()["thread_id"]
    anywhere.runs.wait(thread, "pair", input={"log": []})
    with anywhere.http.stream("GET", f"/threads/{thread}/stream") as response:
        lines = response.iter_raw()
        assert next(lines) == b": open\n\n"
        run = anywhere.runs.create(thread, "pair", input={"log": [], "gate": gate.name}, stream_mode="updates")
        begun = b""
        while b'"a"' not in begun:
            begun += next(lines)
        gate.wait()
        with anywhere.http.stream("GET", f"/threads/{thread}/stream") as joined:
            later = joined.iter_raw()
            assert next(later) == b": open\n\n"
            gate.open()
            text = b""
            while b"run_done" not in text:
                text += next(later)
        assert b'"a"' not in text
        assert b'{"second":{"log":["b"]}}' in text
        text = begun
        while b"run_done" not in text:
            text += next(lines)
    assert text.startswith(b'event: metadata\ndata: {"run_id":"' + run["run_id"].encode())
    assert text.index(b'{"first":{"log":["a"]}}') < text.index(b'{"second":{"log":["b"]}}') < text.index(b"run_done")


def test_lifecycles_and_updates_of_the_state_are_modes(client: Client) -> None:
    thread = client.threads.create()["thread_id"]
    client.runs.wait(thread, "pair", input={"log": []})
    modes = ["updates", "values", "tasks"]
    list(client.runs.stream(thread, "pair", input={"log": []}, stream_mode=modes))

    def names(count: int, mode: Any) -> list[str]:
        found = client.threads.join_stream(thread, last_event_id="-", stream_mode=mode)
        return [part.event for part in islice(found, count)]

    assert names(4, "lifecycle") == ["metadata"] * 4
    assert names(9, "state_update") == [
        "metadata", "metadata", "metadata", "values", "updates", "values", "updates", "values", "metadata",
    ]  # fmt: skip
    assert names(5, ["lifecycle", "run_modes"]) == ["metadata", "metadata", "metadata", "values", "tasks"]
    with pytest.raises(UnprocessableEntityError, match="no stream mode 'all'"):
        names(1, "all")
    with pytest.raises(UnprocessableEntityError, match="is not the id of an event"):
        next(iter(client.threads.join_stream(thread, last_event_id="yesterday")))
    with pytest.raises(NotFoundError):
        next(iter(client.threads.join_stream(str(uuid.uuid4()))))


def test_runs_that_were_taken_out_are_over(blocking: Blocking, gate: Gate) -> None:
    thread = blocking.threads.create()["thread_id"]
    held = blocking.runs.create(thread, "pair", input={"log": [], "gate": gate.name})
    gate.wait()
    waits = blocking.runs.create(thread, "pair", input={"log": []})
    blocking.runs.cancel(thread, waits["run_id"])
    blocking.runs.cancel(thread, held["run_id"], wait=True)

    found = read(blocking, thread, "-", count=2, stream_mode="lifecycle")

    assert [data for *_, data in found if data.get("status")] == [
        {"status": "run_done", "run_id": waits["run_id"]},
        {"status": "run_done", "run_id": held["run_id"]},
    ]


def test_the_stream_goes_on_where_another_replica_left_it(database: str, gate: Gate) -> None:
    with (
        PostgresSaver.from_conn_string(database) as one,
        PostgresSaver.from_conn_string(database) as two,
        Live(one) as here,
        Live(two) as there,
    ):
        local, remote = Blocking(here.url, "ada"), Blocking(there.url, "ada")
        thread = local.threads.create()["thread_id"]
        local.runs.wait(thread, "pair", input={"log": []})
        with remote.http.stream("GET", f"/threads/{thread}/stream") as response:
            found = events(response)
            local.runs.create(thread, "pair", input={"log": [], "gate": gate.name}, stream_mode="updates")
            gate.wait()
            seen = list(islice(found, 2))  # while another replica is executing it
        gate.open()
        rest = read(local, thread, seen[-1][0])
        whole = read(remote, thread, "-", count=2)
        local.close()
        remote.close()

    assert [data for *_, data in seen[1:] + rest[:-1]] == [{"first": {"log": ["a"]}}, {"second": {"log": ["b"]}}]
    assert whole[2:] == seen + rest


def test_it_ends_when_the_service_goes_away() -> None:
    with SqliteSaver.from_conn_string(":memory:") as saver, Live(saver) as service:
        client = Blocking(service.url, "ada")
        thread = client.threads.create()["thread_id"]
        with client.http.stream("GET", f"/threads/{thread}/stream") as response:
            parts = response.iter_raw()
            assert next(parts) == b": open\n\n"
            leaving = asyncio.run_coroutine_threadsafe(service.app.state.clew.drain(0), service.loop)
            assert list(parts) == []
        leaving.result(SECONDS)
        client.close()


def test_a_thread_that_becomes_anothers_is_shown_no_more(live: Live, blocking: Blocking) -> None:
    other = Blocking(live.url, "eve")
    thread = other.threads.create()["thread_id"]
    with other.http.stream("GET", f"/threads/{thread}/stream") as response:
        parts = response.iter_raw()
        assert next(parts) == b": open\n\n"
        other.threads.delete(thread)
        blocking.threads.create(thread_id=thread)
        blocking.runs.wait(thread, "pair", input={"log": ["private"]})
        assert list(parts) == []
    other.close()
