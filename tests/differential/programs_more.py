"""asyncio twins, draining, savers' own view, sub-agents with memory, time travel below the root."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.runnables import RunnableLambda

from tests.differential.observe import Raised, attempt
from tests.differential.program import differing, program
from tests.differential.programs_basics import Log, chain, say
from tests.differential.programs_interrupts import asking
from tests.differential.programs_state_api import history, short
from tests.differential.programs_subgraphs import around, asking_inside, remembering


@program
def every_async_twin(lib: Any) -> Any:
    async def use() -> Any:
        graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
        config = lib.config()
        output = await graph.ainvoke({"log": ["in"]}, config)
        updated = await graph.aupdate_state(config, {"log": ["up"]}, as_node="a")
        again = await graph.ainvoke(None, config)
        await graph.abulk_update_state(config, [[lib.StateUpdate({"log": ["bulk"]}, "b")]])
        snapshots = [short(one) async for one in graph.aget_state_history(config)]
        batch = await graph.abatch([{"log": ["x"]}, {"log": ["y"]}], [lib.config("8"), lib.config("9")])
        return [output, updated, again, snapshots, batch, short(await graph.aget_state(config))]

    return asyncio.run(use())


@differing(
    "a drain is an error that can be caught, not control flow",
    clew=lambda peer: [peer[0], Raised(frozenset({"GraphDrained"})), *peer[2:]],
)
def drained_run_stops_at_the_next_superstep(lib: Any) -> Any:
    from importlib import import_module

    control = import_module(f"{lib.name}.runtime").RunControl()

    def first(state: Any) -> Any:
        control.request_drain("deploy")
        return {"log": ["first"]}

    builder = lib.StateGraph(Log).add_node("first", first).add_node("second", say("second"))
    graph = builder.add_edge(lib.START, "first").add_edge("first", "second").compile(checkpointer=lib.InMemorySaver())
    stopped = attempt(lambda: graph.invoke({}, lib.config(), control=control))
    return [stopped, graph.get_state(lib.config()).next, graph.invoke(None, lib.config())]


@program
def graph_with_a_bound_config(lib: Any) -> Any:
    def node(state, config):
        return {"log": [config["configurable"].get("user", "nobody"), str(sorted(config.get("tags") or []))]}

    graph = lib.StateGraph(Log).add_node("node", node).add_edge(lib.START, "node").compile(name="named")
    bound = graph.with_config({"configurable": {"user": "u"}, "tags": ["bound"]})
    return [graph.name, graph.get_name(), bound.invoke({}, {"tags": ["call"]}), graph.invoke({})]


@program
def saver_lists_what_graphs_saved(lib: Any) -> Any:
    saver = lib.InMemorySaver()
    graph = chain(lib, "a", "b", checkpointer=saver)
    graph.invoke({"log": ["in"]}, lib.config())
    kept = ("source", "step", "parents")
    return [
        [
            found.config,
            {key: found.metadata[key] for key in kept if key in found.metadata},
            found.parent_config,
            found.checkpoint["channel_values"],
            sorted(found.checkpoint["channel_versions"]),
        ]
        for found in saver.list(lib.config())
    ]


@program
def deleted_thread_is_empty(lib: Any) -> Any:
    saver = lib.InMemorySaver()
    graph = chain(lib, "a", checkpointer=saver)
    graph.invoke({"log": ["in"]}, lib.config("1"))
    graph.invoke({"log": ["in"]}, lib.config("2"))
    saver.delete_thread("1")
    return [graph.get_state(lib.config(thread)).values for thread in ("1", "2")]


@program
def stateful_subgraph_called_twice_keeps_a_history_per_call(lib: Any) -> Any:
    inner = remembering(lib, True)

    def call(state: Any) -> Any:
        first = inner.invoke({"own": ["first"]})["own"]
        return {"log": [*first, "|", *inner.invoke({"own": ["second"]})["own"]]}

    graph = around(lib, call)
    return [graph.invoke({}, lib.config()), graph.invoke({}, lib.config())]


@differing(
    "calls of one stateful subgraph must not overlap", clew=lambda peer: Raised(frozenset({"SubgraphOverlapError"}))
)
def stateful_subgraph_called_twice_at_once(lib: Any) -> Any:
    inner = remembering(lib, True)

    async def call(state: Any) -> Any:
        both = await asyncio.gather(inner.ainvoke({"own": ["first"]}), inner.ainvoke({"own": ["second"]}))
        return {"log": [part for one in both for part in one["own"]]}

    graph = around(lib, call)
    return attempt(lambda: asyncio.run(graph.ainvoke({}, lib.config())))


@program
def replay_rewinds_the_memory_of_a_stateful_subgraph(lib: Any) -> Any:
    inner = remembering(lib, True)
    builder = lib.StateGraph(Log).add_node("before", say("before")).add_node("after", say("after"))
    builder.add_node("call", lambda state: {"log": inner.invoke({"own": ["turn"]})["own"]})
    builder.add_edge(lib.START, "before").add_edge("before", "call").add_edge("call", "after")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    for _ in range(2):
        graph.invoke({}, lib.config())
    past = [one for one in graph.get_state_history(lib.config()) if one.next == ("call",)]
    return [
        [graph.invoke(None, one.config) for one in past],
        graph.invoke({}, lib.config()),
        len(history(graph, lib.config())),
    ]


@program
def replay_of_the_newest_checkpoint_rewinds_the_memory_of_a_stateful_subgraph(lib: Any) -> Any:
    inner = remembering(lib, True)
    builder = lib.StateGraph(Log).add_node("call", lambda state: {"log": inner.invoke({"own": ["turn"]})["own"]})
    builder.add_node("ask", lambda state: {"log": [lib.interrupt("?")]})
    builder.add_edge(lib.START, "call").add_edge(lib.START, "ask")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    graph.invoke({}, lib.config())
    again = graph.invoke(None, graph.get_state(lib.config()).config)
    return [again, graph.invoke(lib.Command(resume="x"), lib.config())]


@program
def interrupts_stream_in_v2_parts(lib: Any) -> Any:
    graph = asking(lib, "name?")
    parts = list(graph.stream({"answers": ["in"]}, lib.config(), stream_mode=["values", "updates"], version="v2"))
    return [parts, list(graph.stream(lib.Command(resume="Ann"), lib.config(), stream_mode="values", version="v2"))]


@program
def resume_and_goto_together(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("ask", lambda state: {"log": [lib.interrupt("?")]})
    builder.add_node("other", say("other")).add_edge(lib.START, "ask")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    graph.invoke({}, lib.config())
    return [graph.invoke(lib.Command(resume="x", goto="other"), lib.config()), history(graph, lib.config())]


@program
def fork_from_inside_a_subgraph(lib: Any) -> Any:
    graph = around(lib, asking_inside(lib))
    graph.invoke({"log": ["in"]}, lib.config())
    inner = graph.get_state(lib.config(), subgraphs=True).tasks[0].state
    fork = graph.update_state(inner.config, {"log": ["edited inside"]})
    return [graph.get_state(fork).values, graph.invoke(lib.Command(resume="yes"), lib.config())]


@program
def replay_runs_a_subgraph_again(lib: Any) -> Any:
    inner = lib.StateGraph(Log).add_node("one", say("one")).add_node("two", say("two"))
    inner.add_edge(lib.START, "one").add_edge("one", "two")
    graph = around(lib, inner.compile())
    graph.invoke({"log": ["in"]}, lib.config())
    past = next(one for one in graph.get_state_history(lib.config()) if one.next == ("inner",))
    return [graph.invoke(None, past.config), len(history(graph, lib.config()))]


@program
def history_after_exit_durability(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config(), durability="exit")
    newest = short(graph.get_state(lib.config()))
    return [newest["values"], newest["next"], newest["step"], newest["source"]]


@program
def runnables_as_nodes_and_paths(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", RunnableLambda(lambda state: {"log": ["a"]})).add_node("b", RunnableLambda(say("b")))
    builder.add_edge(lib.START, "a").add_conditional_edges("a", RunnableLambda(lambda state: "b", name="path"), ["b"])
    graph = builder.compile()
    piped = RunnableLambda(lambda text: {"log": [text]}) | graph | (lambda state: state["log"])
    return [graph.invoke({}), piped.invoke("in"), asyncio.run(piped.ainvoke("in"))]


@program
def get_config_and_store_inside_a_node(lib: Any) -> Any:
    def node(state: Any) -> Any:
        lib.get_store().put(("a",), "k", {"v": 1})
        lib.get_stream_writer()("hi")
        info = lib.get_runtime().execution_info
        return {"log": [lib.get_config()["metadata"]["langgraph_node"], info.thread_id, info.checkpoint_ns]}

    builder = lib.StateGraph(Log).add_node("node", node).add_edge(lib.START, "node")
    graph = builder.compile(store=lib.InMemoryStore(), checkpointer=lib.InMemorySaver())
    return list(graph.stream({}, lib.config(), stream_mode=["custom", "updates"]))


def scrubbed(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key != "ls_integration"}


@program
def callbacks_see_graph_and_nodes(lib: Any) -> Any:
    from langchain_core.callbacks import BaseCallbackHandler

    events: list[Any] = []

    class Log_(BaseCallbackHandler):  # noqa: N801
        def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
            name = "graph" if more["parent_run_id"] is None else more["name"]
            events.append(["start", name, sorted(more["tags"]), scrubbed(more["metadata"])])

        def on_chain_end(self, outputs: Any, **more: Any) -> None:
            events.append(["end", sorted(more["tags"])])

        def on_chain_error(self, error: Any, **more: Any) -> None:
            events.append(["error", type(error).__name__])

    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    config = {**lib.config(), "callbacks": [Log_()], "tags": ["t"], "metadata": {"m": 1}, "run_name": "named"}
    graph.invoke({"log": ["in"]}, config)
    asking(lib, "?").invoke({}, {**lib.config(), "callbacks": [Log_()]})
    return events


@program
def events_of_a_graph(lib: Any) -> Any:
    async def collect() -> Any:
        graph = chain(lib, "a", "b")
        return [
            [event["event"], event["name"] if event["parent_ids"] else "graph", event["data"].get("chunk")]
            async for event in graph.astream_events({"log": ["in"]}, version="v2")
        ]

    return asyncio.run(collect())
