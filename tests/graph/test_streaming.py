"""What a stream shows, when, and what closing it does."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.errors import GraphInterrupt
from clew.graph import START, StateGraph
from clew.types import Send, StreamWriter, interrupt
from tests.both import Drive, on

SECONDS = 20
MODES = ["values", "updates", "custom", "checkpoints", "tasks", "debug"]


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def chain(saver: Any = None, drive: Drive | None = None) -> Any:
    def first(state: Log, writer: StreamWriter) -> Any:
        writer("custom from first")
        return {"log": ["first"]}

    def second(state: Log) -> Any:
        return {"log": ["second"]}

    nodes = [("first", first), ("second", second)]
    if drive is not None:
        nodes = [(name, drive.node(node)) for name, node in nodes]
    return StateGraph(Log).add_sequence(nodes).add_edge(START, "first").compile(checkpointer=saver)


def nested(saver: Any = None, drive: Drive | None = None) -> Any:
    return StateGraph(Log).add_node("sub", chain(drive=drive)).add_edge(START, "sub").compile(checkpointer=saver)


# -- one mode --------------------------------------------------------------------------------------------------------


def test_values_are_the_whole_state_after_each_superstep(drive: Drive) -> None:
    chunks = list(drive.stream(chain(drive=drive), {"log": ["in"]}, stream_mode="values"))

    assert [chunk["log"] for chunk in chunks] == [["in"], ["in", "first"], ["in", "first", "second"]]


def test_updates_are_what_each_node_returned(drive: Drive) -> None:
    chunks = list(drive.stream(chain(drive=drive), {"log": ["in"]}, stream_mode="updates"))

    assert chunks == [{"first": {"log": ["first"]}}, {"second": {"log": ["second"]}}]


def test_updates_is_the_mode_if_none_is_named(drive: Drive) -> None:
    assert list(drive.stream(chain(), {"log": []})) == list(drive.stream(chain(), {"log": []}, stream_mode="updates"))


def test_custom_is_what_nodes_write(drive: Drive) -> None:
    assert list(drive.stream(chain(drive=drive), {"log": []}, stream_mode="custom")) == ["custom from first"]


def test_tasks_have_a_start_and_a_result(drive: Drive) -> None:
    chunks = list(drive.stream(chain(), {"log": ["in"]}, stream_mode="tasks"))

    assert [(chunk["name"], "result" in chunk) for chunk in chunks] == [
        ("first", False),
        ("first", True),
        ("second", False),
        ("second", True),
    ]
    assert chunks[0]["input"] == {"log": ["in"]}
    assert chunks[0]["triggers"] == ("branch:to:first",)
    assert chunks[1]["result"] == {"log": ["first"]}
    assert chunks[0]["id"] == chunks[1]["id"]
    assert (chunks[1]["error"], chunks[1]["interrupts"]) == (None, [])


def test_checkpoints_are_shaped_like_states(drive: Drive, saver: Any) -> None:
    graph = chain(saver)
    chunks = list(drive.stream(graph, {"log": ["in"]}, on(), stream_mode="checkpoints"))
    history = drive.get_state_history(graph, on())

    assert [chunk["values"] for chunk in chunks] == [snapshot.values for snapshot in reversed(history)]
    assert [tuple(chunk["next"]) for chunk in chunks] == [snapshot.next for snapshot in reversed(history)]
    assert [chunk["config"] for chunk in chunks] == [snapshot.config for snapshot in reversed(history)]


def test_debug_wraps_checkpoints_and_tasks(drive: Drive, saver: Any) -> None:
    chunks = list(drive.stream(chain(saver), {"log": []}, on(), stream_mode="debug"))

    assert {chunk["type"] for chunk in chunks} == {"checkpoint", "task", "task_result"}
    assert all(set(chunk) == {"step", "timestamp", "type", "payload"} for chunk in chunks)
    assert [chunk["payload"]["name"] for chunk in chunks if chunk["type"] == "task"] == ["first", "second"]


def test_failed_task_shows_its_error(drive: Drive) -> None:
    def fail(state: Log) -> Any:
        raise ValueError("broken")

    graph = StateGraph(Log).add_node(fail).add_edge(START, "fail").compile()
    chunks = []
    with pytest.raises(ValueError, match="broken"):
        chunks.extend(drive.stream(graph, {"log": []}, stream_mode="tasks"))

    assert chunks == [] or "broken" in str(chunks[-1]["error"])


# -- several modes, subgraphs, v2 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_several_modes_give_what_each_gives_alone(drive: Drive, mode: str) -> None:
    def stable(chunk: Any) -> Any:
        if mode in ("checkpoints", "debug"):
            payload = chunk["payload"] if mode == "debug" else chunk
            return payload.get("name"), payload.get("values"), payload.get("next")
        return {key: value for key, value in chunk.items() if key != "id"} if mode == "tasks" else chunk

    together = list(drive.stream(chain(InMemorySaver()), {"log": ["in"]}, on(), stream_mode=MODES))
    alone = list(drive.stream(chain(InMemorySaver()), {"log": ["in"]}, on(), stream_mode=mode))

    assert [stable(data) for name, data in together if name == mode] == [stable(data) for data in alone]


def test_subgraphs_are_shown_with_their_namespace(drive: Drive) -> None:
    chunks = list(drive.stream(nested(drive=drive), {"log": []}, stream_mode="updates", subgraphs=True))

    assert [(len(ns), list(data)) for ns, data in chunks] == [(1, ["first"]), (1, ["second"]), (0, ["sub"])]
    assert chunks[0][0][0].startswith("sub:")
    assert list(drive.stream(nested(), {"log": []}, stream_mode="updates")) == [{"sub": {"log": ["first", "second"]}}]


def test_subgraphs_and_several_modes_give_triples(drive: Drive) -> None:
    chunks = list(drive.stream(nested(drive=drive), {"log": []}, stream_mode=["updates", "custom"], subgraphs=True))

    assert [(len(ns), mode) for ns, mode, _ in chunks] == [
        (1, "custom"),
        (1, "updates"),
        (1, "updates"),
        (0, "updates"),
    ]


def test_called_subgraphs_are_shown_too(drive: Drive) -> None:
    inner = chain()

    def call(state: Log) -> Any:
        return {"log": inner.invoke({"log": []})["log"]}

    graph = StateGraph(Log).add_node(call).add_edge(START, "call").compile()
    chunks = list(drive.stream(graph, {"log": []}, stream_mode="updates", subgraphs=True))

    assert [(len(ns), list(data)) for ns, data in chunks] == [(1, ["first"]), (1, ["second"]), (0, ["call"])]


def test_v2_chunks_are_dicts(drive: Drive, saver: Any) -> None:
    chunks = list(
        drive.stream(nested(saver), {"log": []}, on(), stream_mode=["values", "custom"], subgraphs=True, version="v2")
    )

    assert all({"type", "ns", "data"} <= set(chunk) for chunk in chunks)
    assert [chunk["data"] for chunk in chunks if chunk["type"] == "custom"] == ["custom from first"]
    assert [chunk["interrupts"] for chunk in chunks if chunk["type"] == "values" and not chunk["ns"]] == [(), ()]


def test_unknown_mode_is_refused_with_the_known_ones(drive: Drive) -> None:
    with pytest.raises(ValueError, match="unknown stream mode 'vlaues'; the modes are checkpoints, custom"):
        list(drive.stream(chain(), {"log": []}, stream_mode="vlaues"))


def test_output_keys_choose_what_is_shown(drive: Drive) -> None:
    class Two(TypedDict):
        a: str
        b: str

    graph = StateGraph(Two).add_node("node", lambda state: {"a": "A", "b": "B"}).add_edge(START, "node").compile()

    assert drive.invoke(graph, {}, output_keys=["b"]) == {"b": "B"}
    assert list(drive.stream(graph, {}, stream_mode="updates", output_keys=["a"])) == [{"node": {"a": "A"}}]


def test_invoke_with_another_mode_gives_its_chunks(drive: Drive) -> None:
    assert drive.invoke(chain(), {"log": []}, stream_mode="updates") == [
        {"first": {"log": ["first"]}},
        {"second": {"log": ["second"]}},
    ]


def test_printing_shows_what_is_not_streamed(drive: Drive, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = list(drive.stream(chain(), {"log": []}, stream_mode="values", print_mode="updates"))

    assert len(chunks) == 3
    assert capsys.readouterr().out.count("updates") == 2
    assert drive.invoke(chain(), {"log": ["in"]}, print_mode=["updates", "custom"])["log"] == ["in", "first", "second"]
    assert "('custom', 'custom from first')" in capsys.readouterr().out


# -- live ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_nested", [False, True])
def test_custom_events_arrive_while_the_node_runs(drive: Drive, is_nested: bool) -> None:
    was_seen = threading.Event()

    def node(state: Log, writer: StreamWriter) -> Any:
        writer("half way")
        assert was_seen.wait(SECONDS)
        return {"log": ["done"]}

    graph = StateGraph(Log).add_node(node).add_edge(START, "node").compile()
    if is_nested:
        graph = StateGraph(Log).add_node("sub", graph).add_edge(START, "sub").compile()
    stream = drive.stream(graph, {"log": []}, stream_mode=["custom", "values"], subgraphs=is_nested)
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        if "half way" in chunk:
            was_seen.set()

    assert any("half way" in chunk for chunk in chunks)
    assert chunks[-1][-1] == {"log": ["done"]}


def test_custom_events_of_an_async_node_arrive_while_it_runs() -> None:
    async def main() -> list[Any]:
        was_seen = asyncio.Event()

        async def node(state: Log, writer: StreamWriter) -> Any:
            writer("half way")
            await asyncio.wait_for(was_seen.wait(), SECONDS)
            return {"log": ["done"]}

        graph = StateGraph(Log).add_node(node).add_edge(START, "node").compile()
        chunks = []
        async for chunk in graph.astream({"log": []}, stream_mode=["custom", "updates"]):
            chunks.append(chunk)
            was_seen.set()
        return chunks

    assert asyncio.run(main()) == [("custom", "half way"), ("updates", {"node": {"log": ["done"]}})]


def test_updates_of_quick_tasks_arrive_while_slow_ones_run(drive: Drive) -> None:
    was_seen = threading.Event()

    def work(state: Any) -> Any:
        if state["item"] == "slow":
            assert was_seen.wait(SECONDS)
        return {"log": [state["item"]]}

    builder = StateGraph(Log).add_node(work)
    builder.add_conditional_edges(
        START, lambda state: [Send("work", {"item": item}) for item in ("slow", "quick")], ["work"]
    )
    seen = []
    for chunk in drive.stream(builder.compile(), {"log": []}, stream_mode="updates"):
        seen.append(chunk["work"]["log"][0])
        was_seen.set()

    assert seen == ["quick", "slow"]


# -- closing ---------------------------------------------------------------------------------------------------------


def test_closing_a_stream_stops_the_run_and_the_thread_goes_on(drive: Drive, saver: Any) -> None:
    ran: list[str] = []

    def node(name: str) -> Any:
        def run(state: Log) -> Any:
            ran.append(name)
            return {"log": [name]}

        return drive.node(run)

    builder = StateGraph(Log).add_sequence([(name, node(name)) for name in ("a", "b", "c")])
    graph = builder.add_edge(START, "a").compile(checkpointer=saver)
    stream = drive.stream(graph, {"log": []}, on(), stream_mode="updates", durability="sync")

    assert next(stream) == {"a": {"log": ["a"]}}
    stream.close()

    assert "c" not in ran
    state = drive.invoke(graph, None, on())
    assert state["log"] == ["a", "b", "c"]
    assert ran.count("a") == 1


def test_closing_a_stream_cancels_the_node_that_runs(saver: Any) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        has_started = asyncio.Event()

        async def node(state: Log, writer: StreamWriter) -> Any:
            writer("started")
            has_started.set()
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")

        graph = StateGraph(Log).add_node(node).add_edge(START, "node").compile(checkpointer=saver)
        stream = graph.astream({"log": []}, on(), stream_mode="custom")
        assert await anext(stream) == "started"
        await stream.aclose()
        assert (await graph.aget_state(on())).next == ("node",)
        return seen

    assert asyncio.run(main()) == ["cancelled"]


def test_cancelling_a_run_cancels_its_node_and_leaves_the_thread_resumable(saver: Any) -> None:
    async def main() -> Any:
        has_started = asyncio.Event()
        blocks = [True]

        async def node(state: Log) -> Any:
            if blocks.pop():
                blocks.append(False)
                has_started.set()
                await asyncio.Event().wait()
            return {"log": ["done"]}

        graph = StateGraph(Log).add_node(node).add_edge(START, "node").compile(checkpointer=saver)
        run = asyncio.create_task(graph.ainvoke({"log": []}, on()))
        await has_started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return await graph.ainvoke(None, on())

    assert asyncio.run(main()) == {"log": ["done"]}


# -- batches ---------------------------------------------------------------------------------------------------------


def test_batch_gives_outputs_in_order(drive: Drive, saver: Any) -> None:
    graph = chain(saver)
    configs = [on(str(index)) for index in range(6)]

    outputs = drive.batch(graph, [{"log": [str(index)]} for index in range(6)], configs)

    assert [output["log"] for output in outputs] == [[str(index), "first", "second"] for index in range(6)]
    assert drive.get_state(graph, on("3")).values["log"][0] == "3"


def test_batch_may_collect_errors_and_questions(drive: Drive) -> None:
    def node(state: Log) -> Any:
        match state["log"][0]:
            case "fail":
                raise ValueError("broken")
            case "ask":
                return {"log": [interrupt("?")]}
        return {"log": ["fine"]}

    graph = StateGraph(Log).add_node(node).add_edge(START, "node").compile(checkpointer=InMemorySaver())
    inputs = [{"log": [word]} for word in ("fail", "ask", "work")]
    configs = [on(str(index)) for index in range(3)]

    outputs = drive.batch(graph, inputs, configs, return_exceptions=True)

    assert isinstance(outputs[0], ValueError)
    assert isinstance(outputs[1], GraphInterrupt) or "__interrupt__" in outputs[1]
    assert outputs[2] == {"log": ["work", "fine"]}
    with pytest.raises(ValueError, match="broken"):
        drive.batch(graph, inputs[:1], configs[:1])


def test_batch_runs_no_more_at_once_than_allowed(drive: Drive) -> None:
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def node(state: Log) -> Any:
        with lock:
            running.append(1)
            most.append(len(running))
        with lock:
            running.pop()
        return {}

    graph = StateGraph(Log).add_node(node).add_edge(START, "node").compile()
    drive.batch(graph, [{"log": []}] * 8, {"max_concurrency": 1})

    assert max(most) == 1


def test_batch_wants_one_config_per_input(drive: Drive) -> None:
    with pytest.raises(ValueError, match="1 configs were given for 2 inputs"):
        drive.batch(chain(), [{"log": []}] * 2, [on()])
    assert drive.batch(chain(), []) == []
