"""What streams of runs look like: on the wire, and to clients that lose their connection."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from langgraph_sdk.errors import UnprocessableEntityError

from clew.server import sse
from tests.proxy import Proxy
from tests.server.live import Blocking, Client, Gate, Live, messages

Part = tuple[str, Any]


def streamed(client: Any, graph: str, mode: Any, **given: Any) -> list[Part]:
    thread = client.threads.create()["thread_id"]
    given.setdefault("input", {"log": []})
    parts = [(part.event, part.data) for part in client.runs.stream(thread, graph, stream_mode=mode, **given)]
    assert parts[0][0] == "metadata"
    assert parts[-1][0] == "end"
    return parts[1:-1]


# On the wire


def test_the_wire(blocking: Blocking) -> None:
    thread = blocking.threads.create()["thread_id"]
    body = {"assistant_id": "pair", "input": {"log": []}, "stream_mode": "updates", "stream_resumable": True}

    answer = blocking.http.post(f"/threads/{thread}/runs/stream", json=body)

    (run,) = blocking.runs.list(thread)
    path = f"/threads/{thread}/runs/{run['run_id']}"
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert answer.headers["content-location"] == path
    assert answer.headers["location"] == f"{path}/stream"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    text = re.sub(r"(?<=\nid: )\d+", "N", answer.text)  # where the stream can be gone back to; clients look no further
    assert re.sub(r'(?<="run_id":")[^"]*', "ID", text) == (
        'event: metadata\ndata: {"run_id":"ID","attempt":1}\nid: N\n\n'
        'event: updates\ndata: {"first":{"log":["a"]}}\nid: N\n\n'
        'event: updates\ndata: {"second":{"log":["b"]}}\nid: N\n\n'
        'event: end\ndata: {"run_id":"ID","status":"success"}\n\n'
    )


def test_only_streams_that_can_be_resumed_have_ids(blocking: Blocking) -> None:
    answer = blocking.http.post("/runs/stream", json={"assistant_id": "pair", "input": {"log": []}})

    assert "\nid:" not in answer.text
    assert answer.headers["location"] == f"{answer.headers['content-location']}/stream"
    assert re.fullmatch("/runs/[0-9a-f-]{36}", answer.headers["content-location"])


def test_where_runs_are_is_said(blocking: Blocking) -> None:
    thread = blocking.threads.create()["thread_id"]
    body = {"assistant_id": "pair", "input": {"log": []}}

    made = blocking.http.post(f"/threads/{thread}/runs", json=body)
    waited = blocking.http.post(f"/threads/{thread}/runs/wait", json=body)
    alone = blocking.http.post("/runs", json=body)
    alone_waited = blocking.http.post("/runs/wait", json=body)

    run = made.json()["run_id"]
    assert made.headers["content-location"] == f"/threads/{thread}/runs/{run}"
    assert re.fullmatch(f"/threads/{thread}/runs/[0-9a-f-]{{36}}/join", waited.headers["location"])
    assert alone.headers["content-location"] == f"/runs/{alone.json()['run_id']}"
    assert re.fullmatch("/runs/[0-9a-f-]{36}/join", alone_waited.headers["location"])
    again = blocking.http.get(waited.headers["location"])
    assert again.json() == waited.json()


def test_silence_is_broken_by_signs_of_life(blocking: Blocking, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.02)
    thread = blocking.threads.create()["thread_id"]
    body = {"assistant_id": "pair", "input": {"log": [], "gate": gate.name}, "stream_mode": "updates"}

    with blocking.http.stream("POST", f"/threads/{thread}/runs/stream", json=body) as answer:
        text = ""
        for part in answer.iter_text():
            text += part
            if text.count(": heartbeat\n\n") == 3:
                gate.open()
    run = blocking.runs.list(thread)[0]["run_id"]

    other = Gate()
    body = {"assistant_id": "pair", "input": {"log": [], "gate": other.name}}
    with blocking.http.stream("POST", f"/threads/{thread}/runs/wait", json=body) as answer:
        waited = ""
        for part in answer.iter_text():
            waited += part
            if len(waited) == 3:
                other.open()

    assert text.count(": heartbeat\n\n") >= 3
    assert re.sub(": heartbeat\n\n", "", text).count("\n\n") == 4
    assert waited.startswith("\n\n\n")
    assert json.loads(waited)["log"] == ["a", "b", "a", "b"]
    assert blocking.runs.get(thread, run)["status"] == "success"


def test_a_failed_run_is_an_event_and_not_a_status(client: Client) -> None:
    thread = client.threads.create()["thread_id"]

    parts = list(client.runs.stream(thread, "failing", input={"log": []}))
    waited = client.runs.wait(thread, "failing", input={"log": []}, raise_error=False)
    with pytest.raises(Exception, match="ValueError: boom!"):
        client.runs.wait(thread, "failing", input={"log": []})

    assert [part.event for part in parts] == ["metadata", "values", "values", "error", "end"]
    assert parts[-2].data == {"error": "ValueError", "message": "boom!"}
    assert parts[-1].data["status"] == "error"
    assert waited == {"__error__": {"error": "ValueError", "message": "boom!"}}
    found = client.threads.get(thread)
    assert (found["status"], found["error"]) == ("error", {"error": "ValueError", "message": "boom!"})
    assert client.threads.get_state(thread)["tasks"][0]["error"] == "ValueError('boom!')"
    assert client.threads.search(status="error")[0]["error"] == found["error"]
    assert client.runs.wait(thread, "failing", input={"log": ["mend"]})["log"][-1] == "mended"
    assert client.threads.get(thread)["error"] is None


# Modes


def test_modes(client: Client) -> None:
    assert [data for _, data in streamed(client, "pair", "updates")] == [
        {"first": {"log": ["a"]}}, {"second": {"log": ["b"]}},
    ]  # fmt: skip
    assert {name for name, _ in streamed(client, "pair", ["values", "updates", "values"])} == {"values", "updates"}
    assert [data for name, data in streamed(client, "talking", "custom", input=messages("hi"))] == [{"mood": "calm"}]


def _named(config: Any) -> dict[str, Any]:
    return {key: config["configurable"][key] for key in ("thread_id", "checkpoint_ns", "checkpoint_id")}


def test_mode_tasks_checkpoints_and_debug(blocking: Blocking) -> None:
    tasks = streamed(blocking, "pair", "tasks")
    checkpoints = streamed(blocking, "pair", "checkpoints")
    debug = streamed(blocking, "pair", "debug")

    assert [(data["name"], data.get("result")) for _, data in tasks] == [
        ("first", None), ("first", {"log": ["a"]}), ("second", None), ("second", {"log": ["b"]}),
    ]  # fmt: skip
    assert [data["metadata"]["step"] for _, data in checkpoints] == [-1, 0, 1, 2]
    assert [data["next"] for _, data in checkpoints] == [["__start__"], ["first"], ["second"], []]
    assert {data["type"] for _, data in debug} == {"task", "task_result", "checkpoint"}
    told = [data["payload"] for _, data in debug if data["type"] == "checkpoint"]
    assert [each["parent_checkpoint"] for each in told] == [None, *(each["checkpoint"] for each in told[:-1])]
    assert all(each["checkpoint"] == _named(each["config"]) for each in told)
    assert {name for name, _ in tasks + checkpoints + debug} == {"tasks", "checkpoints", "debug"}


def test_messages_come_as_chunks_with_what_they_are_about(client: Client) -> None:
    parts = streamed(client, "talking", "messages-tuple", input=messages("hi"))

    assert {name for name, _ in parts} == {"messages"}
    assert [chunk["content"] for _, (chunk, _) in parts] == ["hello", " ", "world"]
    assert {chunk["type"] for _, (chunk, _) in parts} == {"AIMessageChunk"}
    assert {about["langgraph_node"] for _, (_, about) in parts} == {"speak"}


def test_messages_come_as_far_as_they_are(client: Client) -> None:
    parts = streamed(client, "talking", "messages", input=messages("hi"))

    assert [name for name, _ in parts] == ["messages/metadata", *["messages/partial"] * 3]
    assert parts[0][1]["said"]["metadata"]["langgraph_node"] == "speak"
    assert [[(each["type"], each["content"]) for each in data] for _, data in parts[1:]] == [
        [("ai", "hello")], [("ai", "hello ")], [("ai", "hello world")],
    ]  # fmt: skip


def test_nested_graphs_are_shown_with_their_names_if_asked_for(client: Client) -> None:
    shown = streamed(client, "nesting", ["updates", "custom", "values"], stream_subgraphs=True)
    hidden = streamed(client, "nesting", ["updates", "custom", "values"])

    names = [re.sub(":[0-9a-f-]{36}", ":ID", name) for name, _ in shown]
    assert names.count("custom|sub:ID|below:ID") == 1
    assert names.count("updates|sub:ID|below:ID") == 1
    assert names.count("updates|sub:ID") == 1
    assert names.count("updates") == 2
    assert "values|sub:ID" in names
    assert {name for name, _ in hidden} == {"updates", "values"}


def test_parts_of_the_second_version(client: Client) -> None:
    thread = client.threads.create()["thread_id"]
    given: dict[str, Any] = {"stream_mode": ["updates", "custom"], "stream_subgraphs": True, "version": "v2"}

    parts = list(client.runs.stream(thread, "nesting", input={"log": []}, **given))

    assert [(part["type"], len(part["ns"])) for part in parts if part["type"] in ("updates", "custom")] == [
        ("updates", 0), ("custom", 2), ("updates", 2), ("updates", 1), ("updates", 0),
    ]  # fmt: skip


def test_a_question_is_in_the_stream_and_in_the_thread(client: Client) -> None:
    thread = client.threads.create()["thread_id"]

    parts = list(client.runs.stream(thread, "asking", input={"log": []}, stream_mode=["values", "updates"]))

    found = client.threads.get(thread)
    ((asked,),) = found["interrupts"].values()
    assert asked["value"] == {"question": "how many?"}
    assert [part.data["__interrupt__"] for part in parts if "__interrupt__" in part.data] == [[asked], [asked]]
    assert [part.event for part in parts if "__interrupt__" in part.data] == ["updates", "values"]
    assert parts[-1].data["status"] == "success"
    assert found["status"] == "interrupted"


@pytest.mark.parametrize("mode", ["events", "tools", "lifecycle", "everything", ["values", "nothing"]])
def test_a_mode_that_there_is_not_is_refused(blocking: Blocking, mode: Any) -> None:
    thread = blocking.threads.create()["thread_id"]
    for use in (blocking.runs.create, blocking.runs.stream):
        with pytest.raises(UnprocessableEntityError):
            list(use(thread, "pair", input={"log": []}, stream_mode=mode))
    assert blocking.runs.list(thread) == []
    blocking.runs.wait(thread, "pair", input={"log": []})
    with pytest.raises(UnprocessableEntityError):
        list(blocking.runs.join_stream(thread, blocking.runs.list(thread)[0]["run_id"], stream_mode=mode))


# Coming back


def resumable(client: Any) -> tuple[str, str, list[Any]]:
    thread = client.threads.create()["thread_id"]
    parts = list(client.runs.stream(thread, "pair", input={"log": []}, stream_mode="updates", stream_resumable=True))
    return thread, parts[0].data["run_id"], parts


def test_a_stream_is_read_again_from_any_event(anywhere: Blocking) -> None:
    thread, run, parts = resumable(anywhere)

    again = {
        after: [part.event for part in anywhere.runs.join_stream(thread, run, last_event_id=after)]
        for after in ("-1", *(part.id for part in parts[:-1]))
    }

    none, first, last = (part.id for part in parts[:-1])
    assert list(anywhere.runs.join_stream(thread, run, last_event_id="-1"))[:-1] == parts[:-1]
    assert again == {
        "-1": ["metadata", "updates", "updates", "end"],
        none: ["updates", "updates", "end"],
        first: ["updates", "end"],
        last: ["end"],
    }
    assert [part.event for part in anywhere.runs.join_stream(thread, run)] == ["end"]


@pytest.mark.parametrize("after", ["x", "1-0", "-2", "1e3", "9" * 30, "٣".encode()])
def test_an_id_that_no_event_has_is_refused(blocking: Blocking, after: str | bytes) -> None:
    thread, run, _ = resumable(blocking)

    answer = blocking.http.get(f"/threads/{thread}/runs/{run}/stream", headers=[(b"last-event-id", after)])

    assert answer.status_code == 422


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits a second before it comes back; here it does not."""
    monkeypatch.setattr("langgraph_sdk._sync.http._reconnect_delay", lambda attempt, **limits: 0.01)


