"""What is traced and measured of runs, on both drivers."""

from __future__ import annotations

import asyncio
import contextvars
import operator
import subprocess
import sys
from typing import Annotated, Any, TypedDict

import pytest
from opentelemetry import trace

from clew.checkpoint.memory import InMemorySaver
from clew.errors import GraphDrained, GraphRecursionError, MissingExtraError, ThreadConflictError
from clew.func import entrypoint, task
from clew.graph import START, StateGraph
from clew.runtime import RunControl
from clew.telemetry import instrument
from clew.types import Command, RetryPolicy, Send, interrupt
from tests.both import Drive, Sync, on
from tests.telemetry.kit import Traces


class Notes(TypedDict, total=False):
    notes: Annotated[list[str], operator.add]


def graph_of(drive: Drive, *nodes: Any, saver: Any = None, name: str = "agent", **settings: Any) -> Any:
    """A graph of nodes one after another."""
    graph = StateGraph(Notes)
    names = [node.__name__ for node in nodes]
    for node, own in zip(nodes, names, strict=True):
        graph.add_node(own, drive.node(node), **settings)
    for before, after in zip([START, *names], names, strict=False):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=saver, name=name)


def note(state: Notes) -> Notes:
    return {"notes": ["a secret"]}


def more(state: Notes) -> Notes:
    return {"notes": [trace.get_current_span().name]}


def test_a_run_its_supersteps_and_its_nodes_are_spans(drive: Drive, traces: Traces) -> None:
    graph = graph_of(drive, note, more, saver=InMemorySaver())
    config = {**on("t1", assistant_id="helper"), "run_id": "0" * 32}

    made = drive.invoke(graph, {"notes": ["a question"]}, config)
    state = drive.get_state(graph, config)

    assert made["notes"] == ["a question", "a secret", "node more"], "a node's span is current inside of it"
    assert traces.tree() == ["invoke_agent agent", "  superstep", "    node note", "  superstep", "    node more"]
    run, last = traces.named("invoke_agent agent"), traces.named("node more")
    facts = {
        "gen_ai.agent.name": "agent",
        "gen_ai.agent.id": "helper",
        "gen_ai.conversation.id": "t1",
        "clew.run.id": "0" * 32,
        "clew.status": "done",
    }
    assert dict(run.attributes) == {**facts, "gen_ai.operation.name": "invoke_agent"}
    assert {name: last.attributes[name] for name in facts} == facts
    assert (last.attributes["clew.step"], last.attributes["clew.attempt"]) == (2, 1)
    assert last.attributes["clew.checkpoint.id"] == state.parent_config["configurable"]["checkpoint_id"]
    steps = [span for span in traces.spans if span.name == "superstep"]
    assert steps[-1].attributes["clew.checkpoint.id"] == state.config["configurable"]["checkpoint_id"]
    assert all("secret" not in span.to_json() and "question" not in span.to_json() for span in traces.spans)
    assert traces.measured("clew.run.duration") == {("done", "agent"): 1}
    assert traces.measured("clew.node.duration") == {("note", "done", "agent"): 1, ("more", "done", "agent"): 1}


def test_saves_are_spans_of_what_they_save(drive: Drive, traces: Traces) -> None:
    drive.invoke(graph_of(drive, note, saver=InMemorySaver()), {"notes": []}, on(), durability="sync")
    drive.invoke(graph_of(drive, note, name="unsaved"), {"notes": []})
    drive.invoke(graph_of(drive, note, saver=InMemorySaver(), name="later"), {"notes": []}, on())

    assert traces.tree(but=frozenset()) == [
        "invoke_agent agent",
        "  load",
        "  commit",
        "  commit",
        "  superstep",
        "    node note",
        "    commit",
        "  flush",
        "invoke_agent unsaved",
        "  superstep",
        "    node note",
        "invoke_agent later",
        "  load",
        "  commit",
        "  superstep",
        "    node note",
        "  flush",
    ]


def test_nodes_side_by_side_belong_to_their_superstep(drive: Drive, traces: Traces) -> None:
    seen: list[str] = []

    def work(state: Any) -> Notes:
        seen.append(trace.get_current_span().name)
        return {"notes": []}

    graph = StateGraph(Notes)
    for name in ("left", "right"):
        graph.add_node(name, drive.node(work))
        graph.add_edge(START, name)
    graph.add_node("sent", drive.node(work))
    graph.add_conditional_edges("left", lambda state: [Send("sent", state), Send("sent", state)])
    drive.invoke(graph.compile(name="agent"), {"notes": []})

    assert sorted(seen) == ["node left", "node right", "node sent", "node sent"]
    assert traces.tree() == [
        "invoke_agent agent",
        "  superstep",
        "    node left",
        "    node right",
        "  superstep",
        "    node sent",
        "    node sent",
    ]


