"""What a service counts, and what `GET /metrics` gives of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import StreamingResponse

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import StorageUnavailableError
from clew.graph import START, StateGraph
from clew.server import create_app
from clew.server.metrics import Metrics
from clew.server.work.worker import waited
from clew.storage.runs import RunRow
from tests.server.kit import Api, InProcess, make_app

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "observability.md"


def test_every_metric_is_in_the_documentation() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `clew_")]

    assert rows == described(Metrics())


def described(metrics: Metrics) -> list[str]:
    """The rows of the documentation's table."""
    rows: list[str] = []
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            rows.append(f"| `{name}` | {family.type} | {', '.join(metric._labelnames)} | {family.documentation} |")
    return rows


def scope_of(method: str, path: str) -> dict[str, Any]:
    """A request as a server gives it to an application."""
    asgi = {"version": "3.0", "spec_version": "2.4"}
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    return {**scope, "headers": headers, "asgi": asgi}


def requests_of(told: dict[str, Any]) -> set[tuple[str, str, str, float]]:
    """Method, route, status and number of what a service has answered."""
    found = [(each["labels"], each["value"]) for each in told["clew_http_requests_total"]]
    return {(labels["method"], labels["route"], labels["status"], value) for labels, value in found}


def test_requests_are_counted_by_route_and_tell_of_nobody(here: InProcess) -> None:
    @here.app.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError("a secret")

    here.request("POST", "/threads", json={"thread_id": "secret/1", "metadata": {"secret": True}})
    for path in ("/threads/secret%2F1", "/threads/secret", "/secret", "/secret2", "/breaks"):
        here.request("GET", path)
    here.request("SECRET", "/threads")

    told = here.request("GET", "/metrics?format=json").json()
    text = here.request("GET", "/metrics").text

    assert requests_of(told) == {
        ("POST", "/threads", "200", 1),
        ("GET", "/threads/{thread_id}", "200", 1),
        ("GET", "/threads/{thread_id}", "404", 1),
        ("GET", "unmatched", "404", 2),
        ("GET", "/breaks", "500", 1),
        ("other", "/threads", "405", 1),
    }
    assert 'clew_http_request_duration_seconds_count{method="GET",route="/threads/{thread_id}"} 2.0' in text
    assert 'clew_http_requests_total{method="GET",route="/metrics",status="200"} 1.0' in text
    assert "secret" not in text.lower()
    assert here.user not in text


def test_metrics_need_no_key_and_a_format_that_there_is(api: Api) -> None:
    answer = api.of("").request("GET", "/metrics", headers={"x-api-key": ""})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE clew_http_requests_total counter" in answer.text
    assert "process_resident_memory_bytes" in answer.text
    assert api.request("GET", "/metrics?format=xml").status_code == 422


