"""Values that JSON, a database or a connection has trouble with, as input, as metadata, and in streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.live import Blocking

SHOWN: dict[str, Any] = {
    "bytes": "_wA=",
    "no number": [None, None, -0.0],
    "lone surrogate": "\ud800",
    "nul": "a\0b",
    "huge": 10**40,
    "set and tuple": [[1], [1, 2]],
    "keys": {"1": "one", "\ud800": 1},
}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"in": value}
    return value


def post(client: Blocking, path: str, body: Any) -> Any:
    return client.http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


def waited(client: Blocking, value: Any) -> Any:
    answer = post(client, "/runs/wait", {"assistant_id": "pair", "input": {"log": [value]}})
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)


@pytest.mark.parametrize("name", SHOWN)
def test_what_nodes_give_is_shown_in_json(anywhere: Blocking, name: str) -> None:
    thread = anywhere.threads.create()["thread_id"]
    body = {"assistant_id": "odd", "input": {"log": [name]}, "stream_mode": ["updates", "custom", "debug"]}

    streamed = post(anywhere, f"/threads/{thread}/runs/stream", body).text

    data = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    assert data[-1]["status"] == "success"
    assert SHOWN[name] in data
    assert {"act": {"log": [SHOWN[name]]}} in data
    read = json.loads(anywhere.http.get(f"/threads/{thread}/state").text)
    assert read["values"]["log"] == [name, SHOWN[name]]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("error with nul", {"error": "ValueError", "message": "a�b"}),
        ("error with surrogate", {"error": "ValueError", "message": "a?b"}),
        ("silent error", {"error": "SilentError", "message": "its message cannot be made"}),
    ],
)
def test_a_run_whose_error_cannot_be_stored_ends(
    anywhere: Blocking, name: str, error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "clew.server")  # a report cannot hold what the log would say
    thread = anywhere.threads.create()["thread_id"]

    given = anywhere.runs.wait(thread, "odd", input={"log": [name]}, raise_error=False)

    assert given == {"__error__": error}
    (run,) = anywhere.runs.list(thread)
    assert (run["status"], run["error"], run["attempt"]) == ("error", error, 1)


def test_a_value_that_holds_itself_fails_its_run(anywhere: Blocking) -> None:
    given = anywhere.runs.wait(None, "odd", input={"log": ["loop"]}, raise_error=False)

    assert given["__error__"]["error"] == "SerializationError"


@pytest.mark.parametrize(
    "value",
    [
        "\ud800", "a\0b", "😀", 10**40, -(2**63) - 1, 2**64, 1e308, {"": {"": []}}, {"\ud800": 1}, nested(100),
        {"lc": 2, "type": "constructor", "id": ["os", "getenv"], "args": ["HOME"]},
    ],
)  # fmt: skip
def test_an_input_comes_out_as_it_went_in(blocking: Blocking, value: Any) -> None:
    assert waited(blocking, value) == {"log": [value, "a", "b"]}


def test_a_number_that_is_none_becomes_null(blocking: Blocking) -> None:
    assert waited(blocking, float("nan")) == waited(blocking, float("-inf")) == {"log": [None, "a", "b"]}


def test_a_large_input_comes_out_as_it_went_in(blocking: Blocking) -> None:
    large = "x" * 5_000_000

    assert waited(blocking, large)["log"][0] == large


@pytest.mark.parametrize("depth", [300, 900])
def test_an_input_that_nests_too_much_fails_its_run_and_nothing_else(blocking: Blocking, depth: int) -> None:
    answer = post(blocking, "/runs/wait", {"assistant_id": "pair", "input": {"log": [nested(depth)]}})

    assert (answer.status_code == 200 and set(answer.json()) == {"__error__"}) or answer.status_code == 400
    assert waited(blocking, 1) == {"log": [1, "a", "b"]}


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000, b'{"input":' + b"9" * 5000]
)
def test_a_body_that_is_none_is_refused(blocking: Blocking, body: bytes) -> None:
    answer = blocking.http.post("/runs/wait", content=body, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", "a\0b", {"\ud800": 1}, {"\0": 1}, nested(101), nested(400)],
)
def test_metadata_that_no_database_can_hold_are_refused(anywhere: Blocking, value: Any) -> None:
    thread = anywhere.threads.create()["thread_id"]
    metadata = {"key": value}
    for path, body in {
        f"/threads/{thread}/runs": {"assistant_id": "pair", "input": {"log": []}, "metadata": metadata},
        "/runs/wait": {"assistant_id": "pair", "input": {"log": []}, "metadata": metadata},
        "/threads": {"metadata": metadata},
        "/threads/search": {"metadata": metadata},
    }.items():
        answer = post(anywhere, path, body)
        assert answer.status_code == 422, path
    assert anywhere.runs.list(thread) == []
    assert anywhere.threads.get(thread)["status"] == "idle"


@pytest.mark.parametrize("value", ["😀", "\\u0000", nested(99), 10**40])
def test_metadata_that_databases_can_hold_are_kept(anywhere: Blocking, value: Any) -> None:
    thread = post(anywhere, "/threads", {"metadata": {"key": value}}).json()["thread_id"]

    run = post(anywhere, f"/threads/{thread}/runs", {"assistant_id": "pair", "input": {}, "metadata": {"key": value}})

    assert run.json()["metadata"]["key"] == value
    assert json.loads(anywhere.http.get(f"/threads/{thread}").text)["metadata"]["key"] == value
    anywhere.runs.join(thread, run.json()["run_id"])


@pytest.mark.parametrize("id", ["a/b", "/", "ü/ñ😀", "a b?c#d%25", "tab\there", "-", "x" * 200])
def test_ids_of_threads_are_what_they_are(anywhere: Blocking, id: str) -> None:
    id = f"{id} of {anywhere.http.headers['x-api-key']}"
    anywhere.threads.create(thread_id=id)

    given = anywhere.runs.wait(id, "pair", input={"log": []})
    parts = list(anywhere.runs.stream(id, "pair", input={"log": []}, stream_resumable=True))
    run = anywhere.runs.list(id)[0]
    again = list(anywhere.runs.join_stream(id, run["run_id"], last_event_id="-1"))

    assert given == {"log": ["a", "b"]}
    assert again[:-1] == parts[:-1]
    assert (run["thread_id"], run["status"]) == (id, "success")
    assert anywhere.runs.get(id, run["run_id"]) == run