def cut_off(live: Live, at: int, user: str, **given: Any) -> list[Any]:
    """The parts of a stream whose connection is cut after so many bytes of the answer."""
    with Proxy("127.0.0.1", live.port, watch=False) as proxy:
        client = Blocking(f"http://127.0.0.1:{proxy.port}", user)
        thread = client.threads.create()["thread_id"]
        proxy.cut_at_bytes = ("server", at)
        try:
            return list(client.runs.stream(thread, "pair", **given))
        finally:
            client.close()
            assert proxy.cut_at_bytes is None


@pytest.mark.usefixtures("hasty")
def test_a_client_whose_connection_is_cut_gets_each_event_once(live: Live) -> None:
    given: dict[str, Any] = {"input": {"log": []}, "stream_mode": ["updates", "values"], "stream_resumable": True}

    parts = cut_off(live, 760, "cut off", **given)  # in the middle of an event

    assert [part.event for part in parts] == ["metadata", "values", "updates", "values", "updates", "values", "end"]


@pytest.mark.usefixtures("hasty")
def test_a_client_that_was_told_no_ids_comes_back_for_the_end(live: Live) -> None:
    with pytest.warns(UserWarning, match="without a Last-Event-ID"):
        parts = cut_off(live, 760, "cut off without ids", input={"log": []}, stream_mode=["updates", "values"])

    assert (parts[0].event, parts[-1].event, parts[-1].data["status"]) == ("metadata", "end", "success")