def test_a_graph_inside_a_node_is_inside_its_span(drive: Drive, traces: Traces) -> None:
    inner = graph_of(drive, note, name="inner")
    outer = StateGraph(Notes)
    outer.add_node("added", inner)

    if drive.name == "sync":
        outer.add_node("called", lambda state: inner.invoke({"notes": []}))
    else:

        async def called(state: Notes) -> Any:
            return await inner.ainvoke({"notes": []})

        outer.add_node("called", called)
    outer.add_edge(START, "added")
    outer.add_edge("added", "called")

    drive.invoke(outer.compile(name="outer", checkpointer=InMemorySaver()), {"notes": []}, on("t2"))

    nested = ["      invoke_agent inner", "        superstep", "          node note"]
    assert traces.tree() == [
        *["invoke_agent outer", "  superstep", "    node added", *nested],
        *["  superstep", "    node called", *nested],
    ]
    assert {span.attributes["gen_ai.conversation.id"] for span in traces.spans} == {"t2"}


def test_a_task_is_inside_what_called_it(drive: Drive, traces: Traces) -> None:
    @task(name="add")
    def add(number: int) -> int:
        return number + 1

    if drive.name == "sync":

        @entrypoint()
        def flow(number: int) -> int:
            return add(add(number).result()).result()
    else:

        @entrypoint()
        async def flow(number: int) -> int:
            return await add(await add(number))

    assert drive.invoke(flow, 1) == 3
    assert traces.tree() == [
        *["invoke_agent flow", "  superstep", "    node flow", "      task add", "      task add"]
    ]  # fmt: skip


def test_an_error_is_recorded_where_it_was_raised(drive: Drive, traces: Traces) -> None:
    def breaks(state: Notes) -> Notes:
        raise ValueError("no such note")

    inner = graph_of(drive, breaks, name="inner")
    outer = StateGraph(Notes)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    with pytest.raises(ValueError, match="no such note"):
        drive.invoke(outer.compile(name="outer"), {"notes": []})

    node, run = traces.named("node breaks"), traces.named("invoke_agent outer")
    (event,) = node.events
    assert (event.name, event.attributes["exception.message"]) == ("exception", "no such note")
    assert (node.status.status_code.name, node.attributes["error.type"]) == ("ERROR", "ValueError")
    assert (run.status.status_code.name, run.attributes["clew.status"], run.events) == ("ERROR", "failed", ())
    assert traces.measured("clew.run.duration") == {("failed", "inner"): 1, ("failed", "outer"): 1}


def test_each_attempt_is_a_span(drive: Drive, traces: Traces) -> None:
    left = [1, 1]

    def flaky(state: Notes) -> Notes:
        if left:
            left.pop()
            raise ConnectionError("try again")
        return {"notes": []}

    policy = RetryPolicy(initial_interval=0, jitter=False)
    drive.invoke(graph_of(drive, flaky, retry_policy=policy), {"notes": []})

    attempts = [span for span in traces.spans if span.name == "node flaky"]
    told = [(span.attributes["clew.attempt"], span.attributes["clew.status"]) for span in attempts]
    assert told == [(1, "failed"), (2, "failed"), (3, "done")]
    assert traces.tree().count("  superstep") == 1
    assert traces.named("invoke_agent agent").status.is_ok


def test_a_question_is_an_event_and_its_answer_a_run_of_its_own(drive: Drive, traces: Traces) -> None:
    def ask(state: Notes) -> Notes:
        return {"notes": [interrupt("a secret question")]}

    graph = graph_of(drive, ask, saver=InMemorySaver())
    (question,) = drive.invoke(graph, {"notes": []}, on("t"))["__interrupt__"]
    asked = traces.spans
    drive.invoke(graph, Command(resume="a secret answer"), on("t"))

    node = next(span for span in asked if span.name == "node ask")
    assert [(event.name, dict(event.attributes)) for event in node.events] == [
        ("interrupt", {"clew.interrupt.id": question.id})
    ]
    assert (node.status.is_ok, node.attributes["clew.status"]) == (True, "interrupted")
    runs = [span for span in traces.spans if span.name == "invoke_agent agent"]
    assert [span.attributes["clew.status"] for span in runs] == ["interrupted", "done"]
    assert {span.attributes["gen_ai.conversation.id"] for span in runs} == {"t"}
    assert runs[0].context.trace_id != runs[1].context.trace_id
    assert all("secret" not in span.to_json() for span in traces.spans)


