"""Requests of the service are spans in the trace of whoever asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from opentelemetry import trace

from clew import telemetry
from clew.checkpoint.sqlite import SqliteSaver
from clew.server.work.worker import WorkSettings
from clew.store.memory import InMemoryStore
from tests.server.kit import InProcess, make_app
from tests.telemetry.kit import Traces

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "user-agent": "a browser"}


def served(runner: asyncio.Runner) -> InProcess:
    """A service in memory."""
    return InProcess(make_app(SqliteSaver(":memory:"), InMemoryStore()), runner, "ada")


def test_a_request_is_a_span_of_the_trace_that_its_headers_name(traces: Traces) -> None:
    with asyncio.Runner() as runner, served(runner) as api:

        @api.app.get("/breaks")
        async def breaks() -> None:
            raise RuntimeError("no luck")

        for path in ("/threads/none", "/breaks"):
            api.request("GET", path, headers=HEADERS)
        api.request("GET", "/nowhere")
        for probe in ("/ok", "/metrics"):
            api.request("GET", probe)

    found, broken, nowhere = traces.spans
    assert (found.name, found.kind.name) == ("GET /threads/{thread_id}", "SERVER")
    assert (f"{found.context.trace_id:032x}", f"{found.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(found.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 404,
        "http.route": "/threads/{thread_id}",
        "url.path": "/threads/none",
        "url.scheme": "http",
        "user_agent.original": "a browser",
    }
    assert (found.status.is_ok, broken.status.is_ok) == (True, False)
    assert (broken.events[0].attributes["exception.message"], broken.attributes["error.type"]) == (
        "no luck",
        "RuntimeError",
    )
    assert (nowhere.name, nowhere.parent) == ("GET", None)
    assert sum(traces.measured("http.server.request.duration").values()) == 3


def test_a_request_that_is_traced_already_is_not_traced_twice(traces: Traces) -> None:
    tracer = traces.tracer_provider.get_tracer("another")
    with asyncio.Runner() as runner, served(runner) as api:

        async def around() -> Any:
            with tracer.start_as_current_span("their own"):
                return await api._http.get("/info")

        assert runner.run(around()).status_code == 200

    assert [span.name for span in traces.spans] == ["their own"]


def test_a_run_belongs_to_the_request_that_made_it_on_any_replica(traces: Traces, tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    with (
        asyncio.Runner() as runner,
        SqliteSaver.from_conn_string(path, synchronous="NORMAL") as one,
        SqliteSaver.from_conn_string(path, synchronous="NORMAL") as other,
        InProcess(make_app(one, None, work=WorkSettings(max_runs=0)), runner, "ada") as front,
        InProcess(make_app(other, None), runner, "ada") as back,
    ):
        back.threads.count()  # begins to work
        thread = front.threads.create()["thread_id"]
        url = f"/threads/{thread}/runs"
        made = front.request("POST", url, json={"assistant_id": "made", "input": {}}, headers=HEADERS).json()
        front.runs.join(thread, made["run_id"])

    request = next(span for span in traces.spans if span.name == "POST /threads/{thread_id}/runs")
    run = next(span for span in traces.spans if span.name.startswith("invoke_agent"))
    assert f"{run.context.trace_id:032x}" == TRACE
    assert (run.parent.span_id, request.parent.span_id) == (request.context.span_id, int(PARENT, 16))
    told = {name: run.attributes[name] for name in ("gen_ai.conversation.id", "clew.run.id", "clew.graph.id")}
    assert told == {"gen_ai.conversation.id": thread, "clew.run.id": made["run_id"], "clew.graph.id": "made"}
    assert run.attributes["gen_ai.agent.id"] == made["assistant_id"]
    assert "trace" not in made["kwargs"]


def test_work_that_another_process_does_belongs_to_the_trace(traces: Traces) -> None:
    tracer = traces.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        carried = telemetry.carried()
    with telemetry.joined(carried), tracer.start_as_current_span("work") as work:
        pass

    assert set(carried) == {"traceparent"}
    assert (work.context.trace_id, work.parent.span_id) == (request.context.trace_id, request.context.span_id)
    assert not trace.get_current_span().get_span_context().is_valid
    with (
        tracer.start_as_current_span("unrelated"),
        telemetry.joined(None),
        tracer.start_as_current_span("a cron") as cron,
    ):
        assert cron.parent is None, "what nobody asked for is in no trace that happens to be there"


def test_without_telemetry_nothing_is_carried() -> None:
    with telemetry.joined({"traceparent": HEADERS["traceparent"]}):
        assert telemetry.carried() == {}