@pytest.mark.usefixtures("hasty")
def test_a_client_that_is_cut_off_while_it_waits_gets_what_the_run_gives(live: Live, gate: Gate) -> None:
    with Proxy("127.0.0.1", live.port, watch=False) as proxy:
        client = Blocking(f"http://127.0.0.1:{proxy.port}", "cut off waiting")
        thread = client.threads.create()["thread_id"]
        gate.open()
        proxy.cut_at_bytes = ("server", 470)
        with pytest.warns(UserWarning, match="attempting reconnect to Location"):
            waited = client.runs.wait(thread, "pair", input={"log": ["x" * 1000], "gate": gate.name})
        client.close()

    assert waited["log"] == ["x" * 1000, "a", "b"]


def test_a_run_goes_on_without_its_reader(live: Live, blocking: Blocking, gate: Gate) -> None:
    thread = blocking.threads.create()["thread_id"]
    given: dict[str, Any] = {"input": {"log": [], "gate": gate.name}, "stream_mode": "updates"}

    for on_disconnect in (None, "continue"):
        parts = blocking.runs.stream(thread, "pair", on_disconnect=on_disconnect, **given)
        assert [next(parts).event for _ in range(2)] == ["metadata", "updates"]
        parts.close()
        gate.wait().open()
        assert blocking.runs.join(thread, blocking.runs.list(thread)[0]["run_id"])["log"][-1] == "b"