def test_a_command_for_the_graph_around_is_no_error(drive: Drive, traces: Traces) -> None:
    def leave(state: Notes) -> Any:
        return Command(graph=Command.PARENT, update={"notes": ["left"]}, goto="after")

    outer = StateGraph(Notes)
    outer.add_node("inner", graph_of(drive, leave, name="inner"))
    outer.add_node("after", lambda state: {"notes": ["after"]})
    outer.add_edge(START, "inner")

    assert drive.invoke(outer.compile(name="outer"), {"notes": []})["notes"] == ["left", "after"]
    assert [span.name for span in traces.spans if not span.status.is_ok or span.events] == []


def test_what_the_engine_refuses_fails_the_run(drive: Drive, traces: Traces) -> None:
    graph = StateGraph(Notes)
    graph.add_node("note", drive.node(note))
    graph.add_edge(START, "note")
    graph.add_edge("note", "note")
    with pytest.raises(GraphRecursionError):
        drive.invoke(graph.compile(name="agent"), {"notes": []}, {"recursion_limit": 2})

    run = traces.named("invoke_agent agent")
    assert (run.attributes["error.type"], run.events[0].name) == ("clew.errors.GraphRecursionError", "exception")

    control = RunControl()
    control.request_drain("enough")
    with pytest.raises(GraphDrained):
        drive.invoke(graph.compile(name="drained"), {"notes": []}, control=control)
    assert traces.named("invoke_agent drained").attributes["clew.status"] == "drained"
    assert traces.named("invoke_agent drained").status.is_ok


def test_a_thread_lost_to_another_run_fails_the_save(drive: Drive, traces: Traces) -> None:
    saver = InMemorySaver()

    def overtake(state: Notes) -> Notes:
        context = contextvars.Context()  # of nobody: not a nested graph
        context.run(graph_of(Sync(), note, saver=saver, name="other").invoke, {"notes": []}, on())
        return {"notes": []}

    overtaken = graph_of(drive, overtake, note, saver=saver, name="overtaken")
    with pytest.raises(ThreadConflictError):
        drive.invoke(overtaken, {"notes": []}, on(), durability="sync")

    run = traces.named("invoke_agent overtaken")
    assert (run.attributes["error.type"], run.attributes["clew.status"]) == (
        "clew.errors.ThreadConflictError",
        "failed",
    )
    failed = [span.name for span in traces.spans if not span.status.is_ok]
    assert failed == ["invoke_agent overtaken", "commit"]


def test_a_stream_that_nobody_reads_on_ends_its_spans(drive: Drive, traces: Traces) -> None:
    chunks = drive.stream(
        graph_of(drive, note, more, saver=InMemorySaver()), {"notes": []}, on(), stream_mode="updates"
    )
    assert next(iter(chunks)) == {"note": {"notes": ["a secret"]}}
    chunks.close()

    assert traces.named("invoke_agent agent").attributes["clew.status"] == "left"
    assert traces.measured("clew.run.duration") == {("left", "agent"): 1}


def test_a_run_belongs_to_the_span_around_its_caller(drive: Drive, traces: Traces) -> None:
    tracer = traces.tracer_provider.get_tracer("test")
    graph = graph_of(drive, note)

    async def request() -> None:
        with tracer.start_as_current_span("request") as around:
            if drive.name == "sync":
                graph.invoke({"notes": []})
            else:
                await graph.ainvoke({"notes": []})
            assert trace.get_current_span() is around, "nothing is left behind with the caller"

    asyncio.run(request())

    assert traces.tree()[:2] == ["request", "  invoke_agent agent"]


def test_nothing_is_traced_or_imported_unless_asked() -> None:
    program = """
import sys
from clew.checkpoint.memory import InMemorySaver
from clew.graph import START, StateGraph
import clew.telemetry
graph = StateGraph(dict)
graph.add_node("node", lambda state: {})
graph.add_edge(START, "node")
graph.compile(checkpointer=InMemorySaver()).invoke({"a": 1}, {"configurable": {"thread_id": "t"}})
clew.telemetry.uninstrument()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"


def test_without_opentelemetry_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "clew.telemetry._runs", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(MissingExtraError, match="telemetry needs a package") as raised:
        instrument()

    assert raised.value.hint == "install it with: pip install 'clew[otel]'"


def test_an_update_of_a_thread_is_no_run(drive: Drive, traces: Traces) -> None:
    graph = graph_of(drive, note, saver=InMemorySaver())

    drive.update_state(graph, on(), {"notes": ["a note"]}, as_node="note")

    assert drive.get_state(graph, on()).values == {"notes": ["a note"]}
    assert traces.spans == []