def test_a_stream_is_not_held_back_and_is_timed_to_its_end(here: InProcess) -> None:
    gate = asyncio.Event()

    @here.app.get("/slow")
    async def slow() -> StreamingResponse:
        async def parts() -> Any:
            yield b"first"
            await gate.wait()
            yield b"last"

        return StreamingResponse(parts())

    async def read() -> list[Any]:
        """The parts as the server sends them: the second is made only when the first has been seen."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", message["type"]))
            if message.get("body") == b"first":
                sent.append(here.app.state.clew.metrics.as_json().get("clew_http_requests_total"))
                gate.set()

        async def receive() -> Any:
            await asyncio.Event().wait()

        await here.app(scope_of("GET", "/slow"), receive, send)
        return sent

    sent = here.runner.run(read())

    assert sent[:4] == ["http.response.start", b"first", None, b"last"]
    assert requests_of(here.app.state.clew.metrics.as_json()) == {("GET", "/slow", "200", 1)}


def test_a_request_keeps_its_id_or_gets_one(here: InProcess) -> None:
    given = here.request("GET", "/ok", headers={"x-request-id": "from-the-proxy/1"})
    made = [here.request("GET", "/nowhere").headers["x-request-id"] for _ in range(2)]
    odd = here.request("GET", "/ok", headers={"x-request-id": "x" * 129}).headers.get_list("x-request-id")

    assert given.headers["x-request-id"] == "from-the-proxy/1"
    assert len(made[0]) == 32
    assert made[0] != made[1]
    assert [len(id) for id in odd] == [32]


def test_a_run_knows_the_id_of_the_request_that_made_it() -> None:
    def show(state: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        return {"id": config["configurable"]["langgraph_request_id"]}

    graph = StateGraph(dict)
    graph.add_node("show", show)
    graph.add_edge(START, "show")
    app = create_app({"agent": graph}, SqliteSaver(":memory:"))
    with asyncio.Runner() as runner, InProcess(app, runner, "ada") as api:
        body = {"assistant_id": "agent", "input": {}}
        answer = api.request("POST", "/runs/wait", json=body, headers={"x-request-id": "r-17"})

    assert answer.json() == {"id": "r-17"}


def test_each_request_is_a_line_for_who_asks_for_it(here: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    here.request("GET", "/ok")
    assert [record for record in caplog.records if record.name == "clew.server.access"] == []
    with caplog.at_level(logging.INFO, "clew.server.access"):
        here.request("GET", "/threads/no%0Asuch", headers={"x-request-id": "r1"})
    (line,) = (record for record in caplog.records if record.name == "clew.server.access")

    assert line.getMessage().startswith(r"GET '/threads/no\nsuch' 404 ")
    assert (line.method, line.route, line.status, line.request_id) == ("GET", "/threads/{thread_id}", 404, "r1")  # type: ignore[attr-defined] - `extra`
    assert line.seconds > 0  # type: ignore[attr-defined] - `extra`


def test_who_leaves_before_the_answer_is_counted_as_such(here: InProcess) -> None:
    asked = asyncio.Event()

    @here.app.get("/waits")
    async def waits() -> None:
        asked.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(here.app), base_url="http://clew") as http:
            request = asyncio.ensure_future(http.get("/waits"))
            await asked.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request

    here.runner.run(leave())

    assert requests_of(here.app.state.clew.metrics.as_json()) == {("GET", "/waits", "499", 1)}


def test_runs_are_counted_from_claim_to_end() -> None:
    metrics = Metrics()
    metrics.slots(4)
    metrics.run_started(0.5)
    metrics.run_started(-0.001)  # clocks of two machines differ
    metrics.run_started(2.0)
    metrics.run_ended("success", 0.25)
    metrics.lease_lost()
    metrics.run_left()
    metrics.runs_retried(2)
    metrics.runs_dead()
    metrics.events_stored(7)

    told = metrics.as_json()

    assert told["clew_run_slots"] == 4
    assert told["clew_runs_started_total"] == 3
    assert told["clew_runs_active"] == 1
    assert told["clew_runs_ended_total"] == [{"labels": {"status": "success"}, "value": 1}]
    assert (told["clew_run_wait_seconds_count"], told["clew_run_wait_seconds_sum"]) == (3, 2.5)
    assert told["clew_run_duration_seconds_sum"] == [{"labels": {"status": "success"}, "value": 0.25}]
    assert told["clew_leases_lost_total"] == 1
    assert (told["clew_runs_retried_total"], told["clew_runs_dead_total"]) == (2, 1)
    assert told["clew_events_stored_total"] == 7


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_what_runs_come_to_is_counted(request: pytest.FixtureRequest, backend: str) -> None:
    if backend == "sqlite":
        saver: Any = SqliteSaver(":memory:")
    else:
        saver = PostgresSaver(request.getfixturevalue("database"))
    with saver, asyncio.Runner() as runner, InProcess(make_app(saver, None), runner, "ada") as api:
        thread = api.threads.create()["thread_id"]
        api.runs.wait(thread, "agent", input={"messages": [("human", "hi")]})
        list(api.runs.stream(thread, "agent", command={"resume": "well"}, stream_mode=["values", "updates"]))
        api.runs.wait(thread, "agent", input={"messages": [{"role": "nobody"}]}, raise_error=False)
        api.runs.create(thread, "agent", input={}, after_seconds=3600)
        told = api.request("GET", "/metrics?format=json").json()
        text = api.request("GET", "/metrics").text

    assert told["queue"] == {"num_pending": 1, "num_running": 0}
    assert told["workers"] == {"max": 64, "active": 0, "available": 64}
    assert (told["clew_database_up"], told["clew_streams_open"]) == (1, 0)
    ended = {each["labels"]["status"]: each["value"] for each in told["clew_runs_ended_total"]}
    assert ended == {"success": 2, "error": 1}
    assert told["clew_runs_started_total"] == told["clew_run_wait_seconds_count"] == 3
    assert told["clew_events_stored_total"] > 0
    assert 'clew_queue_runs{status="pending"} 1.0' in text
    assert thread not in text


@pytest.mark.parametrize(
    ("attempt", "request_body", "expected"),
    [(1, {}, 5.0), (1, {"after_seconds": 3.0}, 2.0), (2, {}, None)],
)
def test_a_run_waits_from_when_it_could_start(attempt: int, request_body: Any, expected: float | None) -> None:
    fields = dict.fromkeys(RunRow._fields)
    run = RunRow(
        **{**fields, "attempt": attempt, "created_at": 0, "updated_at": 5_000_000, "request": request_body}  # type: ignore[arg-type] - the rest does not matter
    )

    assert waited(run) == expected


def test_metrics_are_there_when_the_database_is_not(here: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    async def is_away() -> dict[str, int]:
        raise StorageUnavailableError("the database is away")

    here.app.state.clew.worker.queue.counts = is_away
    with caplog.at_level(logging.WARNING, "clew.server"):
        told = here.request("GET", "/metrics?format=json").json()

    assert told["clew_database_up"] == 0
    assert told["queue"] == {"num_pending": None, "num_running": None}
    assert "runs could not be counted: the database is away" in caplog.text


def test_a_stream_counts_while_it_is_read() -> None:
    gate = asyncio.Event()

    async def wait(state: dict[str, Any]) -> dict[str, Any]:
        await gate.wait()
        return {}

    graph = StateGraph(dict)
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    open_streams: list[float] = []

    async def use() -> None:
        app = create_app({"agent": graph}, SqliteSaver(":memory:"))
        metrics = app.state.clew.metrics
        asked = iter([{"type": "http.request", "body": b'{"assistant_id": "agent", "input": {"a": 1}}'}])

        async def receive() -> Any:
            return next(asked, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            open_streams.append(metrics.as_json()["clew_streams_open"])
            gate.set()

        await app(scope_of("POST", "/runs/stream"), receive, send)
        open_streams.append(metrics.as_json()["clew_streams_open"])
        await app.state.clew.drain(0)

    asyncio.run(use())

    assert (open_streams[0], open_streams[1], open_streams[-1]) == (1, 1, 0)


def test_metrics_of_two_applications_are_apart() -> None:
    one, two = Metrics(), Metrics()

    one.stream_opened()

    assert (one.as_json()["clew_streams_open"], two.as_json()["clew_streams_open"]) == (1, 0)


def test_text_has_a_help_for_each_metric_and_nothing_twice() -> None:
    metrics = Metrics()
    metrics.webhook("failed")
    metrics.cron("done")
    metrics.duty("retention", 0.1, is_failed=True)

    lines = metrics.as_text().decode().splitlines()

    assert 'clew_webhooks_total{outcome="failed"} 1.0' in lines
    assert 'clew_crons_fired_total{outcome="done"} 1.0' in lines
    assert 'clew_duties_total{duty="retention",outcome="failed"} 1.0' in lines
    assert [line for line in lines if "_created" in line] == []
    families = {family.name for family in text_string_to_metric_families("\n".join(lines) + "\n")}
    assert families >= {"clew_webhooks", "clew_duty_duration_seconds", "clew_queue_runs"}
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(helps) == len(set(helps)) == len([line for line in lines if line.startswith("# TYPE")])