def test_a_run_goes_on_without_whoever_waits_for_it(live: Live, blocking: Blocking, gate: Gate) -> None:
    thread = blocking.threads.create()["thread_id"]
    body = json.dumps({"assistant_id": "pair", "input": {"log": [], "gate": gate.name}})
    head = f"POST /threads/{thread}/runs/wait HTTP/1.1\r\nhost: clew\r\nx-api-key: {blocking.http.headers['x-api-key']}"

    with socket.create_connection(("127.0.0.1", live.port)) as impatient:
        impatient.sendall(
            f"{head}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        gate.wait()
    (run,) = blocking.runs.list(thread)
    gate.open()

    assert run["status"] == "running"
    assert blocking.runs.join(thread, run["run_id"])["log"] == ["a", "b"]


def test_a_run_ends_with_its_reader_if_asked_to(client: Client, gate: Gate) -> None:
    thread = client.threads.create()["thread_id"]
    given: dict[str, Any] = {"input": {"log": [], "gate": gate.name}, "stream_mode": "updates"}

    parts = client.runs.stream(thread, "pair", on_disconnect="cancel", **given)
    begun = [next(parts).event for _ in range(2)]
    parts.close()
    first = client.runs.list(thread)[0]["run_id"]
    client.runs.join(thread, first)
    second = client.runs.create(thread, "pair", **given)["run_id"]
    gate.wait()
    parts = client.runs.join_stream(thread, second, cancel_on_disconnect=True, last_event_id="-1")
    next(parts)
    parts.close()
    client.runs.join(thread, second)

    assert begun == ["metadata", "updates"]
    assert [run["status"] for run in client.runs.list(thread)] == ["interrupted", "interrupted"]
